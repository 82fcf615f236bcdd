/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to the simulated device:
 *
 *   simdev.c        what a command does to the medium, and when
 *   simdev_ops.c    the functions of struct dev_ops: from submission to answer
 *   simdev_plan.c   when a command takes effect and is answered
 *   simdev_fault.c  which fault hits which command; outages; counts
 *   simdev_pr.c     persistent reservations
 *   simdev_trace.c  events told to whoever traces
 *   simmedium.c     media, handles and snapshots; looking and tampering
 */
#ifndef TESTS_SIMDEV_IMPL_H
#define TESTS_SIMDEV_IMPL_H

#include "base/log.h"
#include "simclock.h"
#include "simdev.h"
#include "simpages.h"
#include "simrand.h"

#define SIMDEV_MAX_FAULTS 32
#define SIMDEV_PIECES 4u
#define SIMDEV_FIRST_NEXUS 0x10000u /* smaller ones are for simdev_attach_nexus() alone */
#define SIMDEV_CHANGES (SIMDEV_WRITE | SIMDEV_CAW | SIMDEV_DISCARD)

enum pr_action { PR_PROBE, PR_REGISTER, PR_ANYWAY, PR_RESERVE, PR_PREEMPT, PR_READ };

struct pr_cmd {
	enum pr_action action;
	uint64_t own, other;	    /* keys; REGISTER: old and new */
	struct dev_pr_state *state; /* READ; NULL: nobody is there to read it */
};

struct piece {				/* of a command: what takes effect in one moment */
	uint64_t from_bytes, len_bytes; /* counted from the command's begin */
	uint64_t due_ns;
};

struct cmd { /* one command on its way */
	enum simdev_op op;
	uint64_t off_bytes, len_bytes;
	void *in;	 /* read */
	const void *out; /* write, CAW's set; NULL: zeroes */
	const void *test;
	struct pr_cmd pr;
	struct simdev *s;
	struct simdev_fault fault;
	uint64_t number, submitted_ns, answer_ns;
	uint64_t epoch, aborts, outages; /* of medium and handle when it was submitted */
	struct piece piece[SIMDEV_PIECES];
	unsigned n_pieces, landed; /* 0 pieces: it never takes effect */
	bool equal;		   /* SIMDEV_LIE_SPLIT: what the first step found */
	bool lasts_later;	   /* CAW: seen with its first piece, durable with the second */
	bool late;		   /* answered before it takes effect */
	int result;
};

/*
 * A command that is on its way without its task: it lands when its time has come, whatever has
 * become of who sent it.
 */
struct flight {
	struct flight *next;
	struct cmd c;
	uint8_t *set, *test; /* copies that c.out and c.test point to */
	uint64_t due_ns;     /* of the next piece */
	bool wanted;	     /* a task waits for its result */
	bool over;
};

struct pr_reg {
	unsigned nexus;
	uint64_t key;
};

struct simdev_pr {
	bool supported, aptpl, reserved;
	uint32_t generation;
	size_t n;
	struct pr_reg reg[DEV_PR_KEYS_MAX];
};

struct outage {
	uint64_t until_ns; /* 0: none */
	enum simdev_outage_how how;
};

struct rot { /* sectors that cannot be read */
	uint64_t *off_bytes;
	size_t n, cap;
};

#define SIMDEV_CACHED_CAWS 64u

struct cached_caw { /* seen, and not durable by itself yet */
	uint64_t off_bytes;
	const struct simdev *s;
};

struct simdev_medium {
	pthread_mutex_t mtx; /* recursive: a monitor may look */
	struct clock *clk;
	unsigned refs;
	uint64_t size_bytes;
	uint32_t sector_bytes, phys_bytes;
	uint64_t rng, min_ns, max_ns, linger_ns, epoch, commands, numbers;
	bool can_drain, caw_cached;
	bool telling;		/* a monitor is being called */
	struct flight *flying;	/* by due_ns */
	struct flight *over;	/* landed, or never will; a task still wants the result */
	struct simdev *handles; /* closed ones too */
	unsigned next_nexus;
	struct simdev_pr pr;
	struct outage outage;
	struct rot rot;
	struct simdev_snapshot *old; /* what SIMDEV_STALE answers */
	struct simdev_chaos *chaos;
	simdev_hook hook;
	void *hook_ctx;
	simdev_monitor monitor;
	void *monitor_ctx;
	simdev_trace trace;
	void *trace_ctx;
	struct cached_caw caw[SIMDEV_CACHED_CAWS];
	unsigned n_caw;
	struct simdev_counts counts;
	uint64_t fault_counts[SIMDEV_FAULT_KINDS];
	struct simpages pages;
};

struct simdev_snapshot {
	struct simpages pages;
};

struct simdev {
	struct dev dev; /* first */
	struct simdev_medium *m;
	struct simdev *next; /* of the medium */
	unsigned nexus;
	char label[32];
	uint64_t aborts, outages; /* +1 each time its commands are aborted, or its transport goes */
	bool attention;		  /* its next command answers unit attention */
	atomic_bool killed;
	bool closed;
	struct outage outage;
	struct simdev_chaos *chaos;
	const struct simdev_snapshot *stale;
	uint64_t stale_off_bytes, stale_len_bytes;
	unsigned n_faults;
	struct simdev_fault fault[SIMDEV_MAX_FAULTS];
};

static inline struct simdev *simdev_of(struct dev *d)
{
	return (struct simdev *)d;
}

static inline void medium_lock(struct simdev_medium *m)
{
	lunfs_assert(pthread_mutex_lock(&m->mtx) == 0);
}

static inline void medium_unlock(struct simdev_medium *m)
{
	lunfs_assert(pthread_mutex_unlock(&m->mtx) == 0);
}

static inline uint64_t medium_now(const struct simdev_medium *m)
{
	return simclock_true_ns(m->clk);
}

extern const struct dev_ops simdev_ops;
extern const struct dev_pr_ops simdev_pr_ops;

/* One command from its submission to its answer. simdev_ops.c */
int simdev_command(struct simdev *s, struct cmd *c);

/* In all below the medium is locked. simdev.c: */

/* All that was due by now takes effect. */
void simdev_land_due(struct simdev_medium *m);
/* The next piece of @c takes effect at @at_ns; sets c->result. */
void simdev_land(struct simdev_medium *m, struct cmd *c, uint64_t at_ns);
/* Send @c off, with copies of its data. With @wanted the caller must simdev_collect() it. */
struct flight *simdev_fly(struct simdev_medium *m, const struct cmd *c, bool wanted);
void simdev_flight_free(struct flight *f);
int simdev_collect(struct simdev_medium *m, struct flight *f);
/* @f, no longer linked, will not land any more; its answer is @result. */
void simdev_drop(struct simdev_medium *m, struct flight *f, int result, const char *why);
void simdev_drop_all(struct simdev_medium *m, const char *why);
/* What @s has in flight and is waited for: all, a part or nothing of it still lands. */
void simdev_scatter(struct simdev_medium *m, const struct simdev *s, int result, const char *why);
/* All that is on its way from @nexus is gone; @told: its handles' next command hears of it. */
void simdev_abort_nexus(struct simdev_medium *m, unsigned nexus, bool told);

/* simdev_plan.c: */
uint64_t simdev_latency(struct simdev_medium *m);
/* @ns: what it takes without a fault. Sets pieces and answer_ns, or result where it has no piece.
 */
void simdev_plan(struct cmd *c, uint64_t ns);

/* simdev_fault.c: */
uint64_t simdev_deadline_ns(const struct simdev *s);
void simdev_fault_choose(struct simdev *s, struct cmd *c);
void simdev_fault_count(struct simdev_medium *m, struct cmd *c);
const struct outage *simdev_outage_of(const struct simdev *s, uint64_t now_ns); /* NULL: none */
void simdev_outage_begin(struct simdev *s, uint64_t until_ns, enum simdev_outage_how how);
bool simdev_rotten(const struct simdev_medium *m, uint64_t off_bytes, uint64_t len_bytes);
void simdev_rot_add(struct simdev_medium *m, uint64_t off_bytes, uint64_t len_bytes);
void simdev_rot_heal(struct simdev_medium *m, uint64_t off_bytes, uint64_t len_bytes);
void simdev_old_free(struct simdev_medium *m);

/* simdev_pr.c: */
bool simdev_pr_conflict(struct simdev_medium *m, unsigned nexus);
void simdev_pr_power(struct simdev_medium *m); /* power was lost */
int simdev_pr_effect(struct simdev_medium *m, const struct cmd *c);
void simdev_pr_text(const struct cmd *c, char *buf, size_t len);

/* simdev_trace.c: */
void simdev_tell(struct simdev_medium *m, enum simdev_event_kind what, const struct cmd *c,
		 uint64_t at_ns, const char *text);
void simdev_note(struct simdev_medium *m, const struct simdev *s, const char *text);

#endif
