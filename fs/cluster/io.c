/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plain I/O that outlives an outage of the device: io.h. */
#include "cluster/io.h"

#include "base/log.h"

#include <errno.h>

#define MS_NS 1000000ull
#define NAP_NS (100 * MS_NS)

struct outage { /* of one caller's I/O */
	struct host_io *x;
	uint64_t since_ns; /* 0: all is well */
};

static bool stopped(const struct host_io *x)
{
	enum host_state st = host_state(x->host);

	return st == HOST_LOST || st == HOST_NONE || (x->stop && atomic_load(x->stop));
}

static int gate(struct outage *u)
{
	int r;

	if (stopped(u->x))
		return -EIO;
	atomic_fetch_add(&u->x->gated, 1);
	r = host_write_begin(u->x->host);
	atomic_fetch_sub(&u->x->gated, 1);
	return r;
}

/* All of these tell how long the device took. */
static void timed_batch(struct host_io *x, enum health_op op, struct dev_io *io, size_t n)
{
	uint64_t sent = clock_now_ns(x->clk);

	dev_batch(x->dev, io, n);
	health_count_io(x->health, op, clock_now_ns(x->clk) - sent);
}

static int timed_flush(struct host_io *x)
{
	uint64_t sent = clock_now_ns(x->clk);
	int r = dev_flush(x->dev);

	health_count_io(x->health, HEALTH_FLUSH, clock_now_ns(x->clk) - sent);
	return r;
}

/* One sentence an outage, whoever meets it first. */
static void begins(struct outage *u, const char *what, uint64_t off_bytes)
{
	if (u->since_ns)
		return;
	u->since_ns = clock_now_ns(u->x->clk) | 1;
	if (atomic_fetch_add(&u->x->waiting, 1) == 0)
		log_warn(
		    "io-waiting",
		    "%s does not serve a %s at byte %llu: no answer in time, or refused. Nothing "
		    "is "
		    "lost: it waits and goes on when the device serves it; look at its paths and "
		    "at the array.",
		    u->x->dev->id.name, what, (unsigned long long)off_bytes);
}

static void ends(struct outage *u)
{
	uint64_t now = clock_now_ns(u->x->clk);

	if (u->since_ns && atomic_fetch_sub(&u->x->waiting, 1) == 1)
		log_info("io-resumed", "%s: no I/O waits for the device any more, after %llu ms.",
			 u->x->dev->id.name,
			 (unsigned long long)((now > u->since_ns ? now - u->since_ns : 0) / MS_NS));
}

int host_io_drain(struct host_io *x)
{
	int r;

	while (!stopped(x)) {
		r = dev_drain(x->dev);
		if (!r || r == -EOPNOTSUPP || r == -EBADE || r == -ENODEV)
			return r;
		clock_sleep_ns(x->clk, NAP_NS);
	}
	return -EIO;
}

static bool passes(int result)
{
	return result == -ETIMEDOUT || result == -EBADE || result == -ECANCELED;
}

/*
 * Keep what must be sent again at the front of @io; *n = how many, *unknown = may some of it still
 * land? The first hard error wins.
 */
static int keep_undone(struct dev_io *io, size_t *n, bool *unknown)
{
	size_t left = 0;
	int r = 0;

	*unknown = false;
	for (size_t i = 0; i < *n; i++) {
		if (io[i].result == -ETIMEDOUT)
			*unknown = true;
		if (passes(io[i].result))
			io[left++] = io[i];
		else if (io[i].result && !r)
			r = io[i].result;
	}
	*n = left;
	return r;
}

static int write_gated(struct outage *u, struct dev_io *io, size_t n)
{
	int r = gate(u);

	if (r)
		return r;
	timed_batch(u->x, HEALTH_WRITE, io, n);
	host_write_end(u->x->host);
	return 0;
}

/*
 * A hard error of one element counts only when no other one may still land: the caller may give
 * the blocks to somebody else on the strength of it. @sent: that was done once, results are there.
 */
static int write_all(struct outage *u, struct dev_io *io, size_t n, bool sent)
{
	bool unknown;
	int hard = 0;

	for (;; sent = false) {
		int r = sent ? 0 : write_gated(u, io, n);

		if (r)
			return r;
		r = keep_undone(io, &n, &unknown);
		hard = hard ? hard : r;
		if (n == 0)
			return hard;
		if (unknown || io[0].result == -ECANCELED)
			begins(u, "write", io[0].off_bytes);
		if (unknown)
			r = host_io_drain(u->x);
		if (unknown && r)
			return -ETIMEDOUT;
		if (hard)
			return hard;
	}
}

int host_io_write(struct host_io *x, struct dev_io *io, size_t n)
{
	struct outage u = {.x = x};
	int r = write_all(&u, io, n, false);

	ends(&u);
	return r;
}

static int wait_and_see(struct outage *u)
{
	clock_sleep_ns(u->x->clk, NAP_NS);
	return stopped(u->x) ? -EIO : host_wait_active(u->x->host);
}

static int read_again(struct outage *u, struct dev_io *io)
{
	int r = io->result;

	begins(u, "read", io->off_bytes);
	while (passes(r)) {
		r = wait_and_see(u);
		if (r)
			continue;
		timed_batch(u->x, HEALTH_READ, io, 1);
		r = io->result;
	}
	return r;
}

void host_io_try_read(struct host_io *x, struct dev_io *io, size_t n)
{
	if (x->waits)
		x->waits(x->waits_ctx);
	timed_batch(x, HEALTH_READ, io, n);
}

int host_io_read(struct host_io *x, struct dev_io *io, size_t n)
{
	struct outage u = {.x = x};
	int r = 0;

	host_io_try_read(x, io, n);
	for (size_t i = 0; i < n; i++) {
		if (passes(io[i].result))
			io[i].result = read_again(&u, &io[i]);
		if (io[i].result && !r)
			r = io[i].result;
	}
	ends(&u);
	return r;
}

int host_io_flush(struct host_io *x)
{
	struct outage u = {.x = x};
	int r = timed_flush(x);

	while (passes(r)) {
		begins(&u, "flush", 0);
		r = wait_and_see(&u);
		if (!r)
			r = timed_flush(x);
	}
	ends(&u);
	return r;
}

/* ---- without a thread that waits ------------------------------------------------------------- */

bool host_io_start(struct host_io *x, struct host_async *a)
{
	bool write = a->a.io.op == DEV_WRITE;

	if (stopped(x) || (write && !host_write_try(x->host)))
		return false;
	a->x = x;
	a->sent_ns = clock_now_ns(x->clk);
	if (dev_start(x->dev, &a->a) == 0)
		return true;
	if (write)
		host_write_end(x->host);
	return false;
}

int host_io_started_end(struct host_async *a)
{
	struct host_io *x = a->x;
	bool write = a->a.io.op == DEV_WRITE;

	health_count_io(x->health, write ? HEALTH_WRITE : HEALTH_READ,
			clock_now_ns(x->clk) - a->sent_ns);
	if (write)
		host_write_end(x->host);
	return passes(a->a.io.result) ? HOST_IO_WAITS : a->a.io.result;
}

int host_io_started_wait(struct host_async *a)
{
	struct outage u = {.x = a->x};
	int r = a->a.io.op == DEV_WRITE ? write_all(&u, &a->a.io, 1, true)
					: read_again(&u, &a->a.io);

	ends(&u);
	return r;
}
