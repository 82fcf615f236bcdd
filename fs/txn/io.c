/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O of the transaction layer: the host's plain I/O (cluster/io.h), which ends once the volume has
 * failed, and flushes that callers share. A write that fails takes the volume with it and leaves
 * the rest to recovery and fencing.
 */
#include "txn/txn_impl.h"

#include <errno.h>

int txn_write(struct txns *t, struct dev_io *io, size_t n)
{
	return host_io_write(&t->io, io, n);
}

int txn_read(struct txns *t, struct dev_io *io, size_t n)
{
	return host_io_read(&t->io, io, n);
}

void txn_try_read(struct txns *t, struct dev_io *io, size_t n)
{
	host_io_try_read(&t->io, io, n);
}

int txn_flush(struct txns *t)
{
	return host_io_flush(&t->io);
}

uint64_t flush_ticket_locked(const struct txns *t)
{
	return t->flush_begun + 1;
}

uint64_t flush_ticket(struct txns *t)
{
	uint64_t ticket;

	mtx_lock(&t->mtx);
	ticket = flush_ticket_locked(t);
	mtx_unlock(&t->mtx);
	return ticket;
}

/* One flush at a time; who finds none under way leads the next one for all that wait. */
int flush_wait(struct txns *t, uint64_t ticket)
{
	int r = 0;

	mtx_lock(&t->mtx);
	while (t->flush_ended < ticket && !t->failed) {
		uint64_t n, written, unproven;

		if (t->flush_busy) {
			cond_wait(&t->flush_cv, &t->mtx, CLOCK_FOREVER);
			continue;
		}
		t->flush_busy = true;
		n = ++t->flush_begun;
		mtx_unlock(&t->mtx);
		written = host_written(t->host);
		unproven = locks_unproven(t->locks);
		r = txn_flush(t);
		mtx_lock(&t->mtx);
		t->flush_busy = false;
		if (r) {
			txns_fail_locked(t, "the device failed to flush its cache", r);
		} else {
			t->flush_ended = n;
			t->flush_written = written;
			t->flush_unproven = unproven;
		}
		cond_broadcast(&t->flush_cv);
	}
	r = t->flush_ended >= ticket ? 0 : -EIO;
	mtx_unlock(&t->mtx);
	return r;
}

int flush_now(struct txns *t)
{
	return flush_wait(t, flush_ticket(t));
}
