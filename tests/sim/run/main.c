/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs-sim: command line, and workers: each seed of a batch runs in a process of its own, so one
 * that aborts or hangs is reported, with what it said and how to replay it, and the rest go on.
 */
#include "cover.h"
#include "run.h"

#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX 64u

enum { EX_CLEAN = 0, EX_FAILED = 1, EX_USAGE = 2, EX_COVERAGE = 3 };

static const char usage[] =
    "Usage: lunfs-sim --seed S [--trace] [--hosts N] [--profile P]\n"
    "       lunfs-sim --seeds A..B [--jobs J] [...]\n"
    "       lunfs-sim --random N [--jobs J] [...]\n"
    "\n"
    "Run whole lunfs hosts on a simulated LUN, with random work and random faults, and check\n"
    "everything: what reaches the medium, what the operations answered, what is left.\n"
    "\n"
    "  --seed S             one run; the same seed is the same run, byte for byte\n"
    "  --trace              with --seed: print the time-line\n"
    "  --seeds A..B         all of these\n"
    "  --random N           N fresh ones, which are printed\n"
    "  --hosts N            2 to 8, instead of what the seed says\n"
    "  --profile P          calm, crash, zombie, flaky, power, outage, mixed or liar, instead of\n"
    "                       what the seed says\n"
    "  --jobs J             at the same time (default 1)\n"
    "  --timeout S          seconds of real time until a seed counts as hanging (default 120)\n"
    "  --require-coverage   fail when something that should be met never was\n"
    "  --json               the summary as one JSON object on standard output\n"
    "  --quiet              no progress, no table\n"
    "  --help               print this\n"
    "\n"
    "Exit codes: 0 all runs clean, 1 a run failed, 2 usage, 3 coverage is missing.\n";

struct options {
	uint64_t first, last; /* inclusive */
	unsigned random, jobs, timeout_s;
	bool batch, trace, json, quiet, require_coverage;
	struct plan_force force;
};

struct job {
	pid_t pid; /* 0: free */
	uint64_t seed;
	FILE *said;
};

struct batch {
	const struct options *o;
	struct cover *cover; /* shared with the workers */
	struct job job[JOBS_MAX];
	uint64_t started, ended, failed, total;
	uint64_t *failures; /* seeds */
	struct timespec begun;
};

/* ---- options --------------------------------------------------------------------------------- */

/* Up to @stop, "" the end. -1: it is no number. */
static int number(const char *s, const char *stop, uint64_t *out, const char **rest)
{
	char *end;

	if (*s < '0' || *s > '9')
		return -1;
	errno = 0;
	*out = strtoull(s, &end, 0);
	if (errno || end == s || strncmp(end, stop, strlen(stop) ? strlen(stop) : 1) != 0)
		return -1;
	if (rest)
		*rest = end + strlen(stop);
	return 0;
}

static int range(const char *s, struct options *o)
{
	const char *second;

	if (number(s, "..", &o->first, &second) || number(second, "", &o->last, NULL))
		return -1;
	return o->last < o->first || o->last - o->first >= UINT32_MAX ? -1 : 0;
}

static int small(unsigned min, unsigned max, unsigned *out)
{
	uint64_t n;

	if (number(optarg, "", &n, NULL) || n < min || n > max)
		return -1;
	*out = (unsigned)n;
	return 0;
}

static int option(int c, struct options *o)
{
	switch (c) {
	case 's':
		if (number(optarg, "", &o->first, NULL))
			return -1;
		o->last = o->first;
		return 0;
	case 'S':
		o->batch = true;
		return range(optarg, o);
	case 'r':
		o->batch = true;
		return small(1, 1000000, &o->random);
	case 'n':
		return small(2, SC_HOSTS_MAX, &o->force.hosts);
	case 'p':
		o->force.profile = profile_find(optarg);
		return o->force.profile < 0 ? -1 : 0;
	case 'j':
		return small(1, JOBS_MAX, &o->jobs);
	case 'w':
		return small(1, 86400, &o->timeout_s);
	case 't':
		o->trace = true;
		return 0;
	case 'J':
		o->json = true;
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	case 'C':
		o->require_coverage = true;
		return 0;
	default:
		return -1;
	}
}

/* 0: go on; 1: help was printed. */
static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {{"seed", required_argument, NULL, 's'},
					      {"seeds", required_argument, NULL, 'S'},
					      {"random", required_argument, NULL, 'r'},
					      {"hosts", required_argument, NULL, 'n'},
					      {"profile", required_argument, NULL, 'p'},
					      {"jobs", required_argument, NULL, 'j'},
					      {"timeout", required_argument, NULL, 'w'},
					      {"trace", no_argument, NULL, 't'},
					      {"json", no_argument, NULL, 'J'},
					      {"quiet", no_argument, NULL, 'q'},
					      {"require-coverage", no_argument, NULL, 'C'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	bool any = false;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'h') {
			fputs(usage, stdout);
			return 1;
		}
		any |= c == 's' || c == 'S' || c == 'r';
		if (option(c, o) != 0) {
			fputs("lunfs-sim: wrong option; see lunfs-sim --help\n", stderr);
			return -1;
		}
	}
	if (!any || optind != argc) {
		fputs("lunfs-sim: give --seed, --seeds or --random; see lunfs-sim --help\n",
		      stderr);
		return -1;
	}
	return 0;
}

static void replay_line(FILE *f, const struct options *o, uint64_t seed)
{
	fprintf(f, "lunfs-sim --seed %llu", (unsigned long long)seed);
	if (o->force.hosts)
		fprintf(f, " --hosts %u", o->force.hosts);
	if (o->force.profile >= 0)
		fprintf(f, " --profile %s", profile_name((enum profile)o->force.profile));
	fputs(" --trace\n", f);
}

/* ---- one run --------------------------------------------------------------------------------- */

static void describe(const struct plan *p)
{
	printf("seed %llu: profile %s, %u hosts with %u tasks, sectors of %u bytes, fencing "
	       "%s%s%s%s%s\n",
	       (unsigned long long)p->seed, profile_name(p->profile), p->hosts, p->tasks,
	       p->sector_bytes, p->pr ? "pr" : "timer", p->full ? ", full" : "",
	       p->caw_cached ? ", cached test and sets" : "", p->wide ? ", long names" : "",
	       p->journal_bytes ? ", larger journals" : "");
}

static void one(const struct options *o, struct cover *cover, uint64_t seed, bool say)
{
	struct sim_run *r = calloc(1, sizeof(*r));
	struct rlimit none = {0, 0};

	lunfs_assert(r);
	setrlimit(RLIMIT_CORE, &none);
	alarm(o->timeout_s);
	plan_make(&r->plan, seed, &o->force);
	r->cover = cover;
	r->trace = o->trace;
	if (say)
		describe(&r->plan);
	run_seed(r);
	if (say)
		printf("seed %llu: clean, schedule %016llx\n", (unsigned long long)seed,
		       (unsigned long long)r->hash);
	free(r);
}

/* ---- batches --------------------------------------------------------------------------------- */

static void start(struct batch *b, struct job *j, uint64_t seed)
{
	j->seed = seed;
	j->said = tmpfile();
	lunfs_assert(j->said);
	fflush(stdout);
	fflush(stderr);
	j->pid = fork();
	lunfs_assert(j->pid >= 0);
	b->started++;
	if (j->pid)
		return;
	dup2(fileno(j->said), STDOUT_FILENO);
	dup2(fileno(j->said), STDERR_FILENO);
	one(b->o, b->cover, seed, false);
	fflush(stdout);
	_exit(0);
}

static void failed(struct batch *b, struct job *j, int status)
{
	FILE *f = b->o->json ? stderr : stdout;
	char line[512];

	b->failures[b->failed++] = j->seed;
	fprintf(f, "FAILED seed %llu: %s\n", (unsigned long long)j->seed,
		WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "it hangs"
		: WIFSIGNALED(status)				   ? strsignal(WTERMSIG(status))
								   : "it ended early");
	rewind(j->said);
	for (unsigned n = 0; n < 40 && fgets(line, sizeof(line), j->said); n++)
		fprintf(f, "    %s", line);
	fputs("  replay: ", f);
	replay_line(f, b->o, j->seed);
	fflush(f);
}

static void reap(struct batch *b)
{
	int status;
	pid_t pid;

	do
		pid = wait(&status);
	while (pid < 0 && errno == EINTR);
	lunfs_assert(pid > 0);
	for (unsigned k = 0; k < b->o->jobs; k++) {
		struct job *j = &b->job[k];

		if (j->pid != pid)
			continue;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			failed(b, j, status);
		fclose(j->said);
		j->pid = 0;
		b->ended++;
	}
}

static double seconds(const struct batch *b)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - b->begun.tv_sec) +
	       (double)(now.tv_nsec - b->begun.tv_nsec) / 1e9;
}

static void progress(const struct batch *b)
{
	if (b->o->quiet || b->o->json || b->ended % 100)
		return;
	printf("%llu of %llu seeds, %llu failed, %.0f s\n", (unsigned long long)b->ended,
	       (unsigned long long)b->total, (unsigned long long)b->failed, seconds(b));
	fflush(stdout);
}

static uint64_t next_seed(const struct batch *b)
{
	uint64_t seed;

	if (!b->o->random)
		return b->o->first + b->started;
	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		abort();
	seed >>= 20; /* short enough to copy by hand */
	if (!b->o->json)
		printf("seed %llu\n", (unsigned long long)seed);
	return seed;
}

static struct job *free_job(struct batch *b)
{
	for (unsigned k = 0; k < b->o->jobs; k++)
		if (b->job[k].pid == 0)
			return &b->job[k];
	return NULL;
}

/* Harm that nobody could notice is counted, and need not be met. */
static unsigned never_met(const struct cover *c)
{
	unsigned n = 0;

	for (unsigned p = 0; p < COVER_POINTS_N; p++)
		n += c->count[p] == 0 && p != COVER_LIE_UNSEEN;
	return n;
}

static void summary_text(const struct batch *b)
{
	double s = seconds(b);

	if (!b->o->quiet) {
		for (unsigned p = 0; p < COVER_POINTS_N; p++)
			printf("%12llu  %s%s\n", (unsigned long long)b->cover->count[p],
			       cover_text((enum cover_point)p),
			       b->cover->count[p] ? "" : "  <- never met");
	}
	printf("%llu seeds, %llu failed, %llu operations, %.1f s (%.0f ms a seed)\n",
	       (unsigned long long)b->ended, (unsigned long long)b->failed,
	       (unsigned long long)b->cover->ops, s, 1000 * s / (double)(b->ended ? b->ended : 1));
}

static void summary_json(const struct batch *b)
{
	struct json_object *o = json_object_new_object(), *c = json_object_new_object(),
			   *f = json_object_new_array();

	for (unsigned p = 0; p < COVER_POINTS_N; p++)
		json_object_object_add(c, cover_text((enum cover_point)p),
				       json_object_new_uint64(b->cover->count[p]));
	for (uint64_t k = 0; k < b->failed; k++)
		json_object_array_add(f, json_object_new_uint64(b->failures[k]));
	json_object_object_add(o, "seeds", json_object_new_uint64(b->ended));
	json_object_object_add(o, "failed", json_object_new_uint64(b->failed));
	json_object_object_add(o, "failed_seeds", f);
	json_object_object_add(o, "operations", json_object_new_uint64(b->cover->ops));
	json_object_object_add(o, "seconds", json_object_new_double(seconds(b)));
	json_object_object_add(o, "coverage", c);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	json_object_put(o);
}

static int run_batch(struct batch *b)
{
	const struct options *o = b->o;

	b->total = o->random ? o->random : o->last - o->first + 1;
	b->failures = calloc(b->total, sizeof(*b->failures));
	lunfs_assert(b->failures);
	clock_gettime(CLOCK_MONOTONIC, &b->begun);
	while (b->ended < b->total) {
		struct job *j = b->started < b->total ? free_job(b) : NULL;

		if (j) {
			start(b, j, next_seed(b));
			continue;
		}
		reap(b);
		progress(b);
	}
	if (o->json)
		summary_json(b);
	else
		summary_text(b);
	free(b->failures);
	if (b->failed)
		return EX_FAILED;
	return o->require_coverage && never_met(b->cover) ? EX_COVERAGE : EX_CLEAN;
}

int main(int argc, char **argv)
{
	struct options o = {.jobs = 1, .timeout_s = 120, .force.profile = -1};
	struct batch b = {.o = &o};
	int rc = parse(argc, argv, &o);

	if (rc)
		return rc > 0 ? EX_CLEAN : EX_USAGE;
	b.cover =
	    mmap(NULL, sizeof(*b.cover), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	lunfs_assert(b.cover != MAP_FAILED);
	if (o.batch)
		return run_batch(&b);
	one(&o, b.cover, o.first, true);
	return EX_CLEAN;
}
