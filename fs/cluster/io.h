/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plain I/O of a mounted host. What times out is neither lost nor an error: it waits for as long as
 * the device does not answer and this host has not lost its slot, and goes on by itself. So an
 * outage of the array is a pause. What the device refuses (reservation conflict) had no effect: it
 * waits until this host knows why, and is sent again if it was not fenced. What was not sent, or
 * not again, since its deadline was over (-ECANCELED) goes out once this host may write.
 *
 * A write whose fate is unknown is sent again only once the device has proved that the first one
 * cannot land any more (DESIGN section 4); a device that can never prove it answers -ETIMEDOUT, and
 * the caller must treat the write as one that may land at any time: keep every lock over it, and
 * fail.
 */
#ifndef CLUSTER_IO_H
#define CLUSTER_IO_H

#include "cluster/health.h"
#include "cluster/host.h"

struct host_io { /* one for each layer that does I/O */
	struct host *host;
	struct clock *clk;
	struct dev *dev;
	struct health *health;	 /* may be NULL */
	void (*waits)(void *ctx); /* env.waits */
	void *waits_ctx;
	const atomic_bool *stop; /* ends a wait, with -EIO; may be NULL */
	atomic_uint gated;	 /* threads that wait until the lease is long enough */
	atomic_uint waiting;	 /* threads that wait for the device */
};

static inline void host_io_init(struct host_io *x, const struct env *env, struct host *host,
				const atomic_bool *stop)
{
	x->host = host;
	x->clk = env->clk;
	x->dev = env->dev;
	x->health = env->health;
	x->waits = env->waits;
	x->waits_ctx = env->waits_ctx;
	x->stop = stop;
	atomic_init(&x->gated, 0);
	atomic_init(&x->waiting, 0);
}

/*
 * Gated by host_write_gate(). 0: all written. -EIO: the device failed, the host is lost (fenced) or
 * was stopped; -ETIMEDOUT: see above; -ENOSPC, -EROFS, -ENODEV: of the device.
 */
int host_io_write(struct host_io *x, struct dev_io *io, size_t n);
/* Results in io[].result too; returns the first error. */
int host_io_read(struct host_io *x, struct dev_io *io, size_t n);
/* What can be done without: once, and what is not served now (-ETIMEDOUT, -EBADE) stays so. */
void host_io_try_read(struct host_io *x, struct dev_io *io, size_t n);
int host_io_flush(struct host_io *x);
/*
 * Until nothing that this host has sent is on its way: 0. -EOPNOTSUPP: that can never be told;
 * -EBADE, -ENODEV: of the device; -EIO: the host is lost or was stopped.
 */
int host_io_drain(struct host_io *x);

/*
 * One transfer without a thread that waits for it, for as long as all goes well: @a is sent if
 * nothing has to be waited for before (false: use the calls above). When a->done() has come,
 * host_io_started_end() is called once, from there, and tells the result that the calls above
 * would have given; or HOST_IO_WAITS: there is something to wait for, and a thread that may has to
 * call host_io_started_wait() for it, with the memory and all locks over it kept until then.
 */
#define HOST_IO_WAITS 1
struct host_async {
	struct dev_async a; /* first; io and done are the caller's */
	struct host_io *x;
	uint64_t sent_ns;
};
bool host_io_start(struct host_io *x, struct host_async *a);
int host_io_started_end(struct host_async *a);
int host_io_started_wait(struct host_async *a);

#endif
