/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing file data.
 *
 * Whole blocks over written space go in place, many writers side by side (host EX, local shared); a
 * short step, local exclusive, sets the time stamps afterwards: the last one of several does,
 * unless they are of this very tick, for time stamps are as coarse as in the kernel. Everything
 * else is done local exclusive in pieces of at most 1 MiB: blocks are reserved, the data is written
 * to them, and only then does one transaction add the extents, mark them written, and set the size:
 * a crash shows no stale blocks.
 *
 * Other hosts see a piece whole or not at all: while the operation may still wait, for room or for
 * the allocator's locks, nothing of the piece is committed. Only where space lies in more runs than
 * one transaction takes is a piece several, and then others may see the first ones if the next
 * has to wait. A write that the full volume cuts short ends there and never gets the rest later.
 */
#include "vol/vol_impl.h"
#include <stdlib.h>

#define PIECE_BYTES (1u << 20)
#define TICK_NS 10000000 /* of the time stamps of overwritten data: jiffies with HZ=100 */
#define PARTS_MAX 8u	 /* extents of a piece; more: the piece ends earlier */
#define AHEAD_MIN_BLKS 16u
#define AHEAD_MAX_BLKS (1u << 15) /* 128 MiB */
#define CHANGES_MAX 12u /* tree changes of a piece: cells for them fit in one reservation */

struct writing {
	struct nodeid id;
	uint64_t off;
	size_t len, done;
	const uint8_t *buf;
	unsigned flags;
	bool excl, placed;
	bool stamped; /* the time stamps are new enough */
};

enum part_kind { PART_WRITTEN, PART_UNWRITTEN, PART_NEW };

struct part { /* blocks of a piece that lie together */
	enum part_kind kind;
	uint64_t lblk, blk, len;
	struct blk_res res; /* PART_NEW */
};

struct piece {
	uint64_t off, end; /* bytes of the file */
	const uint8_t *src;
	uint64_t lblk, nblks;
	unsigned n, changes;
	struct part part[PARTS_MAX];
	uint8_t *tmp;	    /* bounce memory, or NULL */
	const uint8_t *mem; /* block lblk + k is at mem + k * BLK ... */
	uint64_t n_mem;	    /* ... for k < n_mem; the last one, if more, is tail */
	uint8_t *tail;
	bool full; /* it is shorter than it should be, and no more is to be had */
};

/* ---- over written space, side by side -------------------------------------------------------- */

static bool can_overwrite(const struct writing *a, const struct inode *i)
{
	return a->off % BLK == 0 && a->len % BLK == 0 && (uintptr_t)a->buf % BLK == 0 &&
	       i->data_format == LUNFS_FORK_TREE && a->off + a->len <= i->size &&
	       !(a->flags & VWRITE_APPEND);
}

/* 1: not all of it is written space; nothing was written then. */
static int overwrite(struct volume *v, struct inode *i, const struct writing *a)
{
	uint64_t lblk = a->off / BLK, end = lblk + a->len / BLK;
	struct io_list l;
	int rc;

	io_init(&l, v);
	while (lblk < end) {
		struct ext e;
		uint64_t n;

		rc = ext_map(&v->ne, i, lblk, &e);
		if (rc)
			return rc;
		if (e.blk == 0 || e.flags || l.n == DATA_IOS)
			return 1;
		n = e.len < end - lblk ? e.len : end - lblk;
		rc = io_add(&l, DEV_WRITE, e.blk, n,
			    (void *)(uintptr_t)(a->buf + (lblk * BLK - a->off)));
		if (rc)
			return rc;
		lblk += n;
	}
	return io_run(&l);
}

static bool of_this_tick(struct timespec now, struct timespec t)
{
	int64_t ns = (now.tv_sec - t.tv_sec) * 1000000000ll + now.tv_nsec - t.tv_nsec;

	return now.tv_sec - t.tv_sec < 2 && ns >= 0 && ns < TICK_NS;
}

bool vol_is_stamped(struct volume *v, const struct inode *i)
{
	struct timespec now = vol_now(v);

	return of_this_tick(now, i->mtime) && of_this_tick(now, i->ctime);
}

/* ---- planning a piece ------------------------------------------------------------------------ */

/* A file that grows is expected to double. */
static uint32_t ahead_for(const struct inode *i, uint64_t lblk)
{
	uint64_t size_blks = (i->size + BLK - 1) / BLK;

	if (lblk < size_blks)
		return 0;
	if (size_blks < AHEAD_MIN_BLKS)
		return AHEAD_MIN_BLKS;
	return size_blks < AHEAD_MAX_BLKS ? (uint32_t)size_blks : AHEAD_MAX_BLKS;
}

/* Behind the block before it; @ahead: and it is worth while to have room there. */
static uint64_t goal_for(struct volume *v, struct inode *i, uint64_t lblk, const struct piece *p,
			 uint32_t *ahead)
{
	struct ext e;

	*ahead = ahead_for(i, lblk);
	if (p->n)
		return p->part[p->n - 1].blk + p->part[p->n - 1].len;
	if (lblk && ext_map(&v->ne, i, lblk - 1, &e) == 0 && e.blk)
		return e.blk + 1;
	*ahead = 0;
	return i->ino;
}

static int plan_new(struct op *o, struct inode *i, struct piece *p, struct part *t)
{
	uint32_t ahead;
	uint64_t goal = goal_for(o->v, i, t->lblk, p, &ahead);
	int rc = blk_reserve_ahead(o->v->alloc, (uint32_t)t->len, ahead, goal, 0, &t->res);

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

/*
 * Shortens the piece when space is in too many parts; or short, but then only when there is no
 * hope for more.
 */
static int plan(struct op *o, struct inode *i, struct piece *p)
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

/* ---- memory for a piece ---------------------------------------------------------------------- */

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

/* ---- the transaction of a piece -------------------------------------------------------------- */

static int needs(struct change *ch, struct inode *i, const struct piece *p)
{
	change_credits(ch, 1);
	for (unsigned k = 0; k < p->n; k++)
		if (p->part[k].kind == PART_NEW)
			change_credits(ch, BLK_TAKE_CREDITS);
	return change_need(ch, i, FORK_DATA, p->changes);
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

static void write_attrs(struct change *ch, struct inode *i, uint64_t end)
{
	if (end > i->size)
		i->size = end;
	inode_touch_data(ch->o->v, i);
	inode_update_times(ch->nt.h, i);
}

static int commit_piece(struct change *ch, struct inode *i, struct piece *p)
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

static int write_piece(struct op *o, struct inode *i, struct piece *p)
{
	struct volume *v = o->v;
	struct change ch;
	int rc;

	rc = plan(o, i, p);
	if (rc)
		return rc;
	change_init(&ch, o);
	rc = needs(&ch, i, p);
	if (rc == 0)
		rc = change_reserve(&ch, i->ino, 0);
	if (rc == 0)
		rc = fill(v, i, p);
	if (rc == 0)
		rc = write_out(v, p);
	if (rc == 0)
		rc = commit_piece(&ch, i, p);
	change_end(&ch);
	unplan(v, p);
	free(p->tmp);
	return rc;
}

/* ---- inline ---------------------------------------------------------------------------------- */

static int write_inline(struct op *o, struct inode *i, const struct writing *a)
{
	uint64_t end = a->off + a->len, size = end > i->size ? end : i->size;
	uint8_t bytes[LUNFS_DATA_FORK_BYTES] = {0};
	struct change ch;
	int rc;

	if (i->data_format == LUNFS_FORK_INLINE)
		memcpy(bytes, inline_data(i), (size_t)i->size);
	memcpy(bytes + a->off, a->buf, a->len);
	change_init(&ch, o);
	change_credits(&ch, 2);
	rc = change_begin(&ch, i->ino, 0);
	if (rc == 0) {
		inline_set(ch.nt.h, i, bytes, (size_t)size);
		write_attrs(&ch, i, end);
	}
	change_end(&ch);
	return rc;
}

static bool fits_inline(const struct inode *i, const struct writing *a)
{
	return i->data_format != LUNFS_FORK_TREE && i->size <= LUNFS_DATA_FORK_BYTES &&
	       a->done == 0 && a->len <= LUNFS_DATA_FORK_BYTES &&
	       a->off <= LUNFS_DATA_FORK_BYTES - a->len;
}

/* ---- the operation --------------------------------------------------------------------------- */

static int write_pieces(struct op *o, struct inode *i, struct writing *a)
{
	while (a->done < a->len) {
		size_t n = a->len - a->done;
		struct piece p = {.off = a->off + a->done, .src = a->buf + a->done};
		int rc;

		if (n > PIECE_BYTES) /* the next one begins with a block */
			n = (size_t)(PIECE_BYTES - p.off % BLK);
		p.end = p.off + n;
		p.lblk = p.off / BLK;
		p.nblks = (p.end + BLK - 1) / BLK - p.lblk;
		rc = write_piece(o, i, &p);
		if (rc)
			return rc;
		a->done += (size_t)(p.end - p.off);
		if (p.full)
			return -ENOSPC;
	}
	return 0;
}

static int write_excl(struct op *o, struct inode *i, struct writing *a)
{
	int rc;

	/* What is appended stays in one piece: if another host came in between, this one ends
	 * short. */
	if ((a->flags & VWRITE_APPEND) && a->placed && a->done && i->size != a->off + a->done) {
		a->len = a->done;
		return 0;
	}
	if ((a->flags & VWRITE_APPEND) && a->done == 0)
		a->off = i->size;
	a->placed = true;
	if (a->off >= VOL_FILE_MAX)
		return -EFBIG;
	if (a->len > VOL_FILE_MAX - a->off)
		a->len = (size_t)(VOL_FILE_MAX - a->off);
	if (fits_inline(i, a)) {
		rc = write_inline(o, i, a);
		a->done = rc ? 0 : a->len;
		return rc;
	}
	rc = trunc_finish(o, i);
	if (rc == 0)
		rc = data_leave_inline(o, i);
	if (rc == 0 && (a->off + a->done) / BLK > i->size / BLK)
		rc = data_zero_tail(o, i, a->off + a->done);
	return rc ? rc : write_pieces(o, i, a);
}

/* Write-back drops nothing. To drop something takes the file exclusively: OP_RESTART. */
static int drop_privileges(struct op *o, struct inode *i, struct writing *a)
{
	bool suidgid = a->flags & VWRITE_KILL_SUIDGID, some;
	int rc;

	if ((o->c && o->c->late) || priv_none(i, suidgid))
		return 0;
	if (a->excl)
		return priv_drop(o, i, suidgid);
	rc = priv_look(o, i, suidgid, &some);
	if (rc || !some)
		return rc;
	a->excl = true;
	return op_get(o, a->id, LOCK_EX, LOCAL_EXCL, &i);
}

static int write_body(struct op *o, void *arg)
{
	struct writing *a = arg;
	enum lock_local local = a->excl ? LOCAL_EXCL : LOCAL_SHARED;
	struct inode *i;
	int rc;

	rc = op_get(o, a->id, LOCK_EX, local, &i);
	if (rc)
		return rc;
	if (!S_ISREG(i->mode))
		return S_ISDIR(i->mode) ? -EISDIR : -EINVAL;
	rc = drop_privileges(o, i, a);
	if (rc)
		return rc;
	if (a->excl)
		return write_excl(o, i, a);
	rc = can_overwrite(a, i) ? overwrite(o->v, i, a) : 1;
	if (rc == 1) {
		a->excl = true;
		return op_get(o, a->id, LOCK_EX, LOCAL_EXCL, &i);
	}
	if (rc == 0) {
		a->done = a->len;
		a->stamped = vol_is_stamped(o->v, i);
		o->goes_on = !a->stamped;
	}
	return rc;
}

/* After writing side by side: the time stamps. */
static int touch_body(struct op *o, void *arg)
{
	const struct writing *a = arg;
	struct change ch;
	struct inode *i;
	int rc;

	rc = op_get(o, a->id, LOCK_EX, LOCAL_EXCL, &i);
	if (rc)
		return rc;
	change_init(&ch, o);
	change_credits(&ch, 1);
	rc = change_begin(&ch, i->ino, 0);
	if (rc == 0)
		write_attrs(&ch, i, 0);
	change_end(&ch);
	return rc;
}

static void write_op_init(struct op *o, struct volume *v, const struct op_ctx *c,
			  const struct writing *a)
{
	op_init(o, v, c);
	o->pin_flags = LOCK_DRAIN | (c && c->late ? LOCK_LATE : 0);
	op_plan(o, a->id.ino, LOCK_EX, a->excl ? LOCAL_EXCL : LOCAL_SHARED);
}

static int write_run(struct volume *v, const struct op_ctx *c, struct writing *a)
{
	struct op o;

	write_op_init(&o, v, c, a);
	return op_run(&o, write_body, a);
}

int vol_touch(struct volume *v, const struct op_ctx *c, struct nodeid id)
{
	struct writing a = {.id = id, .excl = true};
	struct op o;

	write_op_init(&o, v, c, &a);
	return op_run(&o, touch_body, &a);
}

int vol_write(struct volume *v, const struct op_ctx *c, struct nodeid id, uint64_t off_bytes,
	      size_t len_bytes, const void *buf, unsigned flags, size_t *done, uint64_t *off_out)
{
	struct writing a = {
	    .id = id, .off = off_bytes, .len = len_bytes, .buf = buf, .flags = flags};
	int rc, rc2;

	*done = 0;
	if (len_bytes == 0)
		return v->read_only ? -EROFS : 0;
	a.excl = (flags & VWRITE_APPEND) || off_bytes % BLK || len_bytes % BLK ||
		 off_bytes >= VOL_FILE_MAX || len_bytes > VOL_FILE_MAX - off_bytes;
	onodes_write_begin(v->onodes, id.ino);
	rc = write_run(v, c, &a);
	if (onodes_write_end(v->onodes, id.ino, rc == 0 && !a.excl && !a.stamped)) {
		rc2 = vol_touch(v, c, id);
		rc = rc ? rc : rc2;
	}
	/* The kernel takes no notice of a write-back that was short: it must be an error. */
	if (a.done && rc != -EIO && (a.done == len_bytes || !(c && c->late)))
		rc = 0;
	*done = rc ? 0 : a.done;
	if (off_out)
		*off_out = a.off;
	return rc;
}
