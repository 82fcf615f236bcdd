/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File data and the device. All transfers are whole blocks from aligned memory and go straight to
 * the device; several at once where a file lies in pieces. Bytes of a block beyond the end of file
 * are not defined on disk: they are zeroed when the file grows over them.
 */
#include "vol/vol_impl.h"
#include <stdlib.h>

void io_init(struct io_list *l, struct volume *v)
{
	l->v = v;
	l->n = 0;
}

/* A write of unknown fate may land at any time: the volume stops before a lock over it can move. */
int data_write_failed(struct volume *v, int rc)
{
	if (rc != -ETIMEDOUT)
		return rc;
	vol_fail(v, "a write of file data timed out and the device cannot say whether it will "
		    "still land");
	return -EIO;
}

int io_run(struct io_list *l)
{
	unsigned n = l->n, reads = 0;
	int rc = 0;

	l->n = 0;
	for (unsigned k = 0; k < n; k++)
		reads += l->io[k].op == DEV_READ;
	lunfs_assert(reads == 0 || reads == n);
	if (reads)
		rc = host_io_read(&l->v->io, l->io, n);
	else if (n)
		rc = data_write_failed(l->v, host_io_write(&l->v->io, l->io, n));
	return rc;
}

int io_add(struct io_list *l, enum dev_io_op op, uint64_t blk, uint64_t len_blks, void *buf)
{
	int rc = l->n == DATA_IOS ? io_run(l) : 0;

	if (rc)
		return rc;
	l->io[l->n++] = (struct dev_io){.op = op,
					.off_bytes = geo_blk_off(blk),
					.len_bytes = (size_t)(len_blks * BLK),
					.buf = buf};
	return 0;
}

int data_read_blks(struct volume *v, struct inode *i, uint64_t lblk, uint64_t nblks, uint8_t *buf)
{
	struct io_list l;
	int rc = 0;

	io_init(&l, v);
	while (nblks && rc == 0) {
		struct ext e;
		uint64_t n;

		rc = ext_map(&v->ne, i, lblk, &e);
		if (rc)
			break;
		n = e.len < nblks ? e.len : nblks;
		if (e.blk == 0 || (e.flags & LUNFS_EXT_UNWRITTEN))
			memset(buf, 0, (size_t)(n * BLK));
		else
			rc = io_add(&l, DEV_READ, e.blk, n, buf);
		lblk += n;
		nblks -= n;
		buf += n * BLK;
	}
	return rc ? rc : io_run(&l);
}

int data_zero_part(struct volume *v, struct inode *i, uint64_t from, uint64_t to)
{
	struct io_list l;
	uint8_t *buf;
	struct ext e;
	int rc;

	if (from >= to)
		return 0;
	rc = ext_map(&v->ne, i, from / BLK, &e);
	if (rc || e.blk == 0 || (e.flags & LUNFS_EXT_UNWRITTEN))
		return rc;
	buf = dev_buf_alloc((size_t)BLK);
	io_init(&l, v);
	rc = io_add(&l, DEV_READ, e.blk, 1, buf);
	if (rc == 0)
		rc = io_run(&l);
	if (rc == 0) {
		memset(buf + from % BLK, 0, (size_t)(to - from));
		rc = io_add(&l, DEV_WRITE, e.blk, 1, buf);
	}
	if (rc == 0)
		rc = io_run(&l);
	free(buf);
	return rc;
}

int data_zero_tail(struct op *o, struct inode *i, uint64_t off)
{
	uint64_t end = (i->size + BLK - 1) / BLK * BLK;

	if (i->data_format != LUNFS_FORK_TREE || off <= i->size)
		return 0;
	return data_zero_part(o->v, i, i->size, end);
}

/* ---- inline files ---------------------------------------------------------------------------- */

static int move_out(struct change *ch, struct inode *i, struct blk_res *res)
{
	struct ext e = {.lblk = 0, .blk = res->blk, .len = 1, .flags = 0};

	fork_clear(ch->nt.h, i);
	blk_take(ch->nt.h, ch->o->v->alloc, res, 1);
	return ext_insert(&ch->o->v->ne, &ch->nt, i, &e);
}

int data_leave_inline(struct op *o, struct inode *i)
{
	struct volume *v = o->v;
	struct blk_res res;
	struct change ch;
	struct io_list l;
	uint8_t *buf;
	int rc;

	if (i->data_format != LUNFS_FORK_INLINE)
		return 0;
	rc = blk_reserve(v->alloc, 1, i->ino, 0, &res);
	if (rc) {
		if (rc == -EAGAIN)
			o->want = res.want;
		return rc;
	}
	buf = dev_buf_alloc((size_t)BLK);
	memcpy(buf, inline_data(i),
	       i->size < LUNFS_DATA_FORK_BYTES ? (size_t)i->size : LUNFS_DATA_FORK_BYTES);
	io_init(&l, v);
	rc = io_add(&l, DEV_WRITE, res.blk, 1, buf);
	if (rc == 0)
		rc = io_run(&l);
	change_init(&ch, o);
	change_credits(&ch, 2 + BLK_TAKE_CREDITS); /* the first extent stands in the inode */
	if (rc == 0)
		rc = change_begin(&ch, i->ino, 0);
	if (rc == 0) {
		rc = move_out(&ch, i, &res);
		if (rc)
			change_broken(&ch, rc, "an inline file that grows");
		inode_update(ch.nt.h, i);
	} else {
		blk_unreserve(v->alloc, &res);
	}
	change_end(&ch);
	free(buf);
	return rc;
}
