/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The front doors of every device: they refuse what no backend should ever see (unaligned, beyond
 * the end, writing to what is read-only), count, and supply loops where a backend has no batch.
 *
 * Nothing is sent again in here: a command whose fate is unknown is the caller's to judge.
 */
#include <errno.h>
#include <lunfs/dev.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define BUF_ALIGN_BYTES 4096u
#define ZERO_CHUNK_BYTES (1u << 20)

void *dev_buf_alloc(size_t len_bytes)
{
	size_t len = (len_bytes + BUF_ALIGN_BYTES - 1) & ~(size_t)(BUF_ALIGN_BYTES - 1);
	void *buf = NULL;
	int rc = len < len_bytes
		     ? ENOMEM
		     : posix_memalign(&buf, BUF_ALIGN_BYTES, len ? len : BUF_ALIGN_BYTES);

	lunfs_assert(rc == 0);
	memset(buf, 0, len ? len : BUF_ALIGN_BYTES);
	return buf;
}

static int range_check(const struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	uint32_t sector = d->id.sector_bytes;

	if (off_bytes % sector || len_bytes % sector)
		return -EINVAL;
	if (off_bytes > d->id.size_bytes || len_bytes > d->id.size_bytes - off_bytes)
		return -EINVAL;
	return 0;
}

static int change_check(const struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	int rc = range_check(d, off_bytes, len_bytes);

	if (rc)
		return rc;
	return d->id.read_only ? -EROFS : 0;
}

static void count_io(struct dev *d, enum dev_io_op op, uint64_t len_bytes)
{
	if (op == DEV_READ) {
		atomic_fetch_add_explicit(&d->stats.reads, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&d->stats.read_bytes, len_bytes, memory_order_relaxed);
	} else {
		atomic_fetch_add_explicit(&d->stats.writes, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&d->stats.write_bytes, len_bytes, memory_order_relaxed);
	}
}

/* Every answer passes here: a reservation conflict means that somebody fenced this host. */
static int answered(struct dev *d, int result)
{
	if (result == -ETIMEDOUT)
		atomic_store_explicit(&d->unanswered, true, memory_order_relaxed);
	if (result == -EBADE && d->conflict)
		d->conflict(d->conflict_ctx);
	return result;
}

int dev_read(struct dev *d, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	int rc = range_check(d, off_bytes, len_bytes);

	if (rc || !len_bytes)
		return rc;
	count_io(d, DEV_READ, len_bytes);
	return answered(d, d->ops->read(d, off_bytes, len_bytes, buf));
}

int dev_write(struct dev *d, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	int rc = change_check(d, off_bytes, len_bytes);

	if (rc || !len_bytes)
		return rc;
	count_io(d, DEV_WRITE, len_bytes);
	return answered(d, d->ops->write(d, off_bytes, len_bytes, buf));
}

int dev_flush(struct dev *d)
{
	atomic_fetch_add_explicit(&d->stats.flushes, 1, memory_order_relaxed);
	return answered(d, d->ops->flush(d));
}

int dev_discard(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	int rc = change_check(d, off_bytes, len_bytes);

	if (rc || !len_bytes)
		return rc;
	if (!d->ops->discard || !d->id.has_discard)
		return -EOPNOTSUPP;
	atomic_fetch_add_explicit(&d->stats.discards, 1, memory_order_relaxed);
	return answered(d, d->ops->discard(d, off_bytes, len_bytes));
}

static int zero_by_writing(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	size_t chunk = len_bytes < ZERO_CHUNK_BYTES ? (size_t)len_bytes : ZERO_CHUNK_BYTES;
	void *zeroes = dev_buf_alloc(chunk);
	int rc = 0;

	while (len_bytes && !rc) {
		size_t n = len_bytes < chunk ? (size_t)len_bytes : chunk;

		rc = dev_write(d, off_bytes, n, zeroes);
		off_bytes += n;
		len_bytes -= n;
	}
	free(zeroes);
	return rc;
}

int dev_zero(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	int rc = change_check(d, off_bytes, len_bytes);

	if (rc || !len_bytes)
		return rc;
	if (d->ops->write_zeroes && d->id.has_write_zeroes) {
		count_io(d, DEV_WRITE, len_bytes);
		rc = d->ops->write_zeroes(d, off_bytes, len_bytes);
		if (rc != -EOPNOTSUPP)
			return answered(d, rc);
	}
	return zero_by_writing(d, off_bytes, len_bytes);
}

static void count_caw_result(struct dev *d, int result)
{
	if (result == DEV_CAW_MISCOMPARE)
		atomic_fetch_add_explicit(&d->stats.miscompares, 1, memory_order_relaxed);
}

int dev_caw(struct dev *d, uint64_t off_bytes, const void *test, const void *set)
{
	int rc = change_check(d, off_bytes, d->id.sector_bytes);

	if (rc)
		return rc;
	atomic_fetch_add_explicit(&d->stats.caws, 1, memory_order_relaxed);
	rc = answered(d, d->ops->compare_and_write(d, off_bytes, test, set));
	count_caw_result(d, rc);
	return rc;
}

static bool batch_sound(const struct dev *d, const struct dev_io *io, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = io[i].op == DEV_READ ? range_check(d, io[i].off_bytes, io[i].len_bytes)
					      : change_check(d, io[i].off_bytes, io[i].len_bytes);

		if (rc || !io[i].len_bytes)
			return false;
	}
	return true;
}

void dev_batch(struct dev *d, struct dev_io *io, size_t n)
{
	if (n > 1 && d->ops->batch && batch_sound(d, io, n)) {
		for (size_t i = 0; i < n; i++)
			count_io(d, io[i].op, io[i].len_bytes);
		d->ops->batch(d, io, n);
		for (size_t i = 0; i < n; i++)
			answered(d, io[i].result);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (io[i].op == DEV_READ)
			io[i].result = dev_read(d, io[i].off_bytes, io[i].len_bytes, io[i].buf);
		else
			io[i].result = dev_write(d, io[i].off_bytes, io[i].len_bytes, io[i].buf);
	}
}

/* ---- without waiting ---------------------------------------------------------------------- */

static _Thread_local struct dev_lane *used;

struct dev_lane *dev_lane_new(struct dev *d)
{
	return d->ops->lane_new ? d->ops->lane_new(d) : NULL;
}

void dev_lane_free(struct dev_lane *l)
{
	if (!l)
		return;
	lunfs_assert(!l->on_way);
	l->ops->free(l);
}

void dev_lane_use(struct dev_lane *l)
{
	used = l;
}

int dev_start(struct dev *d, struct dev_async *a)
{
	const struct dev_io *io = &a->io;
	int rc = io->op == DEV_READ ? range_check(d, io->off_bytes, io->len_bytes)
				    : change_check(d, io->off_bytes, io->len_bytes);

	if (rc)
		return rc;
	if (!used || used->dev != d || !io->len_bytes || (uintptr_t)io->buf % BUF_ALIGN_BYTES)
		return -EAGAIN;
	a->dev = d;
	return used->ops->start(used, a);
}

void dev_lane_turn(struct dev_lane *l)
{
	l->ops->turn(l);
}

void dev_lane_wait(struct dev_lane *l, int fd)
{
	l->ops->wait(l, fd);
}

bool dev_lane_due(const struct dev_lane *l)
{
	return l->ops->due(l);
}

int dev_lane_fd(const struct dev_lane *l)
{
	return l->ops->fd(l);
}

void dev_started_done(struct dev_async *a)
{
	count_io(a->dev, a->io.op, a->io.len_bytes);
	answered(a->dev, a->io.result);
	a->done(a);
}

/* As far as the errno alone tells. */
static enum dev_cause cause_of(int result)
{
	switch (result) {
	case DEV_CAW_GOOD:
	case DEV_CAW_MISCOMPARE:
		return DEV_CAUSE_NONE;
	case -EAGAIN:
		return DEV_CAUSE_BUSY;
	case -EOPNOTSUPP:
		return DEV_CAUSE_OPCODE;
	case -ETIMEDOUT:
		return DEV_CAUSE_NO_ANSWER;
	case -EROFS:
		return DEV_CAUSE_PROTECTED;
	case -EBADE:
		return DEV_CAUSE_CONFLICT;
	case -ENODEV:
		return DEV_CAUSE_GONE;
	case -ENOSPC:
		return DEV_CAUSE_NO_SPACE;
	default:
		return DEV_CAUSE_FAILED;
	}
}

const char *dev_cause_name(enum dev_cause c)
{
	static const char *const name[DEV_CAUSES] = {
	    [DEV_CAUSE_NONE] = "none",
	    [DEV_CAUSE_BUSY] = "busy",
	    [DEV_CAUSE_TASK_SET_FULL] = "task-set-full",
	    [DEV_CAUSE_UNIT_ATTENTION] = "unit-attention",
	    [DEV_CAUSE_NOT_READY] = "not-ready",
	    [DEV_CAUSE_NOT_SENT] = "not-sent",
	    [DEV_CAUSE_OPCODE] = "unsupported-opcode",
	    [DEV_CAUSE_TRANSFER] = "oversized-transfer",
	    [DEV_CAUSE_NO_ANSWER] = "no-answer",
	    [DEV_CAUSE_ABORTED] = "aborted",
	    [DEV_CAUSE_TRANSPORT] = "transport-loss",
	    [DEV_CAUSE_NOT_DURABLE] = "not-durable",
	    [DEV_CAUSE_UNCLEAR] = "unclear-failure",
	    [DEV_CAUSE_PROTECTED] = "write-protected",
	    [DEV_CAUSE_CONFLICT] = "reservation-conflict",
	    [DEV_CAUSE_GONE] = "gone",
	    [DEV_CAUSE_NO_SPACE] = "no-space",
	    [DEV_CAUSE_FAILED] = "failed",
	};

	return (unsigned)c < DEV_CAUSES ? name[c] : "invalid";
}

void dev_caw_batch(struct dev *d, struct dev_caw_io *io, size_t n)
{
	bool together = d->ops->caw_batch != NULL;

	for (size_t i = 0; i < n; i++) {
		together = together && !change_check(d, io[i].off_bytes, d->id.sector_bytes);
		io[i].cause = DEV_CAUSE_NONE;
		io[i].wait_ns = io[i].device_ns = 0;
	}
	if (together && n) {
		atomic_fetch_add_explicit(&d->stats.caws, n, memory_order_relaxed);
		d->ops->caw_batch(d, io, n);
	}
	for (size_t i = 0; i < n; i++) {
		if (together)
			count_caw_result(d, answered(d, io[i].result));
		else
			io[i].result = dev_caw(d, io[i].off_bytes, io[i].test, io[i].set);
		if (!io[i].cause || io[i].result >= 0)
			io[i].cause = cause_of(io[i].result);
	}
}

void dev_facts(struct dev *d, char *buf, size_t len)
{
	buf[0] = '\0';
	if (d->ops->facts)
		d->ops->facts(d, buf, len);
}

void dev_set_deadline(struct dev *d, uint32_t deadline_ms)
{
	d->deadline_ms = deadline_ms;
}

void dev_close(struct dev *d)
{
	if (d)
		d->ops->close(d);
}
