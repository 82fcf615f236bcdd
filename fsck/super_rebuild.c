/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A superblock made anew, where it and all its copies are gone.
 *
 * The volume's id comes from the sectors at fixed places (anchors, maintenance sector, host table):
 * the one that most of them name. Only what carries that id, its own address and a valid checksum
 * is believed from then on, so that an older volume beneath is not mixed in. Then mkfs's rules for
 * a layout are run backwards:
 *
 *   payload of the anchors        -> shape of cells
 *   group headers                 -> size of a group, where group 0 begins
 *   journal headers               -> size of a journal, where they begin
 *   host table, begin of journals -> slots, sector size, rows of the request board
 *   size of the device            -> number of groups, unless the last one says it
 *   first metadata chunk          -> orphan directories
 *
 * All of it is hostile: numbers are checked where they are read, and the result passes the check
 * that every superblock has to pass.
 */
#include "fsck/super_rebuild.h"
#include <uuid/uuid.h>

#define MAX_LEASE_MS (60u * 60 * 1000)

int rebuild_fail(const struct rebuild *r, const char *what)
{
	snprintf(r->why, r->why_len, "The layout of the volume cannot be made out: %s.", what);
	return -ENOENT;
}

/* ---- cells, slots, timings ------------------------------------------------------------------- */

void rebuild_shape(struct rebuild *r, uint32_t cell_blks)
{
	r->g->cell_blks = cell_blks;
	r->g->payload_off = cell_blks == 1 ? 512 : BLK;
	r->shape_known = true;
}

static void shape_from_anchors(struct rebuild *r, const uint8_t *fixed)
{
	unsigned n[2] = {0, 0};

	for (int a = 0; a < LUNFS_ANCHORS; a++)
		for (uint32_t c = 1; c <= 2; c++) {
			const uint8_t *pl = anchor_at(fixed, a, c == 1 ? 512 : BLK);

			n[c - 1] += pl && ours(r, ((const struct lunfs_blk_hdr *)pl)->vol_id);
		}
	if (n[0] != n[1])
		rebuild_shape(r, n[0] > n[1] ? 1 : 2);
}

static bool timing_ok(uint64_t beat, uint64_t deadline, uint64_t lease)
{
	return beat && deadline && lease <= MAX_LEASE_MS && beat + deadline < lease;
}

/* The longest lease that was in use: to wait too long is safe. */
static void slots_from_table(struct rebuild *r, const uint8_t *table)
{
	struct geo *g = r->g;

	g->beat_ms = 3000;
	g->deadline_ms = 8000;
	g->lease_ms = 16000;
	r->out->guessed_timing = true;
	for (unsigned i = 0; i < TABLE_SLOTS; i++) {
		const struct lunfs_slot_rec *s = slot_at(table, i);
		uint32_t lease = s ? le32_get(s->lease_ms) : 0;

		if (!s || !ours(r, s->hdr.vol_id))
			continue;
		r->table_slots = i + 1;
		r->out->slots_seen++;
		if (!timing_ok(le32_get(s->beat_ms), le32_get(s->deadline_ms), lease) ||
		    (!r->out->guessed_timing && lease <= g->lease_ms))
			continue;
		g->beat_ms = le32_get(s->beat_ms);
		g->deadline_ms = le32_get(s->deadline_ms);
		g->lease_ms = lease;
		r->out->guessed_timing = false;
	}
}

static uint64_t watermark(const struct rebuild *r, const uint8_t *fixed)
{
	const struct lunfs_anchor_pl *p =
	    (const void *)anchor_at(fixed, LUNFS_ANCHOR_WATERMARK, r->g->payload_off);

	return p && ours(r, p->hdr.vol_id) ? le64_get(p->value) : 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int prove(struct rebuild *r)
{
	uint8_t *sb = dev_buf_alloc(BLK);
	struct geo back;
	int rc;

	sb_encode(r->g, sb);
	rc = sb_decode(sb, &back, NULL);
	free(sb);
	if (rc)
		return rebuild_fail(r, "what is left of it contradicts itself");
	*r->g = back;
	return 0;
}

static void set_orphans(struct rebuild *r)
{
	struct geo *g = r->g;

	for (unsigned i = 0; i < g->journals; i++)
		g->orphan_ino[i] = g->root_ino + (1 + (uint64_t)i) * g->cell_blks;
}

static void draw_anew(struct rebuild *r, struct clock *clk)
{
	struct geo *g = r->g;

	clk->ops->random(clk, g->hash_key, sizeof(g->hash_key));
	clk->ops->random(clk, g->uuid, sizeof(g->uuid));
	g->uuid[6] = (uint8_t)((g->uuid[6] & 0x0f) | 0x40); /* RFC 9562: version 4 */
	g->uuid[8] = (uint8_t)((g->uuid[8] & 0x3f) | 0x80);
	memcpy(g->dev_id, r->dev->id.dev_id, sizeof(g->dev_id));
	g->sb_seq = 1;
}

static int rebuild(struct rebuild *r, struct clock *clk, uint8_t *fixed, uint8_t *table)
{
	unsigned all = 0;
	int rc;

	if (r->dev->id.size_bytes < LUNFS_MIN_BYTES)
		return rebuild_fail(r, "the device is too small for a volume");
	read_fixed(r->dev, fixed, table);
	rc = super_elect(fixed, table, r->g->vol_id, &r->out->votes, &all);
	if (rc)
		return rebuild_fail(r, "nothing of a lunfs volume is at the fixed places");
	r->out->votes_other = all - r->out->votes;
	shape_from_anchors(r, fixed);
	slots_from_table(r, table);
	rebuild_probe(r);
	rc = rebuild_groups(r);
	if (rc)
		return rc;
	rebuild_inodes(r);
	rc = rebuild_journals(r);
	if (rc == 0)
		rc = rebuild_slots(r);
	if (rc == 0)
		rc = rebuild_end(r, watermark(r, fixed));
	if (rc)
		return rc;
	set_orphans(r);
	draw_anew(r, clk);
	return prove(r);
}

int super_rebuild(struct dev *dev, struct clock *clk, bool any_sector, struct super_rebuilt *out,
		  char *why, size_t why_len)
{
	struct rebuild *r = calloc(1, sizeof(*r));
	uint8_t *fixed = dev_buf_alloc(FIXED_BYTES);
	uint8_t *table = dev_buf_alloc(TABLE_BYTES);
	int rc;

	lunfs_assert(r);
	memset(out, 0, sizeof(*out));
	r->dev = dev;
	r->g = &out->geo;
	r->out = out;
	r->any_sector = any_sector;
	r->why = why;
	r->why_len = why_len;
	rc = rebuild(r, clk, fixed, table);
	free(fixed);
	free(table);
	free(r);
	return rc;
}

void super_say_rebuilt(FILE *to, const struct super_rebuilt *r)
{
	const struct geo *g = &r->geo;
	char id[UUID_STR_LEN];

	uuid_unparse_lower(g->vol_id, id);
	fprintf(to,
		"A superblock can be made anew from the rest of the volume:\n"
		"  volume id    %s (%u sectors say so, %u say another)\n"
		"  size         %llu bytes, sectors of %u%s, cells of %u\n"
		"  hosts        %u journals of %llu KiB%s (%u headers found), %u slots (%u found)\n"
		"  groups       %llu%s of %llu KiB, the first at block %llu\n"
		"  root         inode %llu\n"
		"  timing       %u,%u,%u ms%s\n",
		id, r->votes, r->votes_other, (unsigned long long)(g->dev_blks * BLK),
		g->sector_bytes, r->guessed_sector ? " (assumed)" : "", geo_cell_bytes(g),
		g->journals, (unsigned long long)g->journal_blks * 4,
		r->guessed_journals ? " (assumed)" : "", r->journals_seen, g->slots, r->slots_seen,
		(unsigned long long)g->groups, r->guessed_groups ? " (by the device's size)" : "",
		(unsigned long long)g->group_blks * 4, (unsigned long long)g->group0_blk,
		(unsigned long long)g->root_ino, g->beat_ms, g->deadline_ms, g->lease_ms,
		r->guessed_timing ? " (the defaults)" : "");
	fprintf(to,
		"Label and UUID are lost, and the key by which names are found: a new UUID and a "
		"new key are drawn, and all directories and attributes are sorted anew.\n");
}
