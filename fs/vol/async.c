/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data path that takes no thread for a transfer: reads and writes of whole blocks that lie
 * together, before the end of file, under locks that are held already. It pins, maps and sends;
 * when the device has answered, whoever hears of it lets go, or for a first write parks until one
 * of many commits them all (first.c). All that may have to wait afterwards is left to a thread that
 * may: vol_io_end() says so. Nothing is started where a lock would have to be waited for.
 *
 * The locks stay pinned from before the transfer is sent until its fate is known, as in vol_read()
 * and vol_write(); the answer is checked against the lease after they were let go, as in op_run().
 */
#include "vol/first.h"
#include <stddef.h>
#include <stdlib.h>

enum stage {
	SENT,
	ANSWERED, /* and the answer is not the last word */
	PARKED,	  /* somebody else commits it */
	LEADS,	  /* is to commit for others, too */
	REDO,	  /* is to be done anew, as vol_write() does it */
	LET_GO,
};

struct vol_io_job {
	struct host_async a; /* first */
	struct vol_io *x;
	struct op o;
	struct inode *i;
	enum stage stage;
	bool stamp; /* the time stamps are ours to set */
	bool first; /* @f is used */
	struct first f;
	int rc;
};

static void transferred(struct dev_async *a)
{
	struct vol_io_job *j = (struct vol_io_job *)a;

	j->x->ended(j->x);
}

/* Another one has committed it, or could not. */
static void committed(struct first *f)
{
	struct vol_io_job *j = (struct vol_io_job *)((char *)f - offsetof(struct vol_io_job, f));

	j->x->ended(j->x);
}

/* ---- start ----------------------------------------------------------------------------------- */

static bool wanted(const struct volume *v, const struct vol_io *x)
{
	if (x->write && v->read_only)
		return false;
	return x->len_bytes && x->off_bytes % BLK == 0 && x->len_bytes % BLK == 0 &&
	       (uintptr_t)x->buf % BLK == 0 && x->off_bytes < VOL_FILE_MAX &&
	       x->len_bytes <= VOL_FILE_MAX - x->off_bytes;
}

static bool fits(const struct vol_io *x, const struct inode *i)
{
	if (!S_ISREG(i->mode) || i->data_format != LUNFS_FORK_TREE ||
	    x->off_bytes + x->len_bytes > i->size)
		return false;
	return !x->write || x->c->late || priv_none(i, x->flags & VWRITE_KILL_SUIDGID);
}

/* To space that is not written yet. */
static int prepare_first(struct vol_io_job *j, uint64_t *blk)
{
	struct vol_io *x = j->x;

	j->f.ended = committed;
	if (first_begin(&j->o, j->i, &j->f, x->off_bytes, x->len_bytes, x->buf))
		return -EAGAIN;
	if (j->f.p.n > 1) {
		first_end(j->o.v, &j->f);
		return -EAGAIN;
	}
	j->first = true;
	*blk = j->f.p.part[0].blk;
	return 0;
}

/* 0: pinned, and @j->a says what to send. */
static int prepare(struct volume *v, struct vol_io_job *j)
{
	struct vol_io *x = j->x;
	enum lock_mode mode = x->write || (x->c->read_excl && !v->read_only) ? LOCK_EX : LOCK_SH;
	struct ext e;
	int rc;

	op_init(&j->o, v, x->c);
	j->o.reading = !x->write;
	j->o.pin_flags = LOCK_DRAIN;
	op_plan(&j->o, x->id.ino, mode, LOCAL_SHARED);
	rc = op_try(&j->o);
	if (rc == 0)
		rc = op_get(&j->o, x->id, mode, LOCAL_SHARED, &j->i);
	if (rc == 0 && !fits(x, j->i))
		rc = -EAGAIN;
	if (rc == 0)
		rc = ext_map(&v->ne, j->i, x->off_bytes / BLK, &e);
	if (rc)
		return rc;
	if (x->write && (e.blk == 0 || e.flags))
		rc = prepare_first(j, &e.blk);
	else if (e.blk == 0 || e.flags || e.len < x->len_bytes / BLK)
		rc = -EAGAIN;
	if (rc)
		return rc;
	j->a.a.io = (struct dev_io){.op = x->write ? DEV_WRITE : DEV_READ,
				    .off_bytes = geo_blk_off(e.blk),
				    .len_bytes = x->len_bytes,
				    .buf = x->buf};
	return 0;
}

bool vol_io_start(struct volume *v, struct vol_io *x)
{
	struct vol_io_job *j;

	if (!wanted(v, x))
		return false;
	j = calloc(1, sizeof(*j));
	if (!j)
		return false;
	j->x = x;
	j->stage = SENT;
	j->a.a.done = transferred;
	x->job = j;
	if (prepare(v, j) == 0) {
		if (x->write)
			onodes_write_begin(v->onodes, x->id.ino);
		if (host_io_start(&v->io, &j->a))
			return true;
		if (x->write)
			onodes_write_cancel(v->onodes, x->id.ino);
		if (j->first)
			first_end(v, &j->f);
	}
	op_leave(&j->o);
	free(j);
	return false;
}

/* ---- end ------------------------------------------------------------------------------------- */

/* How it ended is known, but for the time stamps. */
static void settled(struct vol_io_job *j, int rc, bool stale)
{
	struct volume *v = j->o.v;
	struct vol_io *x = j->x;

	op_leave(&j->o);
	j->stage = LET_GO;
	j->rc = rc;
	if (x->write)
		j->stamp = onodes_write_end(v->onodes, x->id.ino, stale);
}

static void first_settled(struct vol_io_job *j, int rc)
{
	settled(j, rc < 0 ? rc : 0, false);
	if (rc == 1)
		j->stage = REDO;
}

/* The device's answer is the last word. False: somebody else commits it; @j may be gone. */
static bool answered(struct vol_io_job *j, int rc)
{
	struct vol_io *x = j->x;

	if (x->write)
		rc = data_write_failed(j->o.v, rc);
	if (!j->first) {
		settled(j, rc, x->write && rc == 0 && !vol_is_stamped(j->o.v, j->i));
	} else if (rc) {
		first_end(j->o.v, &j->f);
		first_settled(j, rc);
	} else {
		j->stage = PARKED;
		if (!first_sent(&j->o, j->i, &j->f))
			return false;
		j->stage = LEADS;
	}
	return true;
}

/* 0: settled. */
static int go_on(struct vol_io_job *j, bool may_sleep)
{
	struct volume *v = j->o.v;
	int rc;

	if (j->stage == SENT) {
		rc = host_io_started_end(&j->a);
		j->stage = ANSWERED;
		if (rc != HOST_IO_WAITS && !answered(j, rc))
			return VOL_IO_LATER;
	}
	if (j->stage == PARKED)
		first_settled(j, first_end(v, &j->f));
	if (!may_sleep && j->stage != LET_GO)
		return VOL_IO_WAITS;
	if (j->stage == ANSWERED && !answered(j, host_io_started_wait(&j->a)))
		return VOL_IO_LATER;
	if (j->stage == LEADS) {
		first_lead(&j->o, j->i, &j->f);
		first_settled(j, first_end(v, &j->f));
	}
	return 0;
}

static int redo(struct volume *v, struct vol_io *x)
{
	size_t done;
	int rc =
	    vol_write(v, x->c, x->id, x->off_bytes, x->len_bytes, x->buf, x->flags, &done, NULL);

	x->len_bytes = done;
	return rc;
}

int vol_io_end(struct vol_io *x, bool may_sleep, size_t *done)
{
	struct vol_io_job *j = x->job;
	struct volume *v = j->o.v;
	int rc = go_on(j, may_sleep);

	if (rc)
		return rc;
	if (!may_sleep && (j->stamp || !host_lease_ok(v->host)))
		return VOL_IO_WAITS;
	if (j->stage == REDO)
		j->rc = redo(v, x);
	if (j->stamp) {
		rc = vol_touch(v, x->c, x->id);
		j->rc = j->rc ? j->rc : rc;
	}
	rc = may_sleep ? vol_wait_active(v) : 0; /* else it was looked at above */
	rc = rc ? rc : j->rc;
	free(j);
	*done = rc ? 0 : x->len_bytes;
	return rc;
}
