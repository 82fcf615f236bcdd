/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is what stands on the medium allowed? The history of operations is cut off where the power went:
 * every host that was up is dead from then on, and what was read after the recovery are the
 * operations of a host that came later. lin.c of lunfs-sim says whether one choice of surviving
 * transactions explains it all.
 */
#include "crash.h"

#include "base/log.h"
#include "cover.h"
#include "lin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define INC_READER 3u

struct sim_run *the_run;
bool crash_trace;
char crash_complaint[256];

static char wrong[512];

/* ---- what the parts of lunfs-sim that are linked in ask for ---------------------------------- */

void run_wrong(struct sim_run *r, const char *fmt, ...)
{
	va_list ap;

	if (r->wrong)
		return;
	r->wrong = true;
	va_start(ap, fmt);
	vsnprintf(wrong, sizeof(wrong), fmt, ap);
	va_end(ap);
}

void cover_hit(struct sim_run *r, enum cover_point p)
{
	(void)r;
	(void)p;
}

void trace_host(unsigned host, const char *fmt, ...)
{
	va_list ap;

	if (!crash_trace)
		return;
	printf("    host%u: ", host);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void __wrap_log_msg(enum log_level lvl, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void __wrap_log_msg(enum log_level lvl, const char *event, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (crash_trace)
		printf("    %s: %s\n", event, text);
	if (lvl <= LOG_LVL_ERR && !crash_complaint[0])
		snprintf(crash_complaint, sizeof(crash_complaint), "%s: %.200s", event, text);
}

/*
 * Its number stands in the slots of the hosts, and what is chosen by chance depends on what an
 * image holds: the same for every worker and replay. There is no process of this number.
 */
pid_t __wrap_getpid(void);
pid_t __wrap_getpid(void)
{
	return 0x7ffffff0;
}

/* ---- histories ------------------------------------------------------------------------------- */

/* As it was known at event @until: what had no answer by then has none. */
static void forget_answer(struct hop *h, uint64_t until)
{
	if (h->ret <= until)
		return;
	h->ret = HOP_NEVER;
	h->rc = 0;
	h->out = (struct nodeid){0};
	h->done = 0;
	h->in_place = false;
}

void hist_copy(struct sim_run *to, const struct hop *hop, size_t n, uint64_t until)
{
	uint64_t last = history_now(to->hist);

	for (size_t i = 0; i < n; i++) {
		struct hop *h;

		if (!hop[i].call || hop[i].call > until)
			continue;
		h = hop_begin(to, hop[i].host, 0, hop[i].kind);
		lunfs_assert(h && h->index == hop[i].index);
		*h = hop[i];
		forget_answer(h, until);
		if (h->call > last)
			last = h->call;
		if (h->ret != HOP_NEVER && h->ret > last)
			last = h->ret;
	}
	while (history_now(to->hist) < last)
		history_tick(to->hist);
}

void hist_keep(struct sim_run *r, struct hop **hop, size_t *n)
{
	*n = history_len(r->hist);
	*hop = calloc(*n + 1, sizeof(**hop));
	lunfs_assert(*hop);
	for (size_t i = 0; i < *n; i++)
		(*hop)[i] = *history_at(r->hist, i);
	hist_end(r);
}

void hist_end(struct sim_run *r)
{
	for (size_t i = 0; i < history_len(r->hist); i++)
		history_at(r->hist, i)->data = NULL;
	history_free(r->hist);
	r->hist = NULL;
}

/* ---- the verdict ----------------------------------------------------------------------------- */

static void kill_host(struct inc *i, unsigned host, const struct rec_host *h, uint64_t end)
{
	i->host = host;
	i->end = h->up == UP_LEFT ? INC_CLEAN : h->up == UP_NOT ? INC_RUNS : INC_KILLED;
	i->end_ev = end;
	i->durable_lo = h->lo;
	i->durable_hi = h->hi;
}

static void add_reading(struct sim_run *run, const struct obs *o, uint64_t from)
{
	for (size_t i = 0; i < o->n_hops; i++) {
		struct hop *h = hop_begin(run, o->hop[i].host, 0, o->hop[i].kind);
		uint32_t index = h->index;

		lunfs_assert(h);
		*h = o->hop[i];
		h->index = index;
		h->inc = INC_READER;
		h->call += from;
		h->ret += from;
		h->point += from;
	}
}

bool judge(const struct record *r, size_t at, const struct obs *o, char *why, size_t why_len)
{
	const struct rec_event *e = &r->rec.event[at];
	const struct history *hist = r->run.hist;
	struct sim_run *run = calloc(1, sizeof(*run));
	size_t n = history_len(hist);
	bool good;

	lunfs_assert(run);
	run->t = (struct simcluster *)(uintptr_t)&r->t;
	run->root = r->base->root;
	run->n_incs = INC_READER + 1;
	run->inc[0].end = INC_CLEAN;
	run->hist = history_new(run, n + o->n_hops + 1);
	for (unsigned h = 0; h < SC_HOSTS_MAX; h++)
		run->host[h].inc = &run->inc[INC_READER];
	for (unsigned h = 0; h < CRASH_HOSTS; h++) {
		kill_host(&run->inc[1 + h], h, &e->host[h], e->history + 1);
		run->host[h].inc = &run->inc[1 + h];
	}
	if (n)
		hist_copy(run, history_at(hist, 0), n, e->history);
	add_reading(run, o, e->history + 2);
	wrong[0] = '\0';
	lin_check(run);
	good = !run->wrong;
	snprintf(why, why_len, "%s", wrong);
	hist_end(run);
	free(run);
	return good;
}
