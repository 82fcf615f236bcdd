/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing file data.
 *
 * Whole blocks over written space go in place, many writers side by side (host EX, local shared); a
 * short step, local exclusive, sets the time stamps afterwards: the last one of several does,
 * unless they are of this very tick, for time stamps are as coarse as in the kernel. Whole blocks
 * of the file that are not written yet go side by side, too (first.c). Everything else is done
 * local exclusive in pieces of at most 1 MiB (piece.c).
 *
 * Other hosts see a piece whole or not at all: while the operation may still wait, for room or for
 * the allocator's locks, nothing of the piece is committed. Only where space lies in more runs than
 * one transaction takes is a piece several, and then others may see the first ones if the next
 * has to wait. A write that the full volume cuts short ends there and never gets the rest later.
 */
#include "vol/first.h"

#define TICK_NS 10000000 /* of the time stamps of overwritten data: jiffies with HZ=100 */

struct writing {
	struct nodeid id;
	uint64_t off;
	size_t len, done;
	const uint8_t *buf;
	unsigned flags;
	bool excl, placed;
	bool stamped; /* the time stamps are new enough */
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

/* ---- attributes ------------------------------------------------------------------------------ */

void write_attrs(struct change *ch, struct inode *i, uint64_t end)
{
	if (end > i->size)
		i->size = end;
	inode_touch_data(ch->o->v, i);
	inode_update_times(ch->nt.h, i);
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
		struct piece p;
		int rc;

		piece_init(&p, a->off + a->done, a->len - a->done, a->buf + a->done);
		rc = piece_write(o, i, &p);
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

/* OP_RESTART: it is to be done local exclusive. */
static int side_by_side(struct op *o, struct inode *i, struct writing *a)
{
	int rc = can_overwrite(a, i) ? overwrite(o->v, i, a) : 1;

	if (rc == 0) {
		a->stamped = vol_is_stamped(o->v, i);
		o->goes_on = !a->stamped;
	} else if (rc == 1 && can_overwrite(a, i)) {
		rc = first_write(o, i, a->off, a->len, a->buf);
		a->stamped = rc == 0;
	}
	if (rc == 0)
		a->done = a->len;
	if (rc != 1)
		return rc;
	a->excl = true;
	op_get(o, a->id, LOCK_EX, LOCAL_EXCL, &i);
	return OP_RESTART;
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
	return side_by_side(o, i, a);
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
