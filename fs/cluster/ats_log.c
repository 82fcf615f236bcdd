/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How atomic operations ended and how long they took: counters and distributions, and whether a
 * sentence is due (ats_say.c has the sentences). Lost races are normal: counted, not told.
 */
#include "cluster/ats_impl.h"

#include <string.h>

#define TELL_EVERY_NS 5000000000ull /* at most one sentence of a kind in this time */
#define RELAXED memory_order_relaxed

const char *ats_outcome_name(enum ats_outcome o)
{
	static const char *const names[ATS_OUTCOMES] = {
	    [ATS_DONE] = "done",	   [ATS_DONE_LATE] = "done-late",
	    [ATS_LOST_RACE] = "lost-race", [ATS_UNEXPLAINED] = "unexplained",
	    [ATS_WENT_BACK] = "went-back", [ATS_DAMAGED] = "damaged",
	    [ATS_UNKNOWN] = "unknown",	   [ATS_FENCED] = "fenced",
	    [ATS_ERROR] = "error",
	};

	return (unsigned)o < ATS_OUTCOMES ? names[o] : "invalid";
}

static void count(atomic_ullong *n)
{
	atomic_fetch_add_explicit(n, 1, RELAXED);
}

bool ats_is_doubt(enum dev_cause c)
{
	return c == DEV_CAUSE_NO_ANSWER || c == DEV_CAUSE_ABORTED || c == DEV_CAUSE_TRANSPORT ||
	       c == DEV_CAUSE_NOT_DURABLE || c == DEV_CAUSE_UNCLEAR;
}

void ats_count_command(struct ats_try *t, const struct dev_caw_io *io, uint64_t ready_ns,
		       uint64_t sent_ns, uint64_t done_ns)
{
	struct ats_stats *st = &t->a->stats;
	struct health *h = &t->a->health;
	uint64_t wait = io->device_ns ? io->wait_ns : 0, all = done_ns - sent_ns;
	uint64_t device = io->device_ns ? io->device_ns : all;

	count(&st->commands);
	if (t->commands++)
		count(&st->retries);
	if (io->result == DEV_CAW_MISCOMPARE)
		count(&st->miscompares);
	if (io->cause)
		count(&st->cause[io->cause]);
	t->cause = io->cause;
	if (ats_is_doubt(io->cause) || (io->cause && !ats_is_doubt(t->blame)))
		t->blame = io->cause;
	health_count(h, t->op, sent_ns - ready_ns + wait, device);
	health_note(h, HEALTH_COMMAND);
	if (ats_is_doubt(io->cause))
		health_note(h, HEALTH_DOUBT);
	if (io->cause == DEV_CAUSE_BUSY || io->cause == DEV_CAUSE_TASK_SET_FULL)
		health_note(h, HEALTH_REFUSED);
}

void ats_count_false(struct ats_try *t)
{
	count(&t->a->stats.false_miscompares);
	health_note(&t->a->health, HEALTH_DOUBT);
}

/* Sentences of one kind are rationed together; each kind of error is one. */
static unsigned kind_of(const struct ats_try *t, enum ats_outcome o)
{
	return o == ATS_ERROR ? (unsigned)ATS_OUTCOMES + (unsigned)t->blame : (unsigned)o;
}

void ats_count_outcome(struct ats_try *t, enum ats_outcome o)
{
	struct ats *a = t->a;
	uint64_t now = clock_now_ns(a->env.clk), untold = 0;
	unsigned kind = kind_of(t, o);
	bool say;

	count(&a->stats.outcome[o]);
	if (o == ATS_DONE || o == ATS_LOST_RACE)
		return;
	if (o == ATS_DONE_LATE && !t->blame) /* it miscompared with itself */
		health_note(&a->health, HEALTH_DOUBT);
	mtx_lock(&a->mtx);
	say = !a->told_ns[kind] || now >= a->told_ns[kind] + TELL_EVERY_NS;
	if (say) {
		a->told_ns[kind] = now | 1;
		untold = a->untold[kind];
		a->untold[kind] = 0;
	} else {
		a->untold[kind]++;
	}
	mtx_unlock(&a->mtx);
	if (say)
		ats_say(t, o, untold);
}
