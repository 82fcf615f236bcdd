/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the device and this host are doing: how long everything sent to the device takes (in lunfs's
 * own queue, and in the device), how much of the lease was left when a beat came back, and warnings
 * before any of it becomes trouble. It watches only: nothing that lunfs does depends on it.
 */
#ifndef CLUSTER_HEALTH_H
#define CLUSTER_HEALTH_H

#include "base/dist.h"
#include "base/env.h"

enum health_op {
	HEALTH_LOCK,  /* test and set of a lock record */
	HEALTH_BEAT,  /* ... of the own slot, by a beat */
	HEALTH_SLOT,  /* ... of a slot, by anything else: claim, release, recovery */
	HEALTH_OTHER, /* ... of any other sector */
	HEALTH_READ,  /* plain I/O: requests, a list of transfers sent together counts as one */
	HEALTH_WRITE,
	HEALTH_FLUSH,
	HEALTH_OPS,
};
const char *health_op_name(enum health_op op); /* stable words: "lock", "beat", ... */

enum health_warning {
	HEALTH_BEAT_LATE,	 /* the device took too long for a beat */
	HEALTH_BEAT_QUEUED,	 /* a beat waited in lunfs's own queue */
	HEALTH_BEAT_UNSCHEDULED, /* this host ran the beat too late */
	HEALTH_DOUBTS,		 /* wrong or missing answers to test and sets are on the rise */
	HEALTH_SLOW,		 /* the device is slower than the lease allows */
	HEALTH_QUEUE,		 /* test and sets wait longer in lunfs than in the device */
	HEALTH_BUSY,		 /* the device refuses many as busy */
	HEALTH_WARNINGS,
};
const char *health_warning_name(enum health_warning w); /* the event words of the log */

/* A test and set whose answer was wrong or did not come, or which the device was too busy for. */
enum health_event { HEALTH_COMMAND, HEALTH_DOUBT, HEALTH_REFUSED, HEALTH_EVENTS };

struct health_window { /* what was counted when it began; the beat thread's own */
	uint64_t began_ns;
	unsigned windows; /* so far */
	uint64_t event[HEALTH_EVENTS], doubts_before[8];
	struct dist_copy queue[HEALTH_OTHER + 1], device[HEALTH_OPS];
};

struct health {
	struct clock *clk;
	struct dev *dev;
	uint64_t since_ns;
	struct dist queue[HEALTH_OPS], device[HEALTH_OPS];
	struct dist beat_delay; /* from when a beat was due until it was sent */
	struct dist lease_left; /* when a beat returned; 0: it came back too late */
	atomic_ullong lease_left_min_us;
	atomic_ullong event[HEALTH_EVENTS];
	atomic_ullong warnings[HEALTH_WARNINGS];
	/* the beat thread's own */
	uint64_t told_ns[HEALTH_WARNINGS], untold[HEALTH_WARNINGS];
	uint64_t beat_queue_ns, beat_device_ns; /* of the beat that is on its way */
	struct health_window window;
};

void health_init(struct health *h, const struct env *env);

/* One command or request of kind @op. Any thread; @h may be NULL. */
void health_count(struct health *h, enum health_op op, uint64_t queue_ns, uint64_t device_ns);
/* Plain I/O: it waited in no queue of ours. */
void health_count_io(struct health *h, enum health_op op, uint64_t device_ns);
/* dev_read() that is counted. */
int health_read(const struct env *e, uint64_t off_bytes, size_t len_bytes, void *buf);
void health_note(struct health *h, enum health_event e);

struct health_beat { /* one attempt to beat; moments by the clock */
	uint64_t due_ns, sent_ns, returned_ns;
	uint64_t lease_end_ns; /* as it was when the beat was sent */
	uint32_t beat_ms, deadline_ms;
	bool stands;
};
/* Before the first of them: a beat that somebody else made is none of this thread's. */
void health_beats_begin(struct health *h);
/* After each attempt, on the thread that made it. Logs the warnings; may read sysfs for them. */
void health_beat(struct health *h, const struct health_beat *b);

#endif
