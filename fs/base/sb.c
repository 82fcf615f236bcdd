/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The superblock between disk and core. Decoding is the gate through which all geometry comes: what
 * passes can be computed with without overflow, and no two areas of the volume overlap.
 */
#include "base/crc.h"
#include "base/geo.h"

#include <errno.h>
#include <string.h>

#define MAX_DEV_BLKS (1ull << 51) /* byte offsets stay below 2^63 */
#define MIN_GROUP_BLKS 2048u
#define GROUP0_ALIGN_BLKS 256u
#define MIN_JOURNAL_BLKS 256u
#define MAX_JOURNAL_BLKS (1u << 18)
#define MAX_BOARD_ROW_BYTES (1ull << 20)
#define MAX_LEASE_MS (60u * 60 * 1000)

static bool power_of_two(uint64_t x)
{
	return x && (x & (x - 1)) == 0;
}

/* Zero padded: nothing but NULs follow the first NUL. */
static bool padded(const uint8_t *s, size_t size)
{
	size_t n = strnlen((const char *)s, size);

	return mem_is_zero(s + n, size - n);
}

static void fill(const struct lunfs_sb *sb, struct geo *g)
{
	memset(g, 0, sizeof(*g));
	memcpy(g->vol_id, sb->vol_id, sizeof(g->vol_id));
	memcpy(g->uuid, sb->uuid, sizeof(g->uuid));
	memcpy(g->label, sb->label, LUNFS_LABEL_BYTES);
	memcpy(g->hash_key, sb->hash_key, sizeof(g->hash_key));
	memcpy(g->dev_id, sb->dev_id, sizeof(g->dev_id));
	g->compat = le64_get(sb->compat);
	g->ro_compat = le64_get(sb->ro_compat);
	g->incompat = le64_get(sb->incompat);
	g->sb_seq = le64_get(sb->sb_seq);
	g->dev_blks = le64_get(sb->dev_blks);
	g->end_blk = le64_get(sb->end_blk);
	g->sector_bytes = le32_get(sb->sector_bytes);
	g->cell_blks = le32_get(sb->cell_blks);
	g->payload_off = le32_get(sb->payload_off);
	g->payload_io_bytes = g->sector_bytes == 4096 ? 4096 : LUNFS_PAYLOAD_BYTES;
	g->slots = le16_get(sb->slots);
	g->journals = le16_get(sb->journals);
	g->board_row_bytes = le64_get(sb->board_row_bytes);
	g->journal_blks = le32_get(sb->journal_blks);
	g->group_blks = le32_get(sb->group_blks);
	g->group0_blk = le64_get(sb->group0_blk);
	g->groups = le64_get(sb->groups);
	g->bitmap_cells = le32_get(sb->bitmap_cells);
	g->root_ino = le64_get(sb->root_ino);
	g->beat_ms = le32_get(sb->beat_ms);
	g->deadline_ms = le32_get(sb->deadline_ms);
	g->lease_ms = le32_get(sb->lease_ms);
	g->mkfs_time_s = le64_get(sb->mkfs_time_s);
	for (unsigned i = 0; i < LUNFS_MAX_SLOTS; i++) {
		g->journal_blk[i] = le64_get(sb->journal_blk[i]);
		g->orphan_ino[i] = le64_get(sb->orphan_ino[i]);
	}
}

static bool cells_ok(const struct geo *g)
{
	if (g->sector_bytes != 512 && g->sector_bytes != 4096)
		return false;
	if (g->cell_blks == 1)
		return g->payload_off == 512 && g->sector_bytes == 512;
	return g->cell_blks == 2 && g->payload_off == 4096;
}

static uint64_t board_end_blk(const struct geo *g)
{
	uint64_t end = LUNFS_BOARD_OFF + geo_all_slots(g) * g->board_row_bytes;

	return (end + LUNFS_BLOCK_BYTES - 1) / LUNFS_BLOCK_BYTES;
}

static bool table_ok(const struct geo *g)
{
	if (g->slots < 1 || g->slots > LUNFS_MAX_SLOTS)
		return false;
	if (g->journals < 1 || g->journals > g->slots)
		return false;
	return g->board_row_bytes % LUNFS_BLOCK_BYTES == 0 &&
	       g->board_row_bytes >= (uint64_t)geo_all_slots(g) * g->sector_bytes &&
	       g->board_row_bytes <= MAX_BOARD_ROW_BYTES;
}

static bool timing_ok(const struct geo *g)
{
	return g->beat_ms >= 1 && g->deadline_ms >= 1 && g->lease_ms <= MAX_LEASE_MS &&
	       (uint64_t)g->beat_ms + g->deadline_ms < g->lease_ms;
}

static bool groups_ok(const struct geo *g)
{
	uint64_t n_blks;

	if (g->dev_blks > MAX_DEV_BLKS || g->dev_blks < LUNFS_MIN_BYTES / LUNFS_BLOCK_BYTES)
		return false;
	if (!power_of_two(g->group_blks) || g->group_blks < MIN_GROUP_BLKS ||
	    g->group_blks > LUNFS_GROUP_WINDOWS * LUNFS_CHUNK_CELLS * g->cell_blks)
		return false;
	if (g->bitmap_cells != (g->group_blks + LUNFS_BITMAP_BITS - 1) / LUNFS_BITMAP_BITS)
		return false;
	if (g->end_blk > sb_tail_off(g->dev_blks * LUNFS_BLOCK_BYTES) / LUNFS_BLOCK_BYTES)
		return false;
	if (g->group0_blk % GROUP0_ALIGN_BLKS != 0 || g->group0_blk < board_end_blk(g) ||
	    g->group0_blk >= g->end_blk)
		return false;
	n_blks = g->end_blk - g->group0_blk;
	if (g->groups != (n_blks + g->group_blks - 1) / g->group_blks)
		return false;
	return geo_group_len(g, g->groups - 1) > geo_group_meta_blks(g);
}

/* A journal lies before the groups or in the allocatable part of one group. */
static bool journal_ok(const struct geo *g, unsigned slot)
{
	uint64_t blk = g->journal_blk[slot];

	if (blk < board_end_blk(g))
		return false;
	if (blk < g->group0_blk)
		return g->journal_blks <= g->group0_blk - blk;
	return blk_range_ok(g, blk, g->journal_blks);
}

static bool overlaps_earlier(const struct geo *g, unsigned slot)
{
	for (unsigned i = 0; i < slot; i++) {
		uint64_t a = g->journal_blk[i], b = g->journal_blk[slot];

		if (a && (a < b ? b - a : a - b) < g->journal_blks)
			return true;
		if (a && g->orphan_ino[i] == g->orphan_ino[slot])
			return true;
	}
	return false;
}

static bool inode_place_ok(const struct geo *g, uint64_t ino)
{
	return cell_addr_ok(g, ino) && blk_range_ok(g, ino, g->cell_blks);
}

static bool journals_ok(const struct geo *g)
{
	unsigned n = 0;

	if (g->journal_blks < MIN_JOURNAL_BLKS || g->journal_blks > MAX_JOURNAL_BLKS)
		return false;
	for (unsigned i = 0; i < LUNFS_MAX_SLOTS; i++) {
		if (g->journal_blk[i] == 0) {
			if (g->orphan_ino[i] != 0)
				return false;
			continue;
		}
		if (i >= g->slots || !journal_ok(g, i) || overlaps_earlier(g, i))
			return false;
		if (!inode_place_ok(g, g->orphan_ino[i]) || g->orphan_ino[i] == g->root_ino)
			return false;
		n++;
	}
	return n == g->journals && inode_place_ok(g, g->root_ino);
}

/* A compatible feature that this version does not know may use bytes reserved here. */
static bool reserved_ok(const struct lunfs_sb *sb, const struct geo *g)
{
	if (g->compat || (g->ro_compat & ~LUNFS_RO_COMPAT_KNOWN))
		return true;
	return mem_is_zero(sb->reserved, sizeof(sb->reserved));
}

int sb_decode(const void *sb4096, struct geo *out, uint64_t *unknown_incompat)
{
	const struct lunfs_sb *sb = sb4096;
	struct geo g;

	if (memcmp(sb->magic, LUNFS_SB_MAGIC, sizeof(sb->magic)) != 0)
		return -EINVAL;
	if (!crc_ok(sb, sizeof(*sb), offsetof(struct lunfs_sb, crc)))
		return -EUCLEAN;
	fill(sb, &g);
	if (le32_get(sb->format_version) == 0)
		return -EUCLEAN;
	if (le32_get(sb->format_version) > LUNFS_FORMAT_VERSION ||
	    (g.incompat & ~LUNFS_INCOMPAT_KNOWN)) {
		if (unknown_incompat)
			*unknown_incompat = g.incompat & ~LUNFS_INCOMPAT_KNOWN;
		return -EPROTONOSUPPORT;
	}
	if (!reserved_ok(sb, &g) || !padded(sb->label, sizeof(sb->label)))
		return -EUCLEAN;
	if (g.sb_seq == 0 || mem_is_zero(g.vol_id, sizeof(g.vol_id)))
		return -EUCLEAN;
	if (!cells_ok(&g) || !table_ok(&g) || !timing_ok(&g) || !groups_ok(&g) || !journals_ok(&g))
		return -EUCLEAN;
	*out = g;
	return 0;
}

void sb_encode(const struct geo *g, void *sb4096)
{
	struct lunfs_sb *sb = sb4096;

	memset(sb, 0, sizeof(*sb));
	memcpy(sb->magic, LUNFS_SB_MAGIC, sizeof(sb->magic));
	sb->format_version = le32_make(LUNFS_FORMAT_VERSION);
	memcpy(sb->vol_id, g->vol_id, sizeof(sb->vol_id));
	memcpy(sb->uuid, g->uuid, sizeof(sb->uuid));
	memcpy(sb->label, g->label, strnlen(g->label, LUNFS_LABEL_BYTES));
	memcpy(sb->hash_key, g->hash_key, sizeof(sb->hash_key));
	memcpy(sb->dev_id, g->dev_id, sizeof(sb->dev_id));
	sb->compat = le64_make(g->compat);
	sb->ro_compat = le64_make(g->ro_compat);
	sb->incompat = le64_make(g->incompat);
	sb->sb_seq = le64_make(g->sb_seq);
	sb->dev_blks = le64_make(g->dev_blks);
	sb->sector_bytes = le32_make(g->sector_bytes);
	sb->cell_blks = le32_make(g->cell_blks);
	sb->payload_off = le32_make(g->payload_off);
	sb->slots = le16_make((uint16_t)g->slots);
	sb->journals = le16_make((uint16_t)g->journals);
	sb->board_row_bytes = le64_make(g->board_row_bytes);
	sb->journal_blks = le32_make(g->journal_blks);
	sb->group_blks = le32_make(g->group_blks);
	sb->group0_blk = le64_make(g->group0_blk);
	sb->groups = le64_make(g->groups);
	sb->root_ino = le64_make(g->root_ino);
	sb->end_blk = le64_make(g->end_blk);
	sb->beat_ms = le32_make(g->beat_ms);
	sb->deadline_ms = le32_make(g->deadline_ms);
	sb->lease_ms = le32_make(g->lease_ms);
	sb->bitmap_cells = le32_make(g->bitmap_cells);
	sb->mkfs_time_s = le64_make(g->mkfs_time_s);
	for (unsigned i = 0; i < LUNFS_MAX_SLOTS; i++) {
		sb->journal_blk[i] = le64_make(g->journal_blk[i]);
		sb->orphan_ino[i] = le64_make(g->orphan_ino[i]);
	}
	crc_seal(sb, sizeof(*sb), offsetof(struct lunfs_sb, crc));
}
