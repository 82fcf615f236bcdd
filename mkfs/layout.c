/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where everything goes, from the size of the device and what was asked for:
 *
 *   fixed places | request board | journals | group 0 | group 1 | ... | superblock copy
 *
 * Journals and groups begin on whole MiB, or on what the device's topology asks for. Ends by
 * encoding and decoding the superblock, so that whatever mkfs lays out is what every other program
 * accepts.
 */
#include "mkfs.h"

#include "base/crc.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define MIN_JOURNAL_BYTES MIB
#define MAX_AUTO_JOURNAL_BYTES (64 * MIB)
#define MAX_JOURNAL_BYTES GIB
#define MIN_GROUP_BYTES (8 * MIB)
#define MAX_GROUP_BYTES GIB
#define MIN_LAST_GROUP_BLKS 512u /* a shorter rest at the end is left unused */
#define DEFAULT_SLOTS 64u
#define MIN_SLOTS 8u
#define MAX_BYTES (1ull << 63)
#define MAX_ALIGN_BYTES (16 * MIB)

static uint64_t round_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) / to * to;
}

static uint64_t power_below(uint64_t x) /* the largest power of two <= x; x >= 1 */
{
	return 1ull << (63 - __builtin_clzll(x));
}

static uint64_t clamp(uint64_t x, uint64_t lo, uint64_t hi)
{
	return x < lo ? lo : x > hi ? hi : x;
}

static void choose_cells(struct geo *g, uint32_t sector_bytes, uint32_t phys_bytes)
{
	bool big = sector_bytes == 4096 || phys_bytes >= 4096;

	g->sector_bytes = sector_bytes;
	g->cell_blks = big ? 2 : 1;
	g->payload_off = big ? 4096 : 512;
	g->payload_io_bytes = sector_bytes == 4096 ? 4096 : LUNFS_PAYLOAD_BYTES;
}

static void choose_hosts(struct geo *g, const struct mkfs_options *o, uint64_t size_bytes)
{
	uint32_t most = size_bytes >= GIB ? DEFAULT_SLOTS : MIN_SLOTS;

	g->journals = o->hosts;
	if (!o->hosts)
		g->journals = size_bytes >= 16 * GIB ? 16 : size_bytes >= GIB ? 8 : 4;
	g->slots = g->journals > most ? g->journals : most;
	g->board_row_bytes =
	    round_up((uint64_t)geo_all_slots(g) * g->sector_bytes, LUNFS_BLOCK_BYTES);
}

static int choose_journals(struct geo *g, const struct mkfs_options *o, uint64_t size_bytes,
			   char *why, size_t why_len)
{
	uint64_t bytes = o->journal_bytes;

	if (!bytes)
		bytes = clamp(power_below(size_bytes / 64 / g->journals), MIN_JOURNAL_BYTES,
			      MAX_AUTO_JOURNAL_BYTES);
	if (bytes < MIN_JOURNAL_BYTES || bytes > MAX_JOURNAL_BYTES || bytes % LUNFS_BLOCK_BYTES) {
		snprintf(why, why_len,
			 "A journal of %llu bytes cannot be used; choose a multiple of 4 KiB from "
			 "1M to 1G.",
			 (unsigned long long)bytes);
		return -EINVAL;
	}
	g->journal_blks = (uint32_t)(bytes / LUNFS_BLOCK_BYTES);
	return 0;
}

static void place_journals(struct geo *g, uint64_t align_bytes)
{
	uint64_t at =
	    round_up(LUNFS_BOARD_OFF + geo_all_slots(g) * g->board_row_bytes, align_bytes);

	for (uint32_t i = 0; i < g->journals; i++) {
		g->journal_blk[i] = at / LUNFS_BLOCK_BYTES;
		at += (uint64_t)g->journal_blks * LUNFS_BLOCK_BYTES;
	}
	g->group0_blk = round_up(at, align_bytes) / LUNFS_BLOCK_BYTES;
}

static int place_groups(struct geo *g, uint64_t size_bytes, char *why, size_t why_len)
{
	uint64_t group_bytes = size_bytes >= 16 * GIB ? MAX_GROUP_BYTES
						      : clamp(power_below(size_bytes / 16),
							      MIN_GROUP_BYTES, MAX_GROUP_BYTES);
	uint64_t n, rest;

	g->group_blks = (uint32_t)(group_bytes / LUNFS_BLOCK_BYTES);
	g->bitmap_cells = (g->group_blks + LUNFS_BITMAP_BITS - 1) / LUNFS_BITMAP_BITS;
	g->end_blk = sb_tail_off(size_bytes) / LUNFS_BLOCK_BYTES;
	n = g->end_blk > g->group0_blk ? g->end_blk - g->group0_blk : 0;
	rest = n % g->group_blks;
	if (rest < MIN_LAST_GROUP_BLKS || rest < 2 * geo_group_meta_blks(g))
		g->end_blk -= n ? rest : 0;
	else
		n += g->group_blks;
	g->groups = n / g->group_blks;
	if (g->groups < 2) {
		snprintf(
		    why, why_len,
		    "It is too small for %u journals of %llu KiB: use fewer --hosts or a smaller "
		    "--journal-size.",
		    g->journals, (unsigned long long)g->journal_blks * 4);
		return -ENOSPC;
	}
	return 0;
}

/* A multiple of a MiB and of @io_bytes, if that is a size which makes sense and not too large. */
static uint64_t common_align(uint64_t io_bytes, uint64_t size_bytes)
{
	uint64_t a = MIB, b = io_bytes, lcm;

	if (!io_bytes || io_bytes % LUNFS_BLOCK_BYTES || io_bytes > MAX_ALIGN_BYTES)
		return 0;
	while (b) { /* Euclid */
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	lcm = MIB / a * io_bytes;
	return lcm <= MAX_ALIGN_BYTES && lcm <= size_bytes / 256 ? lcm : 0;
}

uint64_t layout_align(uint64_t size_bytes, uint32_t min_io_bytes, uint32_t opt_io_bytes)
{
	uint64_t align = common_align(opt_io_bytes, size_bytes);

	if (!align)
		align = common_align(min_io_bytes, size_bytes);
	return align ? align : MIB;
}

unsigned layout_chunk_first_cell(const struct geo *g)
{
	return geo_group_meta_blks(g) / g->cell_blks;
}

uint64_t layout_chunk_header(const struct geo *g)
{
	return geo_group_blk(g, 0) + geo_group_meta_blks(g);
}

static void place_inodes(struct geo *g)
{
	uint64_t cell = layout_chunk_header(g) + g->cell_blks;

	g->root_ino = cell;
	for (uint32_t i = 0; i < g->journals; i++)
		g->orphan_ino[i] = cell + (1 + (uint64_t)i) * g->cell_blks;
}

/* The proof: everybody else will accept it. */
static void check_by_decoding(const struct geo *g)
{
	struct geo trial = *g, back;
	uint8_t sb[sizeof(struct lunfs_sb)];

	memset(trial.vol_id, 1, sizeof(trial.vol_id));
	sb_encode(&trial, sb);
	lunfs_assert(sb_decode(sb, &back, NULL) == 0);
	lunfs_assert(layout_chunk_first_cell(g) + 2 + g->journals <= LUNFS_CHUNK_CELLS);
}

int layout_make(const struct mkfs_options *o, uint64_t size_bytes, uint32_t sector_bytes,
		uint32_t phys_bytes, struct geo *g, char *why, size_t why_len)
{
	struct geo n = {.sb_seq = 1,
			.beat_ms = o->beat_ms,
			.deadline_ms = o->deadline_ms,
			.lease_ms = o->lease_ms};
	int err;

	if (size_bytes < LUNFS_MIN_BYTES) {
		snprintf(why, why_len,
			 "It is too small: %llu KiB, and a lunfs volume needs 64 MiB.",
			 (unsigned long long)(size_bytes >> 10));
		return -ENOSPC;
	}
	if (size_bytes > MAX_BYTES) {
		snprintf(why, why_len, "It is too large: a lunfs volume ends at 8 EiB.");
		return -EFBIG;
	}
	n.dev_blks = size_bytes / LUNFS_BLOCK_BYTES;
	choose_cells(&n, sector_bytes, phys_bytes);
	choose_hosts(&n, o, size_bytes);
	err = choose_journals(&n, o, size_bytes, why, why_len);
	if (err)
		return err;
	place_journals(&n, o->align_bytes ? o->align_bytes : MIB);
	err = place_groups(&n, size_bytes, why, why_len);
	if (err)
		return err;
	place_inodes(&n);
	check_by_decoding(&n);
	*g = n;
	return 0;
}

int topology_check(const struct mkfs_topology *t, char *why, size_t why_len)
{
	if (!t->misaligned_bytes || t->physical_bytes <= t->logical_bytes)
		return 0;
	snprintf(why, why_len,
		 "It does not begin on a whole physical block of %u bytes, so that a torn write of "
		 "a lock could damage what it guards: align the partition or mapping, or use -F.",
		 t->physical_bytes);
	return -EINVAL;
}
