/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Geometry: the superblock in core, and where everything stands. Pure arithmetic, no I/O; what it
 * was decoded from was checked, so its numbers can be trusted and computed with.
 */
#ifndef BASE_GEO_H
#define BASE_GEO_H

#include <lunfs/format.h>
#include <stdbool.h>

struct geo {
	uint8_t vol_id[16];
	uint8_t uuid[16];
	char label[LUNFS_LABEL_BYTES + 1];
	uint64_t compat, ro_compat, incompat;
	uint64_t sb_seq;
	uint64_t dev_blks, end_blk;
	uint32_t sector_bytes;
	uint32_t cell_blks;
	uint32_t payload_off;	   /* within a cell, bytes */
	uint32_t payload_io_bytes; /* 3584, or 4096 where sectors are 4096 (rest zero) */
	uint32_t slots;		   /* without the two spare ones */
	uint32_t journals;
	uint64_t board_row_bytes;
	uint32_t journal_blks;
	uint32_t group_blks;
	uint64_t group0_blk, groups;
	uint32_t bitmap_cells;
	uint64_t root_ino;
	uint32_t beat_ms, deadline_ms, lease_ms;
	uint8_t hash_key[16];
	uint64_t mkfs_time_s;
	uint8_t dev_id[64];
	uint64_t journal_blk[LUNFS_MAX_SLOTS];
	uint64_t orphan_ino[LUNFS_MAX_SLOTS];
};

/*
 * Check magic, CRC, version, reserved bytes and every range, then fill @out. Outputs untouched on
 * failure: -EINVAL not a lunfs superblock at all (no magic); -EUCLEAN magic but damaged (CRC or
 * ranges); -EPROTONOSUPPORT unknown incompat bits or a newer format (@unknown_incompat, may be
 * NULL, gets the bits).
 */
int sb_decode(const void *sb4096, struct geo *out, uint64_t *unknown_incompat);
void sb_encode(const struct geo *g, void *sb4096); /* seals the CRC */

/* Byte offset of the copy at the end of a device of @size_bytes. */
uint64_t sb_tail_off(uint64_t size_bytes);
/* Does group @g keep a copy? (1 and the powers of 3, 5 and 7.) Its byte offset is geo_group_off. */
bool sb_group_has_copy(uint64_t g);

/* Byte offsets. */
static inline uint64_t geo_blk_off(uint64_t blk)
{
	return blk * LUNFS_BLOCK_BYTES;
}
static inline uint64_t geo_payload_off(const struct geo *g, uint64_t cell)
{
	return cell * LUNFS_BLOCK_BYTES + g->payload_off;
}
static inline uint64_t geo_anchor_cell(enum lunfs_anchor a) /* an address, in blocks */
{
	return (LUNFS_ANCHOR_OFF + (uint64_t)a * LUNFS_ANCHOR_STRIDE) / LUNFS_BLOCK_BYTES;
}
static inline uint64_t geo_slot_off(unsigned slot)
{
	return LUNFS_HOST_TABLE_OFF + slot * LUNFS_SLOT_STRIDE;
}
static inline uint64_t geo_board_off(const struct geo *g, unsigned row, unsigned column)
{
	return LUNFS_BOARD_OFF + row * g->board_row_bytes + (uint64_t)column * g->sector_bytes;
}
static inline uint32_t geo_cell_bytes(const struct geo *g)
{
	return g->cell_blks * LUNFS_BLOCK_BYTES;
}
static inline unsigned geo_all_slots(const struct geo *g) /* with the spare ones */
{
	return g->slots + LUNFS_SPARE_SLOTS;
}
static inline uint64_t geo_group_blk(const struct geo *g, uint64_t group)
{
	return g->group0_blk + group * g->group_blks;
}
static inline uint64_t geo_group_header(const struct geo *g, uint64_t group)
{
	return geo_group_blk(g, group) + g->cell_blks;
}
static inline uint64_t geo_group_bitmap(const struct geo *g, uint64_t group, unsigned i)
{
	return geo_group_header(g, group) + (1 + (uint64_t)i) * g->cell_blks;
}
static inline uint32_t
geo_group_meta_blks(const struct geo *g) /* never allocatable, at the start */
{
	return (2 + g->bitmap_cells) * g->cell_blks;
}
uint32_t geo_group_len(const struct geo *g, uint64_t group); /* blocks; the last may be short */
/* Group of a block inside the groups; check with blk_range_ok first. */
uint64_t geo_group_of(const struct geo *g, uint64_t blk);

/* Is [blk, blk + n) wholly inside one group's allocatable part? Safe against overflow, n >= 1. */
bool blk_range_ok(const struct geo *g, uint64_t blk, uint64_t n);
/* Can @addr be the address of a cell in a group (chunk cell) or an anchor, group or bitmap cell? */
bool cell_addr_ok(const struct geo *g, uint64_t addr);

/* Check magic, type, vol_id, address and CRC of a payload of 3584 bytes. 0 or -EUCLEAN. */
int blk_check(const struct geo *g, const void *payload, uint16_t type, uint64_t addr);
/* Fill a header (everything but the CRC); blk_seal computes the CRC just before writing. */
void blk_init(const struct geo *g, void *payload, uint16_t type, uint64_t addr, uint64_t version,
	      uint64_t guard, uint64_t guard_gen);
void blk_seal(void *payload);

#endif
