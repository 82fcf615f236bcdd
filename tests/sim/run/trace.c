/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The time-line of a run on standard output: virtual time, host, what happened. Log lines of the
 * production code come by a wrapped log_msg().
 */
#include "cover.h"
#include "run.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void line(const char *host, const char *fmt, va_list ap)
{
	double at = (double)(simclock_true_ns(the_run->t->clk) - the_run->begin_ns) / 1e9;

	printf("%12.6f  %-6s ", at, host);
	vprintf(fmt, ap);
	putchar('\n');
}

void trace_line(const char *host, const char *fmt, ...)
{
	va_list ap;

	if (!the_run || !the_run->trace)
		return;
	va_start(ap, fmt);
	line(host, fmt, ap);
	va_end(ap);
}

void trace_host(unsigned host, const char *fmt, ...)
{
	char name[16];
	va_list ap;

	if (!the_run || !the_run->trace)
		return;
	snprintf(name, sizeof(name), "host%u", host);
	va_start(ap, fmt);
	line(name, fmt, ap);
	va_end(ap);
}

/* Something is wrong with the device or with what stands on it. */
static bool is_complaint(enum log_level lvl, const char *event)
{
	static const char *const also[] = {"ats-unreliable", "ats-unexplained", "ats-went-back",
					   "ats-damaged",    "owner-ahead",	"lock-damaged"};

	for (size_t i = 0; i < sizeof(also) / sizeof(also[0]); i++)
		if (strcmp(event, also[i]) == 0)
			return true;
	return lvl == LOG_LVL_ERR;
}

/* Who lost its place was told so, by whom and why: that nothing works any more blames no device. */
static void blames_device(struct sim_run *r, unsigned host, const char *event)
{
	const struct inc *i = r->host[host].inc;

	if (strcmp(event, "journal-failed") == 0 && i && i->v && !i->leaving &&
	    host_state(vol_host(i->v)) == HOST_LOST)
		run_wrong(r, "host %u has lost its place and blames the device for it", host);
}

static void on_event(void *ctx, const struct simdev_event *e)
{
	struct sim_run *r = ctx;
	char text[400];

	puts(simdev_event_format(e, r->begin_ns, text, sizeof(text)));
}

void trace_device(struct sim_run *r)
{
	if (r->trace)
		simdev_set_trace(r->t->medium, on_event, r);
}

void __wrap_log_msg(enum log_level lvl, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void __wrap_log_msg(enum log_level lvl, const char *event, const char *fmt, ...)
{
	static const char *const level[] = {"", "", "", "error", "warning", "", "info", "debug"};
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!the_run) {
		if (lvl <= LOG_LVL_ERR)
			fprintf(stderr, "lunfs-sim: %s: %s\n", event, text);
		return;
	}
	cover_event(the_run, event);
	the_run->said |= is_complaint(lvl, event);
	if (simclock_group(the_run->t->clk)) {
		unsigned host = simclock_group(the_run->t->clk) - 1;

		trace_host(host, "LOG %s %s: %s", level[lvl], event, text);
		blames_device(the_run, host, event);
	} else {
		trace_line("log", "%s %s: %s", level[lvl], event, text);
	}
}
