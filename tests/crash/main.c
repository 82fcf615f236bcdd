/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs-crash: command line, and workers. A worker takes group after group of workloads; if it
 * aborts or hangs, the cut that it was at is reported, and another one goes on behind it.
 */
#include "crash.h"
#include "simrand.h"

#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX 64u
#define SHOWN_LINES 60u

enum { EX_CLEAN = 0, EX_FAILED = 1, EX_USAGE = 2 };

static const char usage[] =
    "Usage: lunfs-crash [--plan PLAN] [--seed S] [--jobs J] [...]\n"
    "       lunfs-crash --replay WORKLOAD:EVENT:CHOICE\n"
    "\n"
    "Run workloads on a device that writes down what passes, cut the power at every point of the\n"
    "recording, mount what is left, and check it with fsck and against a model of the file "
    "system.\n"
    "\n"
    "  --plan PLAN          what to run, a list of FAMILY[:N] with commas between them; families:\n"
    "                         one       every single operation, and a sync\n"
    "                         two       every pair; N: of so many second operations, by seed\n"
    "                         two-host  every pair on two hosts; N as above\n"
    "                         three     N sequences of three, by seed\n"
    "                         random    N long ones on one host or two, by seed\n"
    "                       default: one,two:2,two-host:1,three:20,random:16\n"
    "  --all                one,two,two-host,three:1000,random:300: hours\n"
    "  --seed S             of what is chosen by chance (default 1)\n"
    "  --again N            cut the recovery of one image in N, too (default 16; 0: of none)\n"
    "  --jobs J             at the same time (default 1)\n"
    "  --timeout S          seconds of real time until a cut counts as hanging (default 60)\n"
    "  --replay W:E:C       one cut, with everything that led to it\n"
    "  --list W             the operations of one workload\n"
    "  --max-failures N     stop after so many (default 20)\n"
    "  --json               the summary as one JSON object on standard output\n"
    "  --quiet              no progress\n"
    "  --help               print this\n"
    "\n"
    "Exit codes: 0 every cut is clean, 1 one is not, 2 usage.\n";

struct options {
	const char *plan, *replay, *list;
	uint64_t seed;
	unsigned jobs, timeout_s, again, max_failures;
	bool json, quiet;
};

struct todo { /* a group of workloads */
	enum family family;
	uint64_t group;
	unsigned members; /* of them so many by chance; 0: all */
};

struct worker { /* in shared memory */
	pid_t pid;
	FILE *said;
	char now[80]; /* the cut being checked */
	char first[256];
};

struct shared {
	atomic_size_t next;
	atomic_ullong workloads, operations, commands, cuts, images, second, same, failed;
	struct worker worker[JOBS_MAX];
};

struct batch {
	const struct options *o;
	struct shared *sh;
	struct todo *todo;
	size_t n, cap;
	struct timespec begun;
	unsigned long long crashed;
	char first[256]; /* the first failure */
};

static struct obs *cache; /* of the group, by image */

/* ---- one workload ---------------------------------------------------------------------------- */

struct seen {
	UT_hash_handle hh;
	uint64_t key;
};

/* What may be found depends on this, beside the image. */
static uint64_t moment_key(const struct rec_event *e, uint64_t image)
{
	uint64_t k = image ^ e->history * 0x9e3779b97f4a7c15ull;

	for (unsigned h = 0; h < CRASH_HOSTS; h++) {
		k = (k ^ e->host[h].lo) * 0xff51afd7ed558ccdull;
		k = (k ^ e->host[h].hi ^ e->host[h].up << 8) * 0xc2b2ae3d27d4eb4full;
		k ^= k >> 31;
	}
	return k;
}

static bool seen_before(struct seen **set, uint64_t key)
{
	struct seen *s;

	HASH_FIND(hh, *set, &key, sizeof(key), s);
	if (s)
		return true;
	s = calloc(1, sizeof(*s));
	lunfs_assert(s);
	s->key = key;
	HASH_ADD(hh, *set, key, sizeof(s->key), s);
	return false;
}

static void seen_free(struct seen **set)
{
	struct seen *s, *next;

	HASH_ITER (hh, *set, s, next) {
		HASH_DEL(*set, s);
		free(s);
	}
}

static void cache_free(void)
{
	struct obs *o, *next;

	HASH_ITER (hh, cache, o, next) {
		HASH_DEL(cache, o);
		obs_free(o);
	}
}

static struct obs *look(const struct options *o, struct shared *sh, const struct base *b,
			struct cutter *c, uint64_t hash)
{
	struct obs *obs;
	unsigned again = o->again && hash % o->again == 0 ? 2 : 0;

	HASH_FIND(hh, cache, &hash, sizeof(hash), obs);
	if (obs) {
		atomic_fetch_add(&sh->same, 1);
		return obs;
	}
	obs = image_look(b, cutter_image(c), hash, again);
	obs->key = hash;
	HASH_ADD(hh, cache, key, sizeof(obs->key), obs);
	atomic_fetch_add(&sh->images, 1);
	atomic_fetch_add(&sh->second, obs->second);
	return obs;
}

static void say_failed(struct worker *me, struct shared *sh, const char *cut, const char *why)
{
	atomic_fetch_add(&sh->failed, 1);
	if (!me->first[0])
		snprintf(me->first, sizeof(me->first), "%s: %.160s", cut, why);
	printf("FAILED %s: %s\n  replay: lunfs-crash --replay %s\n", cut, why, cut);
	fflush(stdout);
}

/* False: it was not as it must be. */
static bool check_cut(const struct options *o, struct shared *sh, struct worker *me,
		      const struct record *r, struct cutter *c, unsigned v, struct seen **seen)
{
	uint64_t hash = cutter_hash(c, v);
	const struct obs *obs;
	char why[700];

	if (seen_before(seen, moment_key(&r->rec.event[c->at - 1], hash)))
		return true;
	snprintf(me->now, sizeof(me->now), "%s:%zu:%u", r->w->name, c->at, v);
	alarm(o->timeout_s);
	obs = look(o, sh, r->base, c, hash);
	atomic_fetch_add(&sh->cuts, 1);
	if (obs->wrong[0])
		snprintf(why, sizeof(why), "%s", obs->wrong);
	else if (judge(r, c->at - 1, obs, why, sizeof(why)))
		return true;
	say_failed(me, sh, me->now, why);
	return false;
}

/* Long workloads: few ways at each point. */
static unsigned thin_out(unsigned *list, unsigned n, unsigned keep, uint64_t *rng)
{
	while (n > keep) {
		unsigned k = (unsigned)sim_rand_below(rng, n);

		list[k] = list[--n];
	}
	return n;
}

static bool cut_everywhere(const struct options *o, struct shared *sh, struct worker *me,
			   const struct record *r)
{
	uint64_t rng = r->w->seed;
	struct seen *seen = NULL;
	struct cutter c;
	bool good = true;

	cutter_init(&c, r->base->medium, r->base->sector_bytes, &r->rec);
	while (good && c.at < r->rec.n_events) {
		unsigned list[CHOICES_MAX], n;

		if (!cutter_step(&c) || c.at <= r->first)
			continue;
		n = cutter_choices(&c, list);
		if (r->w->sampled)
			n = thin_out(list, n, 1, &rng);
		for (unsigned k = 0; k < n && good; k++)
			good = check_cut(o, sh, me, r, &c, list[k], &seen);
	}
	cutter_free(&c);
	seen_free(&seen);
	return good;
}

static void run_workload(const struct options *o, struct shared *sh, struct worker *me,
			 const struct workload *w)
{
	struct record *r = calloc(1, sizeof(*r));

	lunfs_assert(r);
	snprintf(me->now, sizeof(me->now), "%s:0:0", w->name);
	alarm(o->timeout_s);
	record_make(r, w);
	atomic_fetch_add(&sh->workloads, 1);
	atomic_fetch_add(&sh->operations, history_len(r->run.hist) - r->base->n_hops);
	atomic_fetch_add(&sh->commands, r->rec.n_cmds);
	if (r->wrong[0])
		say_failed(me, sh, me->now, r->wrong);
	else
		cut_everywhere(o, sh, me, r);
	alarm(0);
	record_free(r);
	free(r);
}

/* ---- a replay -------------------------------------------------------------------------------- */

static void say_workload(const struct workload *w)
{
	char text[200];

	printf("workload %s: %u hosts, sectors of %u bytes\n", w->name, w->hosts, w->sector_bytes);
	for (unsigned k = 0; k < w->n; k++)
		printf("  %2u %s\n", k, wop_text(&w->op[k], text, sizeof(text)));
}

static void say_event(const struct rec *rec, size_t at)
{
	const struct rec_event *e = &rec->event[at];
	const struct rec_cmd *c = e->what == REC_MARK ? NULL : &rec->cmd[e->cmd];

	printf("  event %zu: ", at + 1);
	if (!c)
		printf("an operation has returned (history %llu)\n",
		       (unsigned long long)e->history);
	else if (e->what == REC_SENT)
		printf("command %zu, host%u: %s at byte %llu, %llu bytes\n", e->cmd, c->host,
		       rec_op_name(c->op), (unsigned long long)c->off_bytes,
		       (unsigned long long)c->len_bytes);
	else
		printf("command %zu is answered: %d\n", e->cmd, c->result);
}

static void say_history(const struct record *r, uint64_t until)
{
	char text[400];

	printf("operations:\n");
	for (size_t i = r->base->n_hops; i < history_len(r->run.hist); i++) {
		const struct hop *h = history_at(r->run.hist, i);

		printf("  %s %s\n",
		       h->call > until	? "(never) "
		       : h->ret > until ? "(under way) "
					: "",
		       hop_text(h, text, sizeof(text)));
	}
}

static int replay_at(struct record *r, size_t event, unsigned v)
{
	const struct rec_event *e;
	char why[700] = "";
	struct cutter c;
	struct obs *obs;
	uint64_t hash;
	bool good;

	cutter_init(&c, r->base->medium, r->base->sector_bytes, &r->rec);
	while (c.at < event)
		cutter_step(&c);
	e = &r->rec.event[event - 1];
	say_history(r, e->history);
	printf("commands:\n");
	for (size_t k = event > 60 ? event - 60 : 0; k < event; k++)
		say_event(&r->rec, k);
	for (unsigned h = 0; h < CRASH_HOSTS; h++)
		printf("  host%u: %s, transactions up to %llu are durable, %llu may be\n", h,
		       e->host[h].up == UP_YES	     ? "up"
		       : e->host[h].up == UP_LEAVING ? "leaving"
		       : e->host[h].up == UP_LEFT    ? "has left"
						     : "not there",
		       (unsigned long long)e->host[h].lo, (unsigned long long)e->host[h].hi);
	hash = cutter_hash(&c, v);
	cutter_say(&c, v);
	cutter_hash(&c, v);
	printf("what is left is mounted (image %016llx):\n", (unsigned long long)hash);
	crash_trace = true;
	obs = image_look(r->base, cutter_image(&c), hash, 2);
	good = !obs->wrong[0] && judge(r, event - 1, obs, why, sizeof(why));
	printf("%s%s%s\n", good ? "clean" : "FAILED: ", obs->wrong, why);
	obs_free(obs);
	cutter_free(&c);
	return good ? EX_CLEAN : EX_FAILED;
}

static int replay(const char *name)
{
	struct record *r = calloc(1, sizeof(*r));
	struct workload w;
	char work[80];
	unsigned v = 0;
	size_t event = 0;
	int rc;

	lunfs_assert(r);
	if (sscanf(name, "%79[^:]:%zu:%u", work, &event, &v) < 1 || workload_find(&w, work)) {
		fprintf(stderr, "lunfs-crash: there is no workload of that name: %s\n", name);
		return EX_USAGE;
	}
	say_workload(&w);
	record_make(r, &w);
	if (event > r->rec.n_events)
		event = r->rec.n_events;
	if (r->wrong[0])
		printf("the run itself: %s\n", r->wrong);
	rc = r->wrong[0] || event == 0 ? EX_FAILED : replay_at(r, event, v);
	record_free(r);
	free(r);
	return rc;
}

/* ---- what to do ------------------------------------------------------------------------------ */

static void add_todo(struct batch *b, enum family f, uint64_t group, unsigned members)
{
	if (b->n == b->cap) {
		b->cap = b->cap ? 2 * b->cap : 64;
		b->todo = realloc(b->todo, b->cap * sizeof(*b->todo));
		lunfs_assert(b->todo);
	}
	b->todo[b->n++] = (struct todo){f, group, members};
}

static int add_family(struct batch *b, const char *name, unsigned n)
{
	for (unsigned f = 0; f < FAMILIES; f++) {
		unsigned groups = family_groups((enum family)f);

		if (strcmp(name, family_name((enum family)f)) != 0)
			continue;
		if (!groups && !n)
			return -1;
		for (unsigned g = 0; g < (groups ? groups : n); g++)
			add_todo(b, (enum family)f, groups ? g : (b->o->seed - 1) * 1000000 + g,
				 groups ? n : 0);
		return 0;
	}
	return -1;
}

/* Longest first, so that all workers end at about the same time. */
static int by_family(const void *a, const void *b)
{
	const struct todo *x = a, *y = b;

	if (x->family != y->family)
		return x->family > y->family ? -1 : 1;
	return x->group < y->group ? -1 : x->group > y->group;
}

static int make_todo(struct batch *b)
{
	char *plan = strdup(b->o->plan), *at = plan, *part;
	int rc = 0;

	lunfs_assert(plan);
	while ((part = strsep(&at, ",")) && rc == 0) {
		char *n = strchr(part, ':');

		if (n)
			*n++ = '\0';
		rc = add_family(b, part, n ? (unsigned)atoi(n) : 0);
	}
	free(plan);
	if (rc)
		fputs("lunfs-crash: wrong --plan; see lunfs-crash --help\n", stderr);
	qsort(b->todo, b->n, sizeof(*b->todo), by_family);
	return rc;
}

/* ---- workers --------------------------------------------------------------------------------- */

static void do_group(struct batch *b, struct worker *me, const struct todo *t)
{
	unsigned of = family_members(t->family), left = t->members ? t->members : of;
	uint64_t rng = b->o->seed << 20 ^ t->group;
	struct workload w;

	for (unsigned k = 0; k < of && left > 0; k++) {
		if (sim_rand_below(&rng, of - k) >= left)
			continue;
		left--;
		workload_make(&w, t->family, t->group, k);
		run_workload(b->o, b->sh, me, &w);
		if (atomic_load(&b->sh->failed) >= b->o->max_failures)
			break;
	}
	cache_free();
}

static void worker_main(struct batch *b, struct worker *me)
{
	struct rlimit none = {0, 0};
	size_t k;

	setrlimit(RLIMIT_CORE, &none);
	while ((k = atomic_fetch_add(&b->sh->next, 1)) < b->n &&
	       atomic_load(&b->sh->failed) < b->o->max_failures)
		do_group(b, me, &b->todo[k]);
	fflush(stdout);
	_exit(0);
}

static void worker_start(struct batch *b, struct worker *w)
{
	pid_t pid;

	w->said = tmpfile();
	lunfs_assert(w->said);
	fflush(stdout);
	fflush(stderr);
	pid = fork();
	lunfs_assert(pid >= 0);
	if (pid) {
		w->pid = pid;
		return;
	}
	dup2(fileno(w->said), STDOUT_FILENO);
	dup2(fileno(w->said), STDERR_FILENO);
	worker_main(b, w);
}

static void worker_ended(struct batch *b, struct worker *w, int status)
{
	FILE *f = b->o->json ? stderr : stdout;
	unsigned shown = 0;
	char line[600];

	w->pid = 0;
	rewind(w->said);
	while (shown++ < SHOWN_LINES && fgets(line, sizeof(line), w->said))
		fputs(line, f);
	fclose(w->said);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	b->crashed++;
	fprintf(f, "FAILED %s: %s\n  replay: lunfs-crash --replay %s\n", w->now,
		WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "it hangs"
		: WIFSIGNALED(status)				   ? strsignal(WTERMSIG(status))
								   : "it ended early",
		w->now);
	snprintf(w->first, sizeof(w->first), "%s: crashed or hung", w->now);
	atomic_fetch_add(&b->sh->failed, 1);
	if (atomic_load(&b->sh->failed) < b->o->max_failures)
		worker_start(b, w); /* with the next group */
}

static bool any_running(const struct batch *b)
{
	for (unsigned k = 0; k < b->o->jobs; k++)
		if (b->sh->worker[k].pid)
			return true;
	return false;
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
	if (b->o->quiet || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r%llu cuts, %llu images, %zu of %zu groups, %llu failed ",
		atomic_load(&b->sh->cuts), atomic_load(&b->sh->images), atomic_load(&b->sh->next),
		b->n, atomic_load(&b->sh->failed));
}

static void run_batch(struct batch *b)
{
	clock_gettime(CLOCK_MONOTONIC, &b->begun);
	for (unsigned k = 0; k < b->o->jobs; k++)
		worker_start(b, &b->sh->worker[k]);
	while (any_running(b)) {
		int status;
		pid_t pid = waitpid(-1, &status, 0);

		for (unsigned k = 0; k < b->o->jobs && pid > 0; k++)
			if (b->sh->worker[k].pid == pid)
				worker_ended(b, &b->sh->worker[k], status);
		progress(b);
	}
	for (unsigned k = 0; k < b->o->jobs && !b->first[0]; k++)
		snprintf(b->first, sizeof(b->first), "%s", b->sh->worker[k].first);
}

/* ---- the summary ----------------------------------------------------------------------------- */

static void say_json(const struct batch *b)
{
	const struct shared *sh = b->sh;
	struct json_object *j = json_object_new_object();
	const struct {
		const char *key;
		unsigned long long n;
	} count[] = {
	    {"workloads", atomic_load(&sh->workloads)},
	    {"operations", atomic_load(&sh->operations)},
	    {"commands", atomic_load(&sh->commands)},
	    {"cuts", atomic_load(&sh->cuts)},
	    {"images", atomic_load(&sh->images)},
	    {"recoveries_cut", atomic_load(&sh->second)},
	    {"images_met_again", atomic_load(&sh->same)},
	    {"failed", atomic_load(&sh->failed)},
	};

	for (size_t k = 0; k < sizeof(count) / sizeof(count[0]); k++)
		json_object_object_add(j, count[k].key, json_object_new_int64((int64_t)count[k].n));
	json_object_object_add(j, "seconds", json_object_new_double(seconds(b)));
	json_object_object_add(j, "plan", json_object_new_string(b->o->plan));
	json_object_object_add(j, "seed", json_object_new_int64((int64_t)b->o->seed));
	json_object_object_add(j, "first_failure",
			       b->first[0] ? json_object_new_string(b->first) : NULL);
	puts(json_object_to_json_string_ext(j, JSON_C_TO_STRING_PRETTY));
	json_object_put(j);
}

static void say_summary(const struct batch *b)
{
	const struct shared *sh = b->sh;

	if (b->o->json) {
		say_json(b);
		return;
	}
	printf("%llu workloads (%llu operations, %llu commands), plan %s, seed %llu\n",
	       atomic_load(&sh->workloads), atomic_load(&sh->operations),
	       atomic_load(&sh->commands), b->o->plan, (unsigned long long)b->o->seed);
	printf("%llu crash cuts, %llu different images recovered and checked, %llu recoveries cut "
	       "in their turn, %llu failed, %.0f s\n",
	       atomic_load(&sh->cuts), atomic_load(&sh->images), atomic_load(&sh->second),
	       atomic_load(&sh->failed), seconds(b));
}

/* ---- options --------------------------------------------------------------------------------- */

static int option(int c, struct options *o)
{
	switch (c) {
	case 'p':
		o->plan = optarg;
		return 0;
	case 'a':
		o->plan = "one,two,two-host,three:1000,random:300";
		return 0;
	case 's':
		o->seed = strtoull(optarg, NULL, 0);
		return o->seed ? 0 : -1;
	case 'A':
		o->again = (unsigned)atoi(optarg);
		return 0;
	case 'j':
		o->jobs = (unsigned)atoi(optarg);
		return o->jobs >= 1 && o->jobs <= JOBS_MAX ? 0 : -1;
	case 'w':
		o->timeout_s = (unsigned)atoi(optarg);
		return o->timeout_s ? 0 : -1;
	case 'm':
		o->max_failures = (unsigned)atoi(optarg);
		return o->max_failures ? 0 : -1;
	case 'r':
		o->replay = optarg;
		return 0;
	case 'l':
		o->list = optarg;
		return 0;
	case 'J':
		o->json = true;
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	default:
		return -1;
	}
}

/* 0: go on; 1: help was printed. */
static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {{"plan", required_argument, NULL, 'p'},
					      {"all", no_argument, NULL, 'a'},
					      {"seed", required_argument, NULL, 's'},
					      {"again", required_argument, NULL, 'A'},
					      {"jobs", required_argument, NULL, 'j'},
					      {"timeout", required_argument, NULL, 'w'},
					      {"max-failures", required_argument, NULL, 'm'},
					      {"replay", required_argument, NULL, 'r'},
					      {"list", required_argument, NULL, 'l'},
					      {"json", no_argument, NULL, 'J'},
					      {"quiet", no_argument, NULL, 'q'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'h') {
			fputs(usage, stdout);
			return 1;
		}
		if (option(c, o) != 0) {
			fputs("lunfs-crash: wrong option; see lunfs-crash --help\n", stderr);
			return -1;
		}
	}
	if (optind != argc) {
		fputs("lunfs-crash: too many arguments; see lunfs-crash --help\n", stderr);
		return -1;
	}
	return 0;
}

static int list(const char *name)
{
	struct workload w;

	if (workload_find(&w, name))
		return EX_USAGE;
	say_workload(&w);
	return EX_CLEAN;
}

static int batch(const struct options *o)
{
	struct batch b = {.o = o};
	unsigned long long failed;

	if (make_todo(&b))
		return EX_USAGE;
	b.sh = mmap(NULL, sizeof(*b.sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	lunfs_assert(b.sh != MAP_FAILED);
	for (unsigned k = 0; k < 4; k++) /* before the workers, which share them */
		base_get(k & 1 ? 4096 : 512, k & 2);
	run_batch(&b);
	say_summary(&b);
	failed = atomic_load(&b.sh->failed);
	free(b.todo);
	munmap(b.sh, sizeof(*b.sh));
	return failed ? EX_FAILED : EX_CLEAN;
}

int main(int argc, char **argv)
{
	struct options o = {.plan = "one,two:2,two-host:1,three:20,random:16",
			    .seed = 1,
			    .jobs = 1,
			    .timeout_s = 60,
			    .again = 16,
			    .max_failures = 20};
	int rc = parse(argc, argv, &o);

	if (rc)
		return rc > 0 ? EX_CLEAN : EX_USAGE;
	if (o.replay)
		return replay(o.replay);
	return o.list ? list(o.list) : batch(&o);
}
