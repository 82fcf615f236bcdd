/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replays at the device: the judge reads the dead host's journal itself, with a reader of its own,
 * and knows from it what the log says last of each block. What the recoverer writes in the dead
 * host's name is that and nothing else: no image before the last one, none of a block that was
 * given up later. When the slot becomes free, whatever the log says last of a block whose guard is
 * still held in that possession stands in place.
 */
#include "devcheck_impl.h"

#include "base/crc.h"

#include <stdlib.h>
#include <string.h>

struct said { /* of a block, last */
	uint64_t addr, guard, possession, version;
	uint16_t type;
	bool given_up;
};

struct dead_log {
	struct said *said;
	size_t n, cap;
};

struct reader {
	const struct devcheck *dc;
	const struct lunfs_slot_rec *of;
	uint64_t first_blk; /* of the ring */
	uint32_t ring_blks, pos, read_blks;
	uint64_t seq;
	struct dead_log *log;
};

static struct said *said_find(const struct dead_log *g, uint64_t addr)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->said[i].addr == addr)
			return &g->said[i];
	return NULL;
}

static struct said *said_get(struct dead_log *g, uint64_t addr)
{
	struct said *s = said_find(g, addr);

	if (s)
		return s;
	if (g->n == g->cap) {
		g->cap = g->cap ? 2 * g->cap : 64;
		g->said = realloc(g->said, g->cap * sizeof(*g->said));
		lunfs_assert(g->said);
	}
	s = &g->said[g->n++];
	s->addr = addr;
	return s;
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool read_begin(struct reader *rd, unsigned slot)
{
	const struct geo *g = rd->dc->geo;
	struct lunfs_jhdr h;

	if (slot >= g->slots || !g->journal_blk[slot])
		return false;
	simdev_peek(rd->dc->m, geo_blk_off(g->journal_blk[slot]), sizeof(h), &h);
	if (le32_get(h.magic) != LUNFS_JHDR_MAGIC ||
	    !crc_ok(&h, sizeof(h), offsetof(struct lunfs_jhdr, crc)) ||
	    le64_get(h.nonce) != le64_get(rd->of->nonce) ||
	    le64_get(h.generation) != le64_get(rd->of->generation))
		return false;
	rd->first_blk = g->journal_blk[slot] + 1;
	rd->ring_blks = g->journal_blks - 1;
	rd->pos = le32_get(h.tail_blk) - 1;
	rd->seq = le64_get(h.tail_seq);
	return rd->pos < rd->ring_blks;
}

static void read_ring(const struct reader *rd, uint32_t blks, uint8_t *buf)
{
	for (uint32_t i = 0; i < blks; i++)
		simdev_peek(rd->dc->m, geo_blk_off(rd->first_blk + (rd->pos + i) % rd->ring_blks),
			    LUNFS_BLOCK_BYTES, buf + (size_t)i * LUNFS_BLOCK_BYTES);
}

static bool desc_fits(const struct reader *rd, const struct lunfs_jdesc *d, unsigned index)
{
	return le32_get(d->magic) == LUNFS_JDESC_MAGIC &&
	       le64_get(d->nonce) == le64_get(rd->of->nonce) && le64_get(d->seq) == rd->seq &&
	       le16_get(d->index) == index &&
	       crc_ok(d, sizeof(*d), offsetof(struct lunfs_jdesc, crc));
}

static bool commit_fits(const struct reader *rd, const uint8_t *log, uint32_t blks)
{
	size_t body = (size_t)(blks - 1) * LUNFS_BLOCK_BYTES;
	const struct lunfs_jcommit *c = (const void *)(log + body);

	return le32_get(c->magic) == LUNFS_JCOMMIT_MAGIC &&
	       le64_get(c->nonce) == le64_get(rd->of->nonce) && le64_get(c->seq) == rd->seq &&
	       crc_ok(c, sizeof(*c), offsetof(struct lunfs_jcommit, crc)) &&
	       le32_get(c->body_crc) == crc32c(log, body);
}

static void take_entries(struct reader *rd, const uint8_t *log, unsigned n_desc, unsigned n)
{
	const uint8_t *images = log + (size_t)n_desc * LUNFS_BLOCK_BYTES;

	for (unsigned i = 0; i < n; i++) {
		const struct lunfs_jdesc *d =
		    (const void *)(log + (size_t)(i / LUNFS_JDESC_ENTRIES) * LUNFS_BLOCK_BYTES);
		const struct lunfs_jentry *e = &d->entry[i % LUNFS_JDESC_ENTRIES];
		struct said *s = said_get(rd->log, le64_get(e->addr));

		s->guard = le64_get(e->guard);
		s->possession = le64_get(e->possession_seq);
		s->version = le64_get(e->version);
		s->given_up = le16_get(e->kind) == LUNFS_JENT_REVOKE;
		if (s->given_up)
			continue;
		s->type = le16_get(((const struct lunfs_blk_hdr *)images)->type);
		images += LUNFS_PAYLOAD_BYTES;
	}
}

/* One transaction more; false: the log ends before it. */
static bool read_txn(struct reader *rd)
{
	struct lunfs_jdesc d;
	unsigned n_desc;
	uint32_t blks;
	uint8_t *log;
	bool fits;

	read_ring(rd, 1, (uint8_t *)&d);
	n_desc = le16_get(d.n_desc);
	blks = le32_get(d.n_blks);
	if (!desc_fits(rd, &d, 0) || n_desc < 1 || blks <= n_desc ||
	    blks > rd->ring_blks - rd->read_blks)
		return false;
	log = malloc((size_t)blks * LUNFS_BLOCK_BYTES);
	lunfs_assert(log);
	read_ring(rd, blks, log);
	fits = commit_fits(rd, log, blks);
	for (unsigned i = 0; fits && i < n_desc; i++)
		fits = desc_fits(rd, (const void *)(log + (size_t)i * LUNFS_BLOCK_BYTES), i);
	if (fits)
		take_entries(rd, log, n_desc, le32_get(d.n_entries));
	free(log);
	rd->pos = (rd->pos + blks) % rd->ring_blks;
	rd->read_blks += blks;
	rd->seq++;
	return fits;
}

static const struct dead_log *log_of(struct devcheck *dc, unsigned slot)
{
	struct slot_truth *t = &dc->slot[slot];
	struct reader rd = {.dc = dc, .of = &t->rec};

	if (t->log)
		return t->log;
	rd.log = t->log = calloc(1, sizeof(*t->log));
	lunfs_assert(t->log);
	if (read_begin(&rd, slot))
		while (rd.read_blks < rd.ring_blks && read_txn(&rd))
			;
	return t->log;
}

void replay_forget(struct slot_truth *t)
{
	if (t->log)
		free(t->log->said);
	free(t->log);
	t->log = NULL;
}

/* ---- judging --------------------------------------------------------------------------------- */

void judge_replay_write(const struct judged *j, unsigned slot, const struct lunfs_blk_hdr *h)
{
	unsigned long long addr = le64_get(h->addr), version = le64_get(h->version);
	const struct said *s = said_find(log_of(j->dc, slot), addr);

	cover_hit(j->dc->r, COVER_REPLAY_WRITE);
	if (!s)
		dev_wrong(j, "replays block %llu, of which the journal of slot %u says nothing",
			  addr, slot);
	if (s->given_up)
		dev_wrong(j, "replays block %llu, which the dead host had given up", addr);
	if (s->version != version || s->guard != le64_get(h->guard))
		dev_wrong(j,
			  "replays version %llu of block %llu, but the journal of slot %u says "
			  "version %llu last",
			  version, addr, slot, (unsigned long long)s->version);
}

/* Does the log's last word on this block still count? */
static bool counts(const struct devcheck *dc, const struct said *s, uint64_t dead)
{
	struct lunfs_lock_rec rec;

	if (s->given_up || !lock_rec_at(dc, s->guard, &rec) ||
	    le16_get(rec.mode) != LUNFS_LOCK_EXCL || le64_get(rec.owner) != dead ||
	    le64_get(rec.possession_seq) != s->possession)
		return false;
	return s->addr != s->guard || s->version >= le64_get(rec.payload_version);
}

void judge_replay_end(const struct judged *j, unsigned slot)
{
	struct devcheck *dc = j->dc;
	const struct dead_log *g = log_of(dc, slot);
	uint64_t dead = LUNFS_OWNER(le64_get(dc->slot[slot].rec.generation), slot);
	uint8_t pl[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_blk_hdr *h = (const struct lunfs_blk_hdr *)pl;

	for (size_t i = 0; i < g->n; i++) {
		const struct said *s = &g->said[i];

		if (!counts(dc, s, dead))
			continue;
		cover_hit(dc->r, COVER_REPLAY_KEPT);
		simdev_peek(dc->m, geo_payload_off(dc->geo, s->addr), sizeof(pl), pl);
		if (blk_check(dc->geo, pl, le16_get(h->type), s->addr) != 0) {
			/* another host may have the cell of a freed inode, and be writing it */
			if (s->type == LUNFS_BLK_FREE)
				continue;
			dev_wrong(j, "slot %u is freed while block %llu is torn", slot,
				  (unsigned long long)s->addr);
		}
		if (le64_get(h->version) < s->version)
			dev_wrong(j,
				  "slot %u is freed, but block %llu has version %llu, and version "
				  "%llu was committed",
				  slot, (unsigned long long)s->addr,
				  (unsigned long long)le64_get(h->version),
				  (unsigned long long)s->version);
	}
}
