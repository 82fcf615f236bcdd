/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O of the transaction layer. Writes pass the host's gate, and none starts once the volume has
 * failed. A write whose fate is unknown is sent again only once the device proved that the first
 * one cannot land any more; where it cannot prove that, the write has failed (and with it the
 * volume, which leaves the rest to recovery and fencing). A flush carries nothing, so it is simply
 * repeated.
 */
#include "txn/txn_impl.h"

#include <errno.h>

static int write_gate(struct txns *t)
{
	int r;

	if (txn_failed(t))
		return -EIO;
	atomic_fetch_add(&t->gated, 1);
	r = host_write_gate(t->host);
	atomic_fetch_sub(&t->gated, 1);
	return r;
}

static int drain(struct txns *t)
{
	struct dev *d = t->env.dev;

	return d->ops->drain ? d->ops->drain(d) : -EOPNOTSUPP;
}

/* Keep what must be sent again at the front of @io; *n = how many. The first hard error wins. */
static int keep_unknown(struct dev_io *io, size_t *n)
{
	size_t left = 0;
	int r = 0;

	for (size_t i = 0; i < *n; i++) {
		if (io[i].result == -ETIMEDOUT)
			io[left++] = io[i];
		else if (io[i].result && !r)
			r = io[i].result;
	}
	*n = left;
	return r;
}

int txn_write(struct txns *t, struct dev_io *io, size_t n)
{
	for (unsigned tries = 0; tries < IO_TRIES; tries++) {
		int r = write_gate(t);

		if (r)
			return r;
		dev_batch(t->env.dev, io, n);
		r = keep_unknown(io, &n);
		if (r)
			return r;
		if (n == 0)
			return 0;
		if (drain(t))
			return -ETIMEDOUT;
		clock_sleep_ns(t->env.clk, IO_RETRY_NS);
	}
	return -ETIMEDOUT;
}

int txn_read(struct txns *t, struct dev_io *io, size_t n)
{
	int r = 0;

	dev_batch(t->env.dev, io, n);
	for (size_t i = 0; i < n; i++) {
		for (unsigned k = 0; io[i].result == -ETIMEDOUT && k < IO_TRIES; k++) {
			if (host_wait_active(t->host))
				break;
			io[i].result =
			    dev_read(t->env.dev, io[i].off_bytes, io[i].len_bytes, io[i].buf);
		}
		if (io[i].result && !r)
			r = io[i].result;
	}
	return r;
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

static int flush_device(struct txns *t)
{
	int r = -ETIMEDOUT;

	for (unsigned tries = 0; r == -ETIMEDOUT && tries < IO_TRIES; tries++) {
		if (tries && host_wait_active(t->host))
			return -EIO;
		r = dev_flush(t->env.dev);
	}
	return r;
}

/* One flush at a time; who finds none under way leads the next one for all that wait. */
int flush_wait(struct txns *t, uint64_t ticket)
{
	int r = 0;

	mtx_lock(&t->mtx);
	while (t->flush_ended < ticket && !t->failed) {
		uint64_t n;

		if (t->flush_busy) {
			cond_wait(&t->flush_cv, &t->mtx, CLOCK_FOREVER);
			continue;
		}
		t->flush_busy = true;
		n = ++t->flush_begun;
		mtx_unlock(&t->mtx);
		r = flush_device(t);
		mtx_lock(&t->mtx);
		t->flush_busy = false;
		if (r)
			txns_fail_locked(t, "the device failed to flush its cache", r);
		else
			t->flush_ended = n;
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
