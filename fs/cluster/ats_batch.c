/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many atomic operations at once: all commands go to the device together, and so do the re-reads of
 * those that did not succeed; what is still open then is settled one after the other.
 */
#include "cluster/ats_impl.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

static void *alloc_array(size_t n, size_t size)
{
	void *p = calloc(n, size);

	lunfs_assert(p != NULL);
	return p;
}

static void send_all(struct ats_try *t, struct dev_caw_io *io, size_t n)
{
	struct env *e = &t->a->env;
	uint64_t sent, done;

	for (size_t i = 0; i < n; i++) {
		io[i] = (struct dev_caw_io){.off_bytes = t[i].s->off_bytes,
					    .test = t[i].test,
					    .set = t[i].set,
					    .result = -EIO};
	}
	sent = clock_now_ns(e->clk);
	dev_caw_batch(e->dev, io, n);
	done = clock_now_ns(e->clk);
	for (size_t i = 0; i < n; i++)
		ats_count_command(&t[i], &io[i], t[i].entered_ns, sent, done);
}

static void reread(struct ats_try *t, const struct dev_caw_io *io, size_t n)
{
	struct env *e = &t->a->env;
	struct dev_io *rd = alloc_array(n, sizeof(*rd));
	size_t m = 0;

	for (size_t i = 0; i < n; i++) {
		if (io[i].result != DEV_CAW_MISCOMPARE && io[i].result != -ETIMEDOUT)
			continue;
		t[i].now = dev_buf_alloc(e->geo->sector_bytes);
		rd[m++] = (struct dev_io){.op = DEV_READ,
					  .off_bytes = t[i].s->off_bytes,
					  .len_bytes = e->geo->sector_bytes,
					  .buf = t[i].now,
					  .result = -EIO};
	}
	if (m)
		dev_batch(e->dev, rd, m);
	m = 0;
	for (size_t i = 0; i < n; i++) {
		if (!t[i].now)
			continue;
		t[i].now_read = true;
		t[i].now_result = rd[m++].result;
	}
	free(rd);
}

void ats_batch(struct ats *a, struct ats_op *ops, size_t n)
{
	struct ats_try *t;
	struct dev_caw_io *io;
	uint64_t entered = clock_now_ns(a->env.clk);

	if (!n)
		return;
	t = alloc_array(n, sizeof(*t));
	io = alloc_array(n, sizeof(*io));
	for (size_t i = 0; i < n; i++) {
		t[i] =
		    (struct ats_try){.a = a, .s = ops[i].s, .test = ops[i].test, .set = ops[i].set};
		ats_try_begin(&t[i], entered);
	}
	send_all(t, io, n);
	reread(t, io, n);
	for (size_t i = 0; i < n; i++) {
		enum ats_outcome o = ats_try_settle(&t[i], io[i].result);

		ops[i].outcome = ats_try_end(&t[i], o, ops[i].found, &ops[i].error);
	}
	free(io);
	free(t);
}
