/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where things stand, and the head that every payload has. All of it trusts struct geo, whose
 * numbers sb_decode() has checked, and trusts no address that comes from elsewhere.
 */
#include "base/geo.h"

#include "base/crc.h"

#include <errno.h>
#include <string.h>

uint64_t sb_tail_off(uint64_t size_bytes)
{
	uint64_t whole = size_bytes / LUNFS_TAIL_BYTES;

	return whole ? (whole - 1) * LUNFS_TAIL_BYTES : 0;
}

static bool is_power_of(uint64_t g, uint64_t base)
{
	while (g % base == 0)
		g /= base;
	return g == 1;
}

bool sb_group_has_copy(uint64_t g)
{
	if (g == 0)
		return false;
	return is_power_of(g, 3) || is_power_of(g, 5) || is_power_of(g, 7);
}

uint32_t geo_group_len(const struct geo *g, uint64_t group)
{
	uint64_t left;

	if (group >= g->groups)
		return 0;
	left = g->end_blk - geo_group_blk(g, group);
	return left < g->group_blks ? (uint32_t)left : g->group_blks;
}

uint64_t geo_group_of(const struct geo *g, uint64_t blk)
{
	return (blk - g->group0_blk) / g->group_blks;
}

static bool in_groups(const struct geo *g, uint64_t blk)
{
	return blk >= g->group0_blk && blk < g->end_blk;
}

bool blk_range_ok(const struct geo *g, uint64_t blk, uint64_t n)
{
	uint64_t group, rel, len;

	if (n == 0 || !in_groups(g, blk))
		return false;
	group = geo_group_of(g, blk);
	rel = blk - geo_group_blk(g, group);
	len = geo_group_len(g, group);
	return rel >= geo_group_meta_blks(g) && rel < len && n <= len - rel;
}

static bool is_anchor(uint64_t addr)
{
	for (int a = 0; a < LUNFS_ANCHORS; a++)
		if (addr == geo_anchor_cell((enum lunfs_anchor)a))
			return true;
	return false;
}

bool cell_addr_ok(const struct geo *g, uint64_t addr)
{
	uint64_t group, rel, len;

	if (!in_groups(g, addr))
		return is_anchor(addr);
	group = geo_group_of(g, addr);
	rel = addr - geo_group_blk(g, group);
	len = geo_group_len(g, group);
	if (rel < g->cell_blks) /* the superblock copy's place */
		return false;
	return rel % g->cell_blks == 0 && rel < len && g->cell_blks <= len - rel;
}

int blk_check(const struct geo *g, const void *payload, uint16_t type, uint64_t addr)
{
	const struct lunfs_blk_hdr *h = payload;

	if (le32_get(h->magic) != LUNFS_BLK_MAGIC || le16_get(h->type) != type)
		return -EUCLEAN;
	if (memcmp(h->vol_id, g->vol_id, sizeof(h->vol_id)) != 0 || le64_get(h->addr) != addr)
		return -EUCLEAN;
	if (le16_get(h->reserved0) != 0 || le32_get(h->reserved1) != 0 ||
	    le64_get(h->version) > LUNFS_COUNT_MAX)
		return -EUCLEAN;
	if (!crc_ok(payload, LUNFS_PAYLOAD_BYTES, offsetof(struct lunfs_blk_hdr, crc)))
		return -EUCLEAN;
	return 0;
}

void blk_init(const struct geo *g, void *payload, uint16_t type, uint64_t addr, uint64_t version,
	      uint64_t guard, uint64_t guard_gen)
{
	struct lunfs_blk_hdr *h = payload;

	memset(h, 0, sizeof(*h));
	h->magic = le32_make(LUNFS_BLK_MAGIC);
	h->type = le16_make(type);
	memcpy(h->vol_id, g->vol_id, sizeof(h->vol_id));
	h->addr = le64_make(addr);
	h->version = le64_make(version);
	h->guard = le64_make(guard);
	h->guard_gen = le64_make(guard_gen);
}

void blk_seal(void *payload)
{
	crc_seal(payload, LUNFS_PAYLOAD_BYTES, offsetof(struct lunfs_blk_hdr, crc));
}
