/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counting what was met. */
#include "cover.h"
#include "run.h"

static const char *const texts[COVER_POINTS_N] = {
#define X(name, text) text,
    COVER_POINTS(X)
#undef X
};

const char *cover_text(enum cover_point p)
{
	return texts[p];
}

void cover_add(struct sim_run *r, enum cover_point p, uint64_t n)
{
	__atomic_fetch_add(&r->cover->count[p], n, __ATOMIC_RELAXED);
}

void cover_hit(struct sim_run *r, enum cover_point p)
{
	cover_add(r, p, 1);
}

void cover_ats(struct sim_run *r, const struct ats *a)
{
	SC_CHECK(r->t,
		 r->plan.profile == PROF_LIAR || (!atomic_load(&a->stats.outcome[ATS_WENT_BACK]) &&
						  !atomic_load(&a->stats.outcome[ATS_DAMAGED])),
		 "a host says that the device went back or a record is damaged, which is not so");
	for (unsigned k = 0; k < ATS_OUTCOMES; k++)
		cover_add(r, (enum cover_point)(COVER_ATS_DONE + k),
			  atomic_load(&a->stats.outcome[k]));
}

void cover_volume(struct sim_run *r, struct volume *v)
{
	struct first_counts c = firsts_counts(v->firsts);

	cover_ats(r, &v->ats);
	if (c.pieces > c.commits)
		cover_add(r, COVER_FIRST_TOGETHER, c.pieces - c.commits);
	cover_add(r, COVER_FIRST_IN_THE_WAY, c.in_the_way);
	cover_add(r, COVER_LOCKS_AHEAD, atomic_load(&locks_stats(v->locks)->ahead));
	cover_add(r, COVER_ASKED_AHEAD, aheads_got_from_others(v->aheads));
	cover_add(r, COVER_REFILLED, atomic_load(&txns_stats(v->txns)->cache_refilled));
}

void cover_device(struct sim_run *r)
{
	static const struct {
		enum cover_point p;
		enum simdev_fault_kind kind;
	} table[] = {{COVER_DEV_DELAY, SIMDEV_DELAY},
		     {COVER_DEV_LOST_REPLY, SIMDEV_LOST_REPLY},
		     {COVER_DEV_LOST_COMMAND, SIMDEV_LOST_COMMAND},
		     {COVER_DEV_LATE, SIMDEV_LATE},
		     {COVER_DEV_RESENT, SIMDEV_RESENT},
		     {COVER_DEV_MISCOMPARE, SIMDEV_LIE_MISCOMPARE},
		     {COVER_DEV_BUSY, SIMDEV_BUSY},
		     {COVER_DEV_TASK_SET_FULL, SIMDEV_TASK_SET_FULL},
		     {COVER_DEV_UNIT_ATTENTION, SIMDEV_UNIT_ATTENTION},
		     {COVER_DEV_TRUNCATE, SIMDEV_TRUNCATE}};
	uint64_t faults[SIMDEV_FAULT_KINDS];
	struct simdev_counts c;

	simdev_fault_counts(r->t->medium, faults);
	simdev_counts(r->t->medium, &c);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cover_add(r, table[i].p, faults[table[i].kind]);
	cover_add(r, COVER_DEV_TORN, c.torn);
	cover_add(r, COVER_DEV_LOST_SECTORS, c.lost_sectors);
	cover_add(r, COVER_DEV_CONFLICT, c.conflicts);
	cover_add(r, COVER_DEV_ABORTED, c.aborted);
}

void cover_event(struct sim_run *r, const char *event)
{
	static const struct {
		const char *event;
		enum cover_point p;
	} table[] = {{"host-suspended", COVER_HOST_SUSPENDED},
		     {"host-resumed", COVER_HOST_RESUMED},
		     {"host-lost", COVER_HOST_LOST},
		     {"host-fenced", COVER_HOST_FENCED}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(event, table[i].event) == 0)
			cover_hit(r, table[i].p);
}
