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
	for (unsigned k = 0; k < ATS_OUTCOMES; k++)
		cover_add(r, (enum cover_point)(COVER_ATS_DONE + k),
			  atomic_load(&a->stats.outcome[k]));
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
