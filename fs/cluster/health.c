/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Warnings before trouble. The beat thread judges: each beat at once, all else by windows of so
 * many beats, each compared with the ones before it. What a warning is about is looked for where
 * the time went: in the device, in lunfs's queue, or on this machine before anything was sent.
 */
#include "cluster/health.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MS_NS UINT64_C(1000000)
#define RELAXED memory_order_relaxed
#define WINDOW_BEATS 20u     /* a minute, by default */
#define TELL_EVERY_BEATS 20u /* at most one sentence of a kind in this time */
#define LATE_SHARE 2u	     /* of the I/O deadline: a beat later than half of it is late */
#define SCHED_SHARE 4u	     /* ... and one that was sent later than a quarter of it */
#define QUEUE_SHARE 32u	     /* ... and a p99 of the queue above this part of it */
#define DOUBTS_MIN 4u	     /* a window with fewer is no reason to say anything */
#define DOUBTS_RISE 2u	     /* times the mean of the windows before it */
#define SAMPLES_MIN 20u	     /* for a p99 to mean something */
#define BUSY_MIN 20u
#define BUSY_SHARE 10u /* one in so many */

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

const char *health_op_name(enum health_op op)
{
	static const char *const name[HEALTH_OPS] = {"lock", "beat",  "slot", "other",
						     "read", "write", "flush"};

	return (unsigned)op < HEALTH_OPS ? name[op] : "invalid";
}

const char *health_warning_name(enum health_warning w)
{
	static const char *const name[HEALTH_WARNINGS] = {
	    [HEALTH_BEAT_LATE] = "beat-late",
	    [HEALTH_BEAT_QUEUED] = "beat-queued",
	    [HEALTH_BEAT_UNSCHEDULED] = "beat-unscheduled",
	    [HEALTH_DOUBTS] = "ats-doubts-rising",
	    [HEALTH_SLOW] = "device-slow",
	    [HEALTH_QUEUE] = "ats-queue-long",
	    [HEALTH_BUSY] = "device-busy",
	};

	return (unsigned)w < HEALTH_WARNINGS ? name[w] : "invalid";
}

void health_init(struct health *h, const struct env *env)
{
	memset(h, 0, sizeof(*h));
	h->clk = env->clk;
	h->dev = env->dev;
	h->since_ns = h->window.began_ns = clock_now_ns(h->clk);
	atomic_store(&h->lease_left_min_us, UINT64_MAX);
}

/* ---- counting ------------------------------------------------------------------------------ */

void health_count(struct health *h, enum health_op op, uint64_t queue_ns, uint64_t device_ns)
{
	if (!h)
		return;
	dist_add(&h->queue[op], queue_ns);
	dist_add(&h->device[op], device_ns);
	if (op == HEALTH_BEAT) {
		h->beat_queue_ns += queue_ns;
		h->beat_device_ns += device_ns;
	}
}

void health_count_io(struct health *h, enum health_op op, uint64_t device_ns)
{
	if (h)
		dist_add(&h->device[op], device_ns);
}

int health_read(const struct env *e, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	uint64_t sent = clock_now_ns(e->clk);
	int r = dev_read(e->dev, off_bytes, len_bytes, buf);

	health_count_io(e->health, HEALTH_READ, clock_now_ns(e->clk) - sent);
	return r;
}

void health_note(struct health *h, enum health_event e)
{
	atomic_fetch_add_explicit(&h->event[e], 1, RELAXED);
}

/* ---- saying -------------------------------------------------------------------------------- */

/* Count it; true: say it now, with *untold like it unsaid since the last time. */
static bool say(struct health *h, enum health_warning w, const struct health_beat *b,
		uint64_t *untold)
{
	uint64_t now = clock_now_ns(h->clk);

	atomic_fetch_add_explicit(&h->warnings[w], 1, RELAXED);
	if (h->told_ns[w] && now < h->told_ns[w] + TELL_EVERY_BEATS * b->beat_ms * MS_NS) {
		h->untold[w]++;
		return false;
	}
	h->told_ns[w] = now | 1;
	*untold = h->untold[w];
	h->untold[w] = 0;
	return true;
}

/* What to look at: " (sdb: queue depth 1, time-out 30 s, running)", or nothing. */
static const char *facts(struct health *h, char buf[256])
{
	char text[240];

	dev_facts(h->dev, text, sizeof(text));
	snprintf(buf, 256, "%s%s%s", text[0] ? " (" : "", text, text[0] ? ")" : "");
	return buf;
}

static const char *more_text(uint64_t untold, char buf[64])
{
	buf[0] = '\0';
	if (untold)
		snprintf(buf, 64, " (%" PRIu64 " more like this since the last report)", untold);
	return buf;
}

/* ---- a beat -------------------------------------------------------------------------------- */

struct shares { /* where the time of a beat went, ms */
	uint64_t all, host, queue, device, deadline, left;
};

static void tell_beat(struct health *h, enum health_warning w, const struct shares *s,
		      uint64_t untold)
{
	const char *dev = h->dev->id.name;
	char look[256], more[64];

	more_text(untold, more);
	if (w == HEALTH_BEAT_UNSCHEDULED)
		log_warn(health_warning_name(w),
			 "A beat of this host was sent %" PRIu64
			 " ms late, before %s had any part in it (the I/O deadline is %" PRIu64
			 " ms, %" PRIu64 " ms of the lease were left when it came back): this "
			 "machine or the daemon was stopped, paused, swapping or overloaded; look "
			 "at its load, memory and hypervisor%s.",
			 s->host, dev, s->deadline, s->left, more);
	else if (w == HEALTH_BEAT_QUEUED)
		log_warn(
		    health_warning_name(w),
		    "A beat of this host waited %" PRIu64 " of %" PRIu64
		    " ms in lunfs's own queue to %s (the I/O deadline is %" PRIu64 " ms, %" PRIu64
		    " ms of the lease were left): more is sent at once than goes to the device "
		    "at once; look at its queue depth%s%s.",
		    s->queue, s->all, dev, s->deadline, s->left, facts(h, look), more);
	else
		log_warn(health_warning_name(w),
			 "A beat of this host came back from %s after %" PRIu64
			 " ms, later than half the I/O deadline of %" PRIu64 " ms (%" PRIu64
			 " ms in the test and set, the rest in reads, pauses and further tries); "
			 "%" PRIu64 " ms of the lease were left: look at the queue depth and path "
			 "states of the disk%s, the array's load and its firmware%s.",
			 dev, s->all, s->deadline, s->device, s->left, facts(h, look), more);
}

static void judge_beat(struct health *h, const struct health_beat *b)
{
	uint64_t deadline_ns = b->deadline_ms * MS_NS;
	uint64_t delay = b->sent_ns > b->due_ns ? b->sent_ns - b->due_ns : 0;
	uint64_t left = b->lease_end_ns > b->returned_ns ? b->lease_end_ns - b->returned_ns : 0;
	uint64_t all = b->returned_ns - b->sent_ns + delay, untold = 0;
	struct shares s = {.all = all / MS_NS,
			   .host = delay / MS_NS,
			   .queue = h->beat_queue_ns / MS_NS,
			   .device = h->beat_device_ns / MS_NS,
			   .deadline = b->deadline_ms,
			   .left = left / MS_NS};
	enum health_warning w = HEALTH_BEAT_LATE;

	if (all <= deadline_ns / LATE_SHARE && delay <= deadline_ns / SCHED_SHARE)
		return;
	if (delay >= all / 2)
		w = HEALTH_BEAT_UNSCHEDULED;
	else if (h->beat_queue_ns >= all / 2)
		w = HEALTH_BEAT_QUEUED;
	if (say(h, w, b, &untold))
		tell_beat(h, w, &s, untold);
}

static void count_beat(struct health *h, const struct health_beat *b)
{
	uint64_t left = b->lease_end_ns > b->returned_ns ? b->lease_end_ns - b->returned_ns : 0;
	unsigned long long min = atomic_load_explicit(&h->lease_left_min_us, RELAXED);

	dist_add(&h->beat_delay, b->sent_ns > b->due_ns ? b->sent_ns - b->due_ns : 0);
	if (!b->stands)
		return;
	dist_add(&h->lease_left, left);
	if (left / 1000 < min) /* this thread alone stores it */
		atomic_store_explicit(&h->lease_left_min_us, left / 1000, RELAXED);
}

/* ---- a window ------------------------------------------------------------------------------ */

static void add_up(struct dist_copy *sum, const struct dist_copy *c)
{
	sum->n += c->n;
	sum->sum_us += c->sum_us;
	for (unsigned i = 0; i < DIST_BUCKETS; i++)
		sum->bucket[i] += c->bucket[i];
}

static void judge_doubts(struct health *h, const struct health_beat *b, uint64_t doubts,
			 uint64_t commands)
{
	struct health_window *w = &h->window;
	unsigned kept =
	    w->windows < ARRAY_LEN(w->doubts_before) ? w->windows : ARRAY_LEN(w->doubts_before);
	uint64_t before = 0, untold = 0;
	char look[256], more[64];

	for (unsigned i = 0; i < kept; i++)
		before += w->doubts_before[i];
	w->doubts_before[w->windows % ARRAY_LEN(w->doubts_before)] = doubts;
	if (doubts < DOUBTS_MIN || (kept && doubts * kept <= DOUBTS_RISE * before))
		return;
	if (!say(h, HEALTH_DOUBTS, b, &untold))
		return;
	log_warn(
	    health_warning_name(HEALTH_DOUBTS),
	    "Of %" PRIu64 " test and sets that this host sent to %s in the last %" PRIu64
	    " s, %" PRIu64 " were answered wrongly or not at all (miscompares of what is equal, "
	    "lost answers), against %" PRIu64 " in such a time before; all were sent again or "
	    "explained: look at the messages of the kernel and the array about its paths%s, and "
	    "at the array's firmware, before it gets worse%s.",
	    commands, h->dev->id.name,
	    (uint64_t)((clock_now_ns(h->clk) - w->began_ns) / (1000 * MS_NS)), doubts,
	    kept ? before / kept : 0, facts(h, look), more_text(untold, more));
}

static void judge_device(struct health *h, const struct health_beat *b, const char *op,
			 const struct dist_copy *c)
{
	uint64_t deadline_us = b->deadline_ms * 1000ull, untold = 0;
	uint64_t p99 = c->n >= SAMPLES_MIN ? dist_quantile_us(c, 990) : 0, top = dist_top_us(c);
	char look[256], more[64];

	if (top < deadline_us && p99 <= deadline_us / 2)
		return;
	if (!say(h, HEALTH_SLOW, b, &untold))
		return;
	log_warn(
	    health_warning_name(HEALTH_SLOW),
	    "Device %s is slower than the lease allows: of %" PRIu64 " %s commands the slowest "
	    "took at least %" PRIu64 " ms and 99 %% up to %" PRIu64 " ms, with an I/O deadline of "
	    "%u ms; this host may be suspended or declared dead by the others: look at the queue "
	    "depth and path states of the disk%s, the array's load and its firmware, or format "
	    "with a longer --timing%s.",
	    h->dev->id.name, c->n, op, top / 1000, dist_quantile_us(c, 990) / 1000, b->deadline_ms,
	    facts(h, look), more_text(untold, more));
}

static void judge_queue(struct health *h, const struct health_beat *b,
			const struct dist_copy *queue, const struct dist_copy *device)
{
	uint64_t p99 = dist_quantile_us(queue, 990), untold = 0;
	char look[256], more[64];

	if (queue->n < SAMPLES_MIN || queue->sum_us <= device->sum_us ||
	    p99 <= b->deadline_ms * 1000ull / QUEUE_SHARE)
		return;
	if (!say(h, HEALTH_QUEUE, b, &untold))
		return;
	log_warn(
	    health_warning_name(HEALTH_QUEUE),
	    "Test and sets to %s waited longer in lunfs's own queue (%" PRIu64 " us on average, 99 "
	    "%% up to %" PRIu64 " us) than they took in the device (%" PRIu64
	    " us on average): more "
	    "is sent at once than goes to the device at once; look at its queue depth%s%s.",
	    h->dev->id.name, queue->sum_us / queue->n, p99,
	    device->n ? device->sum_us / device->n : 0, facts(h, look), more_text(untold, more));
}

static void judge_busy(struct health *h, const struct health_beat *b, uint64_t refused,
		       uint64_t commands)
{
	uint64_t untold = 0;
	char look[256], more[64];

	if (refused < BUSY_MIN || refused * BUSY_SHARE < commands)
		return;
	if (!say(h, HEALTH_BUSY, b, &untold))
		return;
	log_warn(health_warning_name(HEALTH_BUSY),
		 "Device %s refused %" PRIu64 " of %" PRIu64
		 " test and sets as busy or with a full "
		 "queue; they were sent again after a pause: the array is loaded beyond what it "
		 "accepts from all hosts together; look at its load and at the queue depth of the "
		 "disk%s%s.",
		 h->dev->id.name, refused, commands, facts(h, look), more_text(untold, more));
}

static void judge_window(struct health *h, const struct health_beat *b)
{
	struct health_window *w = &h->window;
	struct dist_copy queue = {0}, device = {0}, part;
	uint64_t in[HEALTH_EVENTS];

	for (unsigned e = 0; e < HEALTH_EVENTS; e++) {
		uint64_t now = atomic_load_explicit(&h->event[e], RELAXED);

		in[e] = now - w->event[e];
		w->event[e] = now;
	}
	for (unsigned op = 0; op < HEALTH_OPS; op++) {
		dist_since(&h->device[op], &w->device[op], &part);
		judge_device(h, b, health_op_name((enum health_op)op), &part);
		if (op > HEALTH_OTHER)
			continue;
		add_up(&device, &part);
		dist_since(&h->queue[op], &w->queue[op], &part);
		add_up(&queue, &part);
	}
	judge_queue(h, b, &queue, &device);
	judge_doubts(h, b, in[HEALTH_DOUBT], in[HEALTH_COMMAND]);
	judge_busy(h, b, in[HEALTH_REFUSED], in[HEALTH_COMMAND]);
	w->windows++;
	w->began_ns = clock_now_ns(h->clk);
}

void health_beats_begin(struct health *h)
{
	h->beat_queue_ns = h->beat_device_ns = 0;
}

void health_beat(struct health *h, const struct health_beat *b)
{
	count_beat(h, b);
	judge_beat(h, b);
	health_beats_begin(h);
	if (clock_now_ns(h->clk) - h->window.began_ns >= WINDOW_BEATS * b->beat_ms * MS_NS)
		judge_window(h, b);
}
