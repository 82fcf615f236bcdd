/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads and writes that no thread waits for: a worker sends the transfer and goes on to the next
 * request, and whoever hears of the device's answer gives it to the kernel. It must not sleep, so
 * what has to wait after all goes to a thread of its own.
 */
#include "fuse/front.h"
#include <stdlib.h>

#define LATER_BYTES_MAX (64u << 10) /* copying more than this keeps other answers waiting */

struct data_call {	 /* one of them */
	struct vol_io x; /* first */
	struct data_req r;
	struct op_ctx op;
	struct front *f;
	struct front_buf *buf;
	fuse_req_t req;
	fuse_ino_t ino;
};

static void data_call_answer(struct data_call *d, int rc, size_t done)
{
	int own = wire_fd(); /* whoever ends it may have a request of its own in hand */

	wire_set_fd(front_kept_fd(d->buf));
	if (rc)
		reply_rc(d->req, rc);
	else if (d->x.write)
		fuse_reply_write(d->req, done);
	else
		fuse_reply_buf(d->req, d->x.buf, done);
	wire_set_fd(own);
	d->r.got = done;
	nodes_data_end(d->f->nodes, d->ino, &d->r);
	if (d->r.overtaken)
		inval_later(d->f->inval, d->ino);
	front_kept_done(d->f, d->buf);
	free(d);
}

static void data_call_wait(void *arg)
{
	struct data_call *d = arg;
	size_t done;
	int rc = vol_io_end(&d->x, true, &done);

	if (rc != VOL_IO_LATER)
		data_call_answer(d, rc, done);
}

static void data_call_ended(struct vol_io *x)
{
	struct data_call *d = (struct data_call *)x;
	size_t done;
	int rc = vol_io_end(x, false, &done);

	if (rc == VOL_IO_WAITS)
		front_later(d->f, data_call_wait, d);
	else if (rc != VOL_IO_LATER)
		data_call_answer(d, rc, done);
}

bool data_call_start(fuse_req_t req, fuse_ino_t ino, const struct vol_io *x, struct data_req *r)
{
	struct front_buf *buf = x->len_bytes <= LATER_BYTES_MAX ? front_keep() : NULL;
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct data_call *d = buf ? calloc(1, sizeof(*d)) : NULL;

	if (!d) {
		if (buf)
			front_unkeep(buf);
		return false;
	}
	d->f = req_front(req);
	d->buf = buf;
	d->req = req;
	d->ino = ino;
	d->r = *r;
	d->x = *x;
	d->x.c = &d->op;
	d->x.ended = data_call_ended;
	d->op.uid = ctx->uid;
	d->op.gid = ctx->gid;
	d->op.umask = ctx->umask;
	d->op.admitted = &d->r.admitted;
	d->op.late = r->back;
	d->op.read_excl = nodes_data_begin(d->f->nodes, ino, &d->r) && r->pages && !x->write;
	if (!nodes_behind_write(d->f->nodes, ino, &d->r) && vol_io_start(d->f->vol, &d->x))
		return true;
	atomic_store(&d->r.admitted, false);
	nodes_data_move(d->f->nodes, ino, &d->r, r);
	front_unkeep(buf);
	free(d);
	return false;
}
