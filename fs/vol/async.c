/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data path that takes no thread for a transfer: reads and overwrites of whole blocks that lie
 * together in written space, under locks that are held already. It pins, maps and sends; when the
 * device has answered, whoever hears of it lets go. All that may have to wait, before or after, is
 * left to a thread that may: nothing is started then, or vol_io_end() says so.
 *
 * The locks stay pinned from before the transfer is sent until its fate is known, as in vol_read()
 * and vol_write(); the answer is checked against the lease after they were let go, as in op_run().
 */
#include "vol/vol_impl.h"
#include <stdlib.h>

enum stage { SENT, ANSWERED, LET_GO }; /* ANSWERED: and the answer is not the last word */

struct vol_io_job {
	struct host_async a; /* first */
	struct vol_io *x;
	struct op o;
	struct inode *i;
	enum stage stage;
	bool stamp; /* the time stamps are ours to set */
	int rc;
};

static void transferred(struct dev_async *a)
{
	struct vol_io_job *j = (struct vol_io_job *)a;

	j->x->ended(j->x);
}

/* ---- start ----------------------------------------------------------------------------------- */

static bool wanted(const struct volume *v, const struct vol_io *x)
{
	if (!v->env.dev->ops->start || (x->write && v->read_only))
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
	if (e.blk == 0 || e.flags || e.len < x->len_bytes / BLK)
		return -EAGAIN;
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
	j = malloc(sizeof(*j));
	if (!j)
		return false;
	j->x = x;
	j->stage = SENT;
	j->stamp = false;
	j->rc = 0;
	j->a.a.done = transferred;
	x->job = j;
	if (prepare(v, j) == 0) {
		if (x->write)
			onodes_write_begin(v->onodes, x->id.ino);
		if (host_io_start(&v->io, &j->a))
			return true;
		if (x->write)
			onodes_write_cancel(v->onodes, x->id.ino);
	}
	op_leave(&j->o);
	free(j);
	return false;
}

/* ---- end ------------------------------------------------------------------------------------- */

/* The fate of the transfer is known. */
static void settled(struct vol_io_job *j, int rc)
{
	struct volume *v = j->o.v;
	struct vol_io *x = j->x;
	bool stale = x->write && rc == 0 && !vol_is_stamped(v, j->i);

	j->rc = x->write ? data_write_failed(v, rc) : rc;
	op_leave(&j->o);
	j->stage = LET_GO;
	if (x->write)
		j->stamp = onodes_write_end(v->onodes, x->id.ino, stale);
}

int vol_io_end(struct vol_io *x, bool may_sleep, size_t *done)
{
	struct vol_io_job *j = x->job;
	struct volume *v = j->o.v;
	int rc;

	if (j->stage == SENT) {
		rc = host_io_started_end(&j->a);
		j->stage = ANSWERED;
		if (rc != HOST_IO_WAITS)
			settled(j, rc);
	}
	if (j->stage == ANSWERED && !may_sleep)
		return VOL_IO_WAITS;
	if (j->stage == ANSWERED)
		settled(j, host_io_started_wait(&j->a));
	if (!may_sleep && (j->stamp || !host_lease_ok(v->host)))
		return VOL_IO_WAITS;
	if (j->stamp) {
		rc = vol_touch(v, x->c, x->id);
		j->rc = j->rc ? j->rc : rc;
	}
	if (!host_lease_ok(v->host)) {
		rc = host_wait_active(v->host);
		j->rc = rc ? rc : j->rc;
	}
	rc = j->rc;
	free(j);
	*done = rc ? 0 : x->len_bytes;
	return rc;
}
