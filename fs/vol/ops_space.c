/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fallocate: preallocate, punch holes, zero ranges. Worked off in transactions of a few extents;
 * what was done stays done when space runs out half-way, as POSIX allows.
 *
 * What a punch or a zeroing does to the contents it does once, and together with the size: the
 * range becomes unwritten, and the blocks at its ends are zeroed. Blocks are added before that and
 * given up after it, since both may have to wait for the allocator with all locks let go; another
 * host may have written to the range meanwhile.
 */
#include "vol/vol_impl.h"
#include <linux/falloc.h>
#include <stdlib.h>

#define ALLOC_PARTS 8u
#define ALLOC_STEP_BLKS (1u << 18) /* 1 GiB */
#define UNWRITE_PARTS 4u	   /* each may split an extent in three */

struct falloc {
	struct nodeid id;
	int mode;
	bool suidgid; /* to be dropped */
	uint64_t off, len;
	uint64_t pos; /* blocks of the range before this one are unwritten */
	bool zeroed;  /* all of the range reads as zeroes, or was written by others since */
};

/* ---- preallocation --------------------------------------------------------------------------- */

struct runs { /* reserved for one transaction */
	unsigned n;
	struct blk_res res[ALLOC_PARTS];
	uint64_t lblk[ALLOC_PARTS];
};

static int reserve_hole(struct op *o, struct inode *i, struct runs *r, uint64_t lblk, uint64_t len)
{
	struct blk_res *res = &r->res[r->n];
	uint64_t goal = i->ino;
	struct ext e;
	int rc;

	if (r->n && r->lblk[r->n - 1] + r->res[r->n - 1].len == lblk)
		goal = r->res[r->n - 1].blk + r->res[r->n - 1].len;
	else if (lblk && ext_map(&o->v->ne, i, lblk - 1, &e) == 0 && e.blk)
		goal = e.blk + 1;
	rc = blk_reserve(o->v->alloc, len < ALLOC_STEP_BLKS ? (uint32_t)len : ALLOC_STEP_BLKS, goal,
			 0, res);
	if (rc == -EAGAIN)
		o->want = res->want;
	if (rc == 0)
		r->lblk[r->n++] = lblk;
	return rc;
}

/* Reserve for the next holes from *pos on, which moves behind them. */
static int reserve_runs(struct op *o, struct inode *i, struct runs *r, uint64_t *pos, uint64_t end)
{
	r->n = 0;
	while (*pos < end && r->n < ALLOC_PARTS) {
		struct ext e;
		uint64_t n;
		int rc = ext_map(&o->v->ne, i, *pos, &e);

		if (rc)
			return rc;
		n = e.len < end - *pos ? e.len : end - *pos;
		if (e.blk == 0) {
			rc = reserve_hole(o, i, r, *pos, n);
			if (rc)
				return r->n && rc == -ENOSPC ? 0 : rc;
			n = r->res[r->n - 1].len;
		}
		*pos += n;
	}
	return 0;
}

static int insert_runs(struct change *ch, struct inode *i, struct runs *r)
{
	struct volume *v = ch->o->v;
	int rc = 0;

	while (r->n && rc == 0) {
		struct blk_res *res = &r->res[r->n - 1];
		struct ext e = {.lblk = r->lblk[r->n - 1],
				.blk = res->blk,
				.len = res->len,
				.flags = LUNFS_EXT_UNWRITTEN};

		blk_take(ch->nt.h, v->alloc, res, res->len);
		r->n--;
		rc = ext_insert(&v->ne, &ch->nt, i, &e);
	}
	return rc ? change_broken(ch, rc, "the extents of a file") : 0;
}

static int fill_holes(struct op *o, struct inode *i, uint64_t pos, uint64_t end)
{
	while (pos < end) {
		struct change ch;
		struct runs r;
		int rc;

		change_init(&ch, o);
		rc = reserve_runs(o, i, &r, &pos, end);
		if (rc == 0)
			rc = change_need(&ch, i, FORK_DATA, r.n);
		change_credits(&ch, 1 + r.n * BLK_TAKE_CREDITS);
		if (rc == 0 && r.n)
			rc = change_begin(&ch, i->ino, 0);
		if (rc == 0 && r.n) {
			rc = insert_runs(&ch, i, &r);
			inode_update(ch.nt.h, i);
		}
		while (r.n)
			blk_unreserve(o->v->alloc, &r.res[--r.n]);
		change_end(&ch);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- zeroing --------------------------------------------------------------------------------- */

/*
 * Written extents in [*pos, to) become unwritten: they read as zeroes and keep their blocks. If one
 * of them cannot be read the others are done: each for itself is whole or not at all.
 * @flags: for the tree nodes that this may take.
 */
static int unwrite_step(struct op *o, struct inode *i, uint64_t *pos, uint64_t to, unsigned flags)
{
	const struct node_env *ne = &o->v->ne;
	unsigned done = 0;
	struct change ch;
	int rc;

	change_init(&ch, o);
	change_credits(&ch, 1);
	rc = change_need(&ch, i, FORK_DATA, 3 * UNWRITE_PARTS);
	if (rc == 0)
		rc = change_begin(&ch, i->ino, flags);
	while (rc == 0 && *pos < to && done < UNWRITE_PARTS) {
		struct ext e;
		uint64_t n;

		rc = ext_map(ne, i, *pos, &e);
		if (rc)
			break;
		n = e.len < to - *pos ? e.len : to - *pos;
		if (e.blk && !(e.flags & LUNFS_EXT_UNWRITTEN)) {
			rc = ext_set_written(ne, &ch.nt, i, *pos, n, false);
			if (rc)
				break;
			done++;
		}
		*pos += n;
	}
	if (ch.nt.h)
		inode_update(ch.nt.h, i);
	change_end(&ch);
	return rc;
}

/* The parts of blocks at both ends of [from, to) become zero. */
static int zero_edges(struct op *o, struct inode *i, uint64_t from, uint64_t to)
{
	uint64_t up = (from + BLK - 1) / BLK * BLK, down = to / BLK * BLK;
	int rc;

	if (up > down) /* within one block */
		return data_zero_part(o->v, i, from, to);
	rc = data_zero_part(o->v, i, from, up);
	return rc ? rc : data_zero_part(o->v, i, down, to);
}

/* ---- inline files ---------------------------------------------------------------------------- */

static int zero_inline(struct op *o, struct inode *i, uint64_t from, uint64_t to)
{
	uint8_t bytes[LUNFS_DATA_FORK_BYTES] = {0};
	struct change ch;
	int rc;

	if (to > i->size)
		to = i->size;
	if (from >= to)
		return 0;
	memcpy(bytes, inline_data(i), (size_t)i->size);
	memset(bytes + from, 0, (size_t)(to - from));
	change_init(&ch, o);
	change_credits(&ch, 1);
	rc = change_begin(&ch, i->ino, 0);
	if (rc == 0)
		inline_set(ch.nt.h, i, bytes, (size_t)i->size);
	change_end(&ch);
	return rc;
}

/* ---- the operation --------------------------------------------------------------------------- */

static int set_end(struct op *o, struct inode *i, uint64_t size)
{
	struct change ch;
	int rc;

	change_init(&ch, o);
	change_credits(&ch, 1);
	rc = change_begin(&ch, i->ino, 0);
	if (rc == 0) {
		if (size > i->size)
			i->size = size;
		inode_touch_data(o->v, i);
		inode_update(ch.nt.h, i);
	}
	change_end(&ch);
	return rc;
}

/* The range reads as zeroes; once. */
static int zero_range(struct op *o, struct inode *i, struct falloc *a)
{
	uint64_t first = (a->off + BLK - 1) / BLK, last = (a->off + a->len) / BLK;
	unsigned flags = (a->mode & FALLOC_FL_PUNCH_HOLE) ? ALLOC_RESERVE_OK : 0;
	int rc = 0;

	if (a->zeroed)
		return 0;
	if (a->pos < first)
		a->pos = first;
	while (rc == 0 && a->pos < last)
		rc = unwrite_step(o, i, &a->pos, last, flags);
	if (rc == 0)
		rc = zero_edges(o, i, a->off, a->off + a->len);
	a->zeroed = rc == 0;
	return rc;
}

static int punch(struct op *o, struct inode *i, struct falloc *a)
{
	uint64_t to = a->off + a->len;
	int rc;

	if (i->data_format == LUNFS_FORK_INLINE)
		rc = a->zeroed ? 0 : zero_inline(o, i, a->off, to);
	else
		rc = zero_range(o, i, a);
	if (rc == 0 && i->data_format == LUNFS_FORK_TREE)
		rc = trunc_remove_unwritten(o, i, (a->off + BLK - 1) / BLK, to / BLK);
	return rc ? rc : set_end(o, i, 0);
}

static int allocate(struct op *o, struct inode *i, struct falloc *a)
{
	uint64_t end = a->off + a->len;
	bool keep = a->mode & FALLOC_FL_KEEP_SIZE;
	int rc = 0;

	if (i->data_format == LUNFS_FORK_INLINE && end <= LUNFS_DATA_FORK_BYTES) {
		if (a->mode & FALLOC_FL_ZERO_RANGE)
			rc = zero_inline(o, i, a->off, end);
		return rc ? rc : set_end(o, i, keep ? 0 : end);
	}
	rc = data_leave_inline(o, i);
	if (rc == 0)
		rc = data_zero_tail(o, i, end);
	if (rc == 0)
		rc = fill_holes(o, i, a->off / BLK, (end + BLK - 1) / BLK);
	if (rc == 0 && (a->mode & FALLOC_FL_ZERO_RANGE))
		rc = zero_range(o, i, a);
	return rc ? rc : set_end(o, i, keep ? 0 : end);
}

static int falloc_body(struct op *o, void *arg)
{
	struct falloc *a = arg;
	struct inode *i;
	int rc;

	rc = op_get(o, a->id, LOCK_EX, LOCAL_EXCL, &i);
	if (rc)
		return rc;
	if (!S_ISREG(i->mode))
		return S_ISDIR(i->mode) ? -EISDIR : -ENODEV;
	if (!a->zeroed)
		rc = priv_drop(o, i, a->suidgid);
	if (rc == 0)
		rc = trunc_finish(o, i);
	if (rc)
		return rc;
	return (a->mode & FALLOC_FL_PUNCH_HOLE) ? punch(o, i, a) : allocate(o, i, a);
}

int vol_fallocate(struct volume *v, const struct op_ctx *c, struct nodeid id, int mode,
		  uint64_t off_bytes, uint64_t len_bytes)
{
	struct falloc a = {.id = id,
			   .mode = mode & ~VFALLOC_KILL_SUIDGID,
			   .suidgid = mode & VFALLOC_KILL_SUIDGID,
			   .off = off_bytes,
			   .len = len_bytes};
	struct op o;
	int rc;

	mode = a.mode;
	if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE &&
	    mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) &&
	    (mode & ~FALLOC_FL_KEEP_SIZE) != FALLOC_FL_ZERO_RANGE)
		return -EOPNOTSUPP;
	if (len_bytes == 0)
		return -EINVAL;
	if (off_bytes > VOL_FILE_MAX || len_bytes > VOL_FILE_MAX - off_bytes)
		return -EFBIG;
	op_init(&o, v, c);
	op_plan(&o, id.ino, LOCK_EX, LOCAL_EXCL);
	rc = op_run(&o, falloc_body, &a);
	/* It took effect; only then, while it waited to give the blocks up, was the file removed.
	 */
	return rc == -ESTALE && a.zeroed ? 0 : rc;
}
