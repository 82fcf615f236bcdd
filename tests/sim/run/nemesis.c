/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Host faults at random moments, as the profile says. */
#include "cover.h"
#include "run.h"

static uint64_t now(const struct sim_run *r)
{
	return clock_now_ns(r->t->clk);
}

static struct sim_host *some_host(struct sim_run *r)
{
	return &r->host[run_random(r, r->plan.hosts)];
}

static void crash(struct sim_run *r)
{
	uint64_t lease = r->t->geo.lease_ms * 1000000ull;

	run_kill(r, some_host(r), run_random(r, 4) == 0, now(r) + run_random(r, 2 * lease));
}

static void leave(struct sim_run *r)
{
	struct sim_host *h = some_host(r);

	if (h->state != H_UP)
		return;
	cover_hit(r, COVER_FAULT_LEAVE);
	h->back_ns = now(r) + run_random(r, SC_S / 2);
	h->leave = true;
}

static void strike(struct sim_run *r)
{
	if (run_random(r, 4) == 0)
		leave(r);
	else
		crash(r);
}

void nemesis_main(void *arg)
{
	struct sim_run *r = arg;

	if (r->plan.profile != PROF_CALM) {
		for (unsigned k = 0; k < r->plan.events; k++) {
			clock_sleep_ns(r->t->clk, run_random(r, r->plan.work_ns / r->plan.events));
			strike(r);
		}
	}
	while (now(r) < r->stop_ns)
		clock_sleep_ns(r->t->clk, SC_S / 20);
}
