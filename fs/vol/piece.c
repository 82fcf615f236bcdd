/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A piece of a write: blocks are reserved where there are none, the data is written to them, and
 * only then does one transaction add the extents, mark them written, and set the size: a crash
 * shows no stale blocks.
 */
#include "vol/piece.h"
#include <stdlib.h>

#define AHEAD_MIN_BLKS 16u
#define AHEAD_MAX_BLKS (1u << 15) /* 128 MiB */
#define REGION_BLKS 256u	  /* 1 MiB */
#define CHANGES_MAX 12u /* tree changes of a piece: cells for them fit in one reservation */

/* ---- planning ---------------------------------------------------------------------------------
 */

/* Blocks of a file that have such a region of it in common shall lie near each other. */
static uint64_t region(uint64_t lblk)
{
	return lblk / REGION_BLKS;
}

void near_look(struct near *n, const struct geo *g, uint64_t lblk, uint64_t at, uint64_t len,
	       uint64_t blk)
{
	bool before = at < lblk;
	uint64_t dist = before ? lblk - at - len : at - lblk;
	uint64_t place = before ? blk + (lblk - at) : blk - dist;

	if (before && at + len > lblk)
		return;
	if ((dist && region(before ? at + len - 1 : at) != region(lblk)) || (!before && dist > blk))
		return;
	if (place >= g->end_blk || place < g->group0_blk ||
	    geo_group_of(g, place) != geo_group_of(g, blk) || (n->blk && n->dist <= dist))
		return;
	*n = (struct near){place, dist};
}

static void near_mapped(struct volume *v, struct inode *i, uint64_t lblk, struct near *n)
{
	struct ext e;

	if (lblk && ext_before(&v->ne, i, lblk - 1, &e) == 0)
		near_look(n, &v->geo, lblk, e.lblk, e.len, e.blk);
	if (n->blk && n->dist == 0)
		return;
	if (ext_map(&v->ne, i, lblk, &e) || e.len >= REGION_BLKS)
		return;
	if (ext_map(&v->ne, i, lblk + e.len, &e) == 0 && e.blk)
		near_look(n, &v->geo, lblk, e.lblk, e.len, e.blk);
}

/* A file that grows is expected to double. */
static struct blk_room room_to_grow(uint64_t size_blks)
{
	uint64_t ahead = size_blks < AHEAD_MAX_BLKS ? size_blks : AHEAD_MAX_BLKS;

	return (struct blk_room){.after =
				     ahead < AHEAD_MIN_BLKS ? AHEAD_MIN_BLKS : (uint32_t)ahead};
}

/* The rest of its region is expected to come, too. */
static struct blk_room room_in_region(uint64_t lblk, uint64_t size_blks)
{
	uint64_t from = region(lblk) * REGION_BLKS, to = from + REGION_BLKS;

	return (struct blk_room){.before = (uint32_t)(lblk - from),
				 .after = (uint32_t)((to < size_blks ? to : size_blks) - lblk)};
}

static uint64_t goal_for(struct volume *v, struct inode *i, uint64_t lblk, const struct piece *p,
			 struct blk_room *room)
{
	uint64_t size_blks = (i->size + BLK - 1) / BLK;
	struct near n = p->near;
	bool grows = lblk >= size_blks;

	*room = grows ? room_to_grow(size_blks) : (struct blk_room){0, 0};
	if (p->n)
		return p->part[p->n - 1].blk + p->part[p->n - 1].len;
	near_mapped(v, i, lblk, &n);
	if (n.blk)
		return n.blk;
	*room = grows ? (struct blk_room){0, 0} : room_in_region(lblk, size_blks);
	return i->ino;
}

static int plan_new(struct op *o, struct inode *i, struct piece *p, struct part *t)
{
	struct blk_room room;
	uint64_t goal = goal_for(o->v, i, t->lblk, p, &room);
	int rc = blk_reserve_in(o->v->alloc, (uint32_t)t->len, room, goal,
				p->prompt ? ALLOC_NO_COMMIT : 0, &t->res);

	if (rc == -EAGAIN)
		o->want = t->res.want;
	if (rc)
		return rc;
	t->blk = t->res.blk;
	t->len = t->res.len;
	return 0;
}

static unsigned changes_of(const struct part *t)
{
	return t->kind == PART_NEW ? 1 : t->kind == PART_UNWRITTEN ? 3 : 0;
}

/* One part more, starting at @lblk. -E2BIG: not in this piece. */
static int plan_part(struct op *o, struct inode *i, struct piece *p, uint64_t lblk)
{
	struct part *t = &p->part[p->n];
	uint64_t left = p->lblk + p->nblks - lblk;
	struct ext e;
	int rc = ext_map(&o->v->ne, i, lblk, &e);

	if (rc)
		return rc;
	t->lblk = lblk;
	t->blk = e.blk;
	t->len = e.len < left ? e.len : left;
	t->kind = e.blk == 0			    ? PART_NEW
		  : (e.flags & LUNFS_EXT_UNWRITTEN) ? PART_UNWRITTEN
						    : PART_WRITTEN;
	if (p->changes + changes_of(t) > CHANGES_MAX)
		return -E2BIG;
	if (t->kind == PART_NEW)
		rc = plan_new(o, i, p, t);
	if (rc == 0) {
		p->changes += changes_of(t);
		p->n++;
	}
	return rc;
}

static void unplan(struct volume *v, struct piece *p)
{
	for (unsigned k = 0; k < p->n; k++)
		if (p->part[k].kind == PART_NEW)
			blk_unreserve(v->alloc, &p->part[k].res);
	p->n = 0;
}

int piece_plan(struct op *o, struct inode *i, struct piece *p)
{
	uint64_t lblk = p->lblk, end = p->lblk + p->nblks;
	int rc = 0;

	while (lblk < end && p->n < PARTS_MAX && rc == 0) {
		rc = plan_part(o, i, p, lblk);
		if (rc == 0)
			lblk += p->part[p->n - 1].len;
	}
	if (rc == -ENOSPC && p->n && !o->made_room)
		o->part_fits = true;
	else if (p->n && (rc == -ENOSPC || rc == -E2BIG)) {
		p->full = rc == -ENOSPC;
		rc = 0;
	}
	if (rc) {
		unplan(o->v, p);
		return rc;
	}
	p->nblks = lblk - p->lblk;
	if (lblk * BLK < p->end)
		p->end = lblk * BLK;
	return 0;
}

/* ---- memory and data --------------------------------------------------------------------------
 */

/* What stands in block @lblk now, zero beyond the end of file. */
static int read_edge(struct volume *v, struct inode *i, uint64_t lblk, uint8_t *buf)
{
	int rc = data_read_blks(v, i, lblk, 1, buf);

	if (rc == 0 && i->size < (lblk + 1) * BLK) {
		uint64_t from = i->size > lblk * BLK ? i->size - lblk * BLK : 0;

		memset(buf + from, 0, (size_t)(BLK - from));
	}
	return rc;
}

/* All blocks in bounce memory. */
static int fill_bounce(struct volume *v, struct inode *i, struct piece *p)
{
	uint64_t last = p->lblk + p->nblks - 1;
	int rc = 0;

	p->tmp = dev_buf_alloc((size_t)(p->nblks * BLK));
	p->mem = p->tmp;
	p->n_mem = p->nblks;
	if (p->off % BLK)
		rc = read_edge(v, i, p->lblk, p->tmp);
	if (rc == 0 && p->end % BLK && (last != p->lblk || p->off % BLK == 0))
		rc = read_edge(v, i, last, p->tmp + (last - p->lblk) * BLK);
	if (rc == 0)
		memcpy(p->tmp + p->off % BLK, p->src, (size_t)(p->end - p->off));
	return rc;
}

/* Whole blocks straight from the caller's memory, a part of one at the end by bounce. */
static int fill(struct volume *v, struct inode *i, struct piece *p)
{
	int rc;

	if (p->off % BLK || (uintptr_t)p->src % BLK)
		return fill_bounce(v, i, p);
	p->mem = p->src;
	p->n_mem = (p->end - p->off) / BLK;
	if (p->n_mem == p->nblks)
		return 0;
	p->tail = p->tmp = dev_buf_alloc((size_t)BLK);
	rc = read_edge(v, i, p->lblk + p->n_mem, p->tail);
	if (rc == 0)
		memcpy(p->tail, p->src + p->n_mem * BLK, (size_t)(p->end % BLK));
	return rc;
}

static int write_out(struct volume *v, struct piece *p)
{
	struct io_list l;
	int rc = 0;

	io_init(&l, v);
	for (unsigned k = 0; k < p->n && rc == 0; k++) {
		const struct part *t = &p->part[k];
		uint64_t at = t->lblk - p->lblk, n = t->len;

		if (at + n > p->n_mem)
			n = p->n_mem - at;
		if (n)
			rc = io_add(&l, DEV_WRITE, t->blk, n,
				    (void *)(uintptr_t)(p->mem + at * BLK));
		if (rc == 0 && n < t->len)
			rc = io_add(&l, DEV_WRITE, t->blk + n, 1, p->tail);
	}
	return rc ? rc : io_run(&l);
}

/* ---- the transaction ------------------------------------------------------------------------ */

static int needs(struct change *ch, struct inode *i, const struct piece *p)
{
	change_credits(ch, 1);
	for (unsigned k = 0; k < p->n; k++)
		if (p->part[k].kind == PART_NEW)
			change_credits(ch, BLK_TAKE_CREDITS);
	return change_need_ext(ch, i, p->lblk, p->nblks, p->changes);
}

static int map_part(struct change *ch, struct inode *i, struct part *t)
{
	const struct node_env *ne = &ch->o->v->ne;
	struct ext e = {.lblk = t->lblk, .blk = t->blk, .len = t->len, .flags = 0};

	if (t->kind == PART_WRITTEN)
		return 0;
	if (t->kind == PART_UNWRITTEN)
		return ext_set_written(ne, &ch->nt, i, t->lblk, t->len, true);
	blk_take(ch->nt.h, ch->o->v->alloc, &t->res, (uint32_t)t->len);
	t->kind = PART_WRITTEN; /* nothing to give back any more */
	return ext_insert(ne, &ch->nt, i, &e);
}

static int reserve(struct change *ch, struct inode *i, const struct piece *p)
{
	int rc = needs(ch, i, p);

	return rc ? rc : change_reserve(ch, i->ino, 0);
}

static int commit(struct change *ch, struct inode *i, struct piece *p)
{
	int rc = change_begin(ch, p->part[0].blk, 0);

	if (rc)
		return rc;
	for (unsigned k = 0; k < p->n && rc == 0; k++)
		rc = map_part(ch, i, &p->part[k]);
	if (rc)
		change_broken(ch, rc, "the extents of a file");
	write_attrs(ch, i, p->end);
	return rc;
}

int piece_commit(struct op *o, struct inode *i, struct piece *p)
{
	struct change ch;
	int rc;

	change_init(&ch, o);
	rc = reserve(&ch, i, p);
	if (rc == 0)
		rc = commit(&ch, i, p);
	change_end(&ch);
	return rc;
}

/* ---- a piece ------------------------------------------------------------------------------- */

void piece_init(struct piece *p, uint64_t off, size_t len, const uint8_t *src)
{
	*p = (struct piece){.off = off, .src = src};
	if (len > PIECE_BYTES) /* the next one begins with a block */
		len = (size_t)(PIECE_BYTES - off % BLK);
	p->end = off + len;
	p->lblk = off / BLK;
	p->nblks = (p->end + BLK - 1) / BLK - p->lblk;
}

int piece_send(struct volume *v, struct inode *i, struct piece *p)
{
	int rc = fill(v, i, p);

	return rc ? rc : write_out(v, p);
}

void piece_end(struct volume *v, struct piece *p)
{
	unplan(v, p);
	free(p->tmp);
	p->tmp = NULL;
}

int piece_write(struct op *o, struct inode *i, struct piece *p)
{
	struct change ch;
	int rc;

	rc = piece_plan(o, i, p);
	if (rc)
		return rc;
	change_init(&ch, o);
	rc = reserve(&ch, i, p);
	if (rc == 0)
		rc = piece_send(o->v, i, p);
	if (rc == 0)
		rc = commit(&ch, i, p);
	change_end(&ch);
	piece_end(o->v, p);
	return rc;
}
