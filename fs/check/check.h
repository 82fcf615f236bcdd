/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device check: proves on a device what lunfs relies on, by trying it, and gives one verdict.
 *
 * Writes nowhere but in the scratch area that every volume reserves (LUNFS_SCRATCH_OFF), so it may
 * run while hosts have the volume mounted, on several hosts at once. Next to cluster/ats.c this is
 * the one place that issues the atomic operation: it does not use it, it tests it.
 *
 * Knows the device and the clock interface only, so the simulator can take the device's place.
 */
#ifndef CHECK_CHECK_H
#define CHECK_CHECK_H

#include "dev/paths.h"

#include <lunfs/dev.h>

#define CHECK_SESSIONS_MAX 16u
#define CHECK_TASKS_MAX 16u /* of each session */
#define CHECK_HOSTS_MAX 12u
#define CHECK_RESULTS_MAX 24u
#define CHECK_VALUES_MAX 16u

enum check_grade { /* of one test, and what it does to the verdict */
		   CHECK_OK,
		   CHECK_NOTE,	  /* worth knowing, changes nothing */
		   CHECK_LIMIT,	  /* fit with limits */
		   CHECK_BAD,	  /* unfit */
		   CHECK_UNKNOWN, /* could not be told: no verdict but "unfit" any more */
		   CHECK_SKIPPED, /* the need for it, or the leave, was not there */
};

enum check_verdict { CHECK_FIT, CHECK_FIT_WITH_LIMITS, CHECK_UNFIT, CHECK_UNDECIDED };

struct check_value {
	const char *key; /* unit last, as in names of variables */
	uint64_t value;
};

struct check_result {
	const char *name; /* one stable word */
	enum check_grade grade;
	char text[400];	  /* one sentence or two: what was found */
	char advice[400]; /* what to do about it; "": nothing */
	struct check_value value[CHECK_VALUES_MAX];
	unsigned values;
};

struct check_facts { /* of the device, as this machine knows them; "" and 0: not known */
	char vendor[32], product[64], revision[32], transport[32];
	struct disk_facts disk;
};

struct check_config {
	struct clock *clk;
	/* One more session with the device. As dev_open(). */
	int (*open)(void *ctx, struct dev **out, char *why, size_t why_len);
	void *ctx;
	const struct check_facts *facts;
	/*
	 * Leave to write into the scratch area; without it only facts are stated. @destructive: a
	 * device that holds nothing of value and is in nobody's use, so that discards and
	 * reservations may be tried too.
	 */
	bool may_write, destructive;
	/*
	 * With @destructive: also see what a COMPARE AND WRITE that is refused leaves behind. A
	 * target with a known fault (Linux's own) is of no use after that until it is set up anew.
	 */
	bool provoke;
	bool volume;				 /* it holds a lunfs volume ... */
	uint32_t volume_cell_bytes;		 /* ... with cells of this size */
	uint32_t beat_ms, deadline_ms, lease_ms; /* to be met: the volume's, or the usual ones */
	unsigned sessions, tasks;		 /* 0: 4 and 8 */
	uint32_t run_ms;			 /* about how long all takes */
	unsigned hosts;				 /* that check at once, this one included; 0 = 1 */
	uint32_t wait_ms;			 /* how long to wait for them */
	char host[64];				 /* this one's name */
	uint64_t boot;				 /* tells machines apart */
	/* Called from the running task: what is being done, and how much of all is. May be NULL. */
	void (*progress)(void *ctx, const char *what, unsigned percent);
};

struct check;

struct check *check_new(const struct check_config *cfg); /* @cfg->facts and all else is copied */
/*
 * All tests, in the calling task. Each wait is bounded, if the device's calls are. After this the
 * device is as it was, but for the scratch area.
 */
void check_run(struct check *c);
void check_stop(struct check *c); /* from any task: end soon; what is left out is not decided */
/* May be called at any time, from any task: copies of the results so far; how many there are. */
unsigned check_results(struct check *c, struct check_result out[CHECK_RESULTS_MAX]);
/* For a caller whose patience is at its end while check_run() still runs. */
void check_add_hang(struct check *c);
enum check_verdict check_verdict(const struct check_result *r, unsigned n);
/* After check_run() only. */
void check_free(struct check *c);

const char *check_grade_name(enum check_grade g);     /* "ok", "note", "limit" ... */
const char *check_verdict_name(enum check_verdict v); /* "fit", "fit with limits" ... */

#endif
