/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fsck.lunfs: claim the volume, check it, write the repairs, say what was done. */
#include "base/log.h"
#include "base/text.h"
#include "fsck/fsck.h"
#include "fsck/options.h"
#include "fsck/super.h"
#include "vol/volume.h"
#include <errno.h>
#include <json-c/json.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct run {
	struct options opt;
	char shown[sizeof(((struct dev_identity *)0)->name)]; /* the device, without a password */
	struct dev *dev;
	struct geo geo;
	struct clock *clk;
	struct maint *maint;
	struct fsck f;
	uint8_t passed_over[16]; /* super_choose() */
	bool found_super;	 /* --find-superblock: .geo was found or made anew */
	bool log_finished;	 /* an earlier repair was brought to its end */
	uint64_t written;
	char why[512];
};

/* The result for programs: one object. */
static struct json_object *result_new(const struct run *r, int code)
{
	struct json_object *o = json_object_new_object();
	char *plain = text_plain_dup(r->shown); /* JSON is UTF-8, a path need not be */

	json_object_object_add(o, "device", json_object_new_string(plain ? plain : ""));
	json_object_object_add(o, "exit_code", json_object_new_int(code));
	free(plain);
	return o;
}

static void result_print(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	json_object_put(o);
}

static int fail(struct run *r, const char *why)
{
	const char *said = why[0] ? why : "the check could not be done";

	fprintf(stderr, "fsck.lunfs: %s\n", said);
	if (r->opt.json) {
		struct json_object *o = result_new(r, EX_FSCK_OPERATIONAL);
		char *plain = text_plain_dup(said);

		json_object_object_add(o, "complete", json_object_new_boolean(false));
		json_object_object_add(o, "error", json_object_new_string(plain ? plain : ""));
		free(plain);
		result_print(o);
	}
	return EX_FSCK_OPERATIONAL;
}

/* ---- the volume ------------------------------------------------------------------------------ */

static int open_device(struct run *r, uint32_t sector_bytes)
{
	bool searching = r->opt.find_super && !r->found_super;
	unsigned flags = r->opt.mode == MODE_CHECK || searching ? DEV_OPEN_RDONLY : 0;

	return dev_open(r->opt.device, flags, sector_bytes, &r->dev, r->why, sizeof(r->why));
}

/* -b; no choice that would make all else look foreign. */
static int read_super_at(struct run *r, struct super_choice *c)
{
	int rc = super_at(r->dev, r->opt.super_blk, &c->geo, r->why, sizeof(r->why));
	struct geo g;

	if (rc)
		return rc;
	g = c->geo;
	memset(c, 0, sizeof(*c));
	return super_contradicted(r->dev, &g, c) ? -ESTALE : 0;
}

static void say_find_super(struct run *r)
{
	size_t n = strlen(r->why);

	snprintf(r->why + n, sizeof(r->why) - n,
		 "; 'fsck.lunfs --find-superblock %s' searches all of it for one, and can make "
		 "one anew",
		 r->shown);
}

/* What the search came to counts until the volume has a superblock of its own. */
static int read_super(struct run *r)
{
	struct super_choice c = {0};
	int rc;

	if (r->opt.super_blk)
		rc = read_super_at(r, &c);
	else
		rc = super_choose(r->dev, &c, r->why, sizeof(r->why));
	if (r->found_super && (rc || memcmp(c.geo.vol_id, r->geo.vol_id, sizeof(c.vol_id)) != 0)) {
		memcpy(r->passed_over, rc ? c.passed_over : c.geo.vol_id, sizeof(r->passed_over));
		return 0;
	}
	if (rc == 0) {
		r->geo = c.geo;
		memcpy(r->passed_over, c.passed_over, sizeof(r->passed_over));
	}
	if (rc == -ESTALE)
		super_say_contradicted(&c, r->shown, r->why, sizeof(r->why));
	if (rc == -ESTALE || (!r->opt.super_blk && (rc == -EINVAL || rc == -EUCLEAN)))
		say_find_super(r);
	return rc;
}

/* What a newer version keeps of it is not known here: it would be taken for damage. */
static int check_features(struct run *r)
{
	uint64_t unknown = r->geo.ro_compat & ~LUNFS_RO_COMPAT_KNOWN;

	if (!unknown || r->opt.mode == MODE_CHECK)
		return 0;
	snprintf(r->why, sizeof(r->why),
		 "%s uses features (ro-compat %#llx) that this version of fsck.lunfs may only "
		 "read; look at it with -n, or use a newer version; nothing was changed.",
		 r->shown, (unsigned long long)unknown);
	return -EROFS;
}

static int open_volume(struct run *r)
{
	int rc = open_device(r, r->found_super ? r->geo.sector_bytes : 0);

	if (rc == 0)
		rc = read_super(r);
	if (rc == 0 && r->geo.sector_bytes != r->dev->id.sector_bytes) {
		dev_close(r->dev);
		r->dev = NULL;
		rc = open_device(r, r->geo.sector_bytes);
	}
	if (rc == 0 && r->dev->id.size_bytes / LUNFS_BLOCK_BYTES < r->geo.dev_blks) {
		rc = -ENOSPC;
		snprintf(
		    r->why, sizeof(r->why),
		    "%s has %llu bytes, but the volume on it takes %llu: the device has shrunk "
		    "or is not all there; nothing was changed.",
		    r->shown, (unsigned long long)r->dev->id.size_bytes,
		    (unsigned long long)(r->geo.dev_blks * LUNFS_BLOCK_BYTES));
	}
	return rc ? rc : check_features(r);
}

static void say_waiting(void *ctx, const char *sentence)
{
	const struct run *r = ctx;

	fprintf(r->opt.json ? stderr : stdout, "%s\n", sentence);
	fflush(stdout);
}

static int claim(struct run *r)
{
	struct maint_config cfg = {.say = say_waiting, .ctx = r};
	int rc;

	if (gethostname(cfg.host.name, sizeof(cfg.host.name) - 1))
		snprintf(cfg.host.name, sizeof(cfg.host.name), "localhost");
	memcpy(cfg.passed_over, r->passed_over, sizeof(cfg.passed_over));
	cfg.host.fence = r->opt.fence;
	cfg.host.claim_wait_ms = 4 * r->geo.lease_ms;
	rc = maint_begin(r->dev, r->clk, &r->geo, &cfg, &r->maint, r->why, sizeof(r->why));
	if (rc || r->opt.super_blk)
		return rc;
	return read_super(r); /* what was read before the claim does not count */
}

static int finish_log(struct run *r)
{
	int rc = redo_finish(&r->f.store);

	if (rc < 0)
		snprintf(r->why, sizeof(r->why),
			 rc == -EUCLEAN ? "The log of an unfinished repair of %s is not whole (%s)."
					: "An unfinished repair of %s could not be finished (%s).",
			 r->shown, strerror(-rc));
	if (rc == -EUCLEAN)
		fprintf(stderr, "fsck.lunfs: %s All is checked and repaired anew.\n", r->why);
	r->log_finished = rc > 0;
	if (rc > 0 && !r->opt.json)
		printf("A repair that was begun before has been finished from its log.\n");
	if (rc > 0)
		rc = read_super(r);
	if (rc == 0)
		r->f.geo = r->geo;
	return rc == -EUCLEAN || rc == -ESTALE ? 0 : rc; /* then all is checked and repaired anew */
}

/* ---- repairing ------------------------------------------------------------------------------- */

static void tell_writing(void *ctx, uint64_t done, uint64_t total)
{
	progress(ctx, "writing", done, total);
}

static int write_repairs(struct run *r)
{
	int rc = fsck_write(&r->f, tell_writing, &r->f);
	r->written = r->f.store.written;
	if (rc)
		fprintf(stderr, "fsck.lunfs: writing the repairs to %s failed: %s. %s\n", r->shown,
			strerror(-rc),
			maint_get(r->maint).flags
			    ? "The volume is marked: it cannot be mounted before fsck.lunfs has "
			      "run to its end."
			    : "Nothing was changed.");
	return rc;
}

/* ---- the result ------------------------------------------------------------------------------ */

static uint64_t left(const struct fsck *f)
{
	return f->problems.total - f->problems.fixed;
}

static int exit_code(const struct run *r, int rc)
{
	const struct problems *p = &r->f.problems;
	int code = 0;

	if (p->cancelled)
		return EX_FSCK_CANCELED;
	if (rc)
		code |= EX_FSCK_OPERATIONAL;
	else if ((p->fixed && !p->stopped) || r->log_finished)
		code |= EX_FSCK_REPAIRED;
	if (left(&r->f) || p->stopped)
		code |= EX_FSCK_LEFT;
	return code;
}

/* Nothing keeps mounts out: as the claim leaves it; without one, as the check has found it. */
static bool mountable(const struct run *r)
{
	const uint64_t *count = r->f.problems.count;

	if (r->maint)
		return !maint_get(r->maint).flags;
	return !count[PROBLEM_MUST_CHECK] && !count[PROBLEM_MAINT];
}

static void summary_json(struct run *r, int rc)
{
	struct fsck *f = &r->f;
	struct json_object *o = result_new(r, exit_code(r, rc));
	bool none = rc || f->problems.stopped; /* was repaired */
	static const char *const names[] = {
	    "files",	   "directories",    "others",	   "orphans",	    "names",
	    "data_blocks", "cells_used",     "cells_free", "problem_count", "repaired",
	    "left",	   "blocks_written", "rounds"};
	const uint64_t values[] = {f->files,
				   f->dirs,
				   f->others,
				   f->orphans,
				   f->names,
				   f->data_blks,
				   f->cells_used,
				   f->cells_free,
				   f->problems.total,
				   none ? 0 : f->problems.fixed,
				   none ? f->problems.total : left(f),
				   r->written,
				   f->round};

	json_object_object_add(o, "clean", json_object_new_boolean(!rc && !f->problems.total));
	json_object_object_add(o, "complete", json_object_new_boolean(!rc && !f->problems.stopped));
	json_object_object_add(o, "cancelled", json_object_new_boolean(f->problems.cancelled));
	if (r->maint || !rc)
		json_object_object_add(o, "mountable", json_object_new_boolean(mountable(r)));
	if (none)
		problems_none_repaired(&f->problems);
	json_object_object_add(o, "problems",
			       f->problems.list ? f->problems.list : json_object_new_array());
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		json_object_object_add(o, names[i], json_object_new_uint64(values[i]));
	result_print(o);
}

static void say_counts(const struct run *r)
{
	const struct fsck *f = &r->f;

	printf("%llu files, %llu directories, %llu other inodes, %llu orphans, %llu data blocks\n",
	       (unsigned long long)f->files, (unsigned long long)f->dirs,
	       (unsigned long long)f->others, (unsigned long long)f->orphans,
	       (unsigned long long)f->data_blks);
}

static void summary_text(const struct run *r, int rc)
{
	const struct problems *p = &r->f.problems;
	const char *dev = r->shown;

	for (int i = 0; r->opt.verbose && i < PROBLEMS; i++)
		if (p->count[i])
			printf("%6llu x %s\n", (unsigned long long)p->count[i],
			       problem_name((enum problem_code)i));
	if (rc) {
		printf("%s: the check could not be finished: %s\n", dev, strerror(-rc));
	} else if (p->cancelled) {
		printf("%s: cancelled; nothing was changed.\n", dev);
	} else if (p->stopped && r->opt.mode != MODE_PREEN) {
		printf("%s: a journal is kept that was not replayed, and its replay would fall "
		       "over repairs. Nothing was changed.\n",
		       dev);
	} else if (p->stopped) {
		printf(
		    "%s: UNEXPECTED INCONSISTENCY; run fsck.lunfs by hand (that is, without -p). "
		    "Nothing was changed.\n",
		    dev);
	} else if (p->total == 0) {
		printf("%s: clean, ", dev);
		say_counts(r);
	} else if (r->opt.mode == MODE_CHECK) {
		printf("%s: %llu problem%s; nothing was changed\n", dev,
		       (unsigned long long)p->total, p->total == 1 ? "" : "s");
	} else {
		printf("%s: %llu problem%s, %llu repaired, %llu left; %llu blocks written; ", dev,
		       (unsigned long long)p->total, p->total == 1 ? "" : "s",
		       (unsigned long long)p->fixed, (unsigned long long)left(&r->f),
		       (unsigned long long)r->written);
		say_counts(r);
	}
	if (!rc && r->maint && maint_get(r->maint).flags)
		printf("%s: it cannot be mounted before fsck.lunfs has repaired all of it.\n", dev);
}

/* ---- cancelling ------------------------------------------------------------------------------ */

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

/* Until repairs are written a signal ends the check with nothing changed. */
static void catch_signals(void (*handler)(int))
{
	struct sigaction sa = {.sa_handler = handler}; /* no SA_RESTART: a question ends */

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

/* ---- the run --------------------------------------------------------------------------------- */

static int check(struct run *r)
{
	struct fsck *f = &r->f;
	int rc = 0;

	f->verbose = r->opt.verbose;
	f->json = f->problems.json = r->opt.json;
	f->progress = r->opt.progress || (!r->opt.json && isatty(STDERR_FILENO));
	f->progress_fd = r->opt.progress_fd;
	f->problems.progress = f->progress && !f->progress_fd;
	if (r->maint)
		rc = finish_log(r);
	if (rc)
		return fail(r, r->why);
	f->problems.interrupt = &interrupted;
	catch_signals(on_signal);
	rc = fsck_run(f);
	catch_signals(SIG_IGN); /* what is written is written to its end */
	if (rc == -ELOOP)
		return fail(r, "the repairs came to no end; nothing was changed. Keep an image "
			       "(lunfs image) and report this.");
	if (rc == 0)
		rc = write_repairs(r);
	if (r->opt.json)
		summary_json(r, rc);
	else
		summary_text(r, rc);
	return exit_code(r, rc);
}

static int put_back(struct run *r)
{
	int rc = undo_put_back(&r->f.store, r->opt.put_back, r->opt.force, r->why, sizeof(r->why));

	if (rc) {
		char said[sizeof(r->why) + 64];

		snprintf(said, sizeof(said), "the undo file could not be put back: %s", r->why);
		return fail(r, said);
	}
	if (r->opt.json)
		result_print(result_new(r, EX_FSCK_REPAIRED));
	fprintf(r->opt.json ? stderr : stdout,
		"%s: what %s saved has been put back; the volume is marked and must be checked "
		"before it can be mounted.\n",
		r->shown, r->opt.put_back);
	return EX_FSCK_REPAIRED;
}

/* Workers wait for the device as well: a few of them even where there are fewer processors. */
static unsigned workers(void)
{
	cpu_set_t set;
	unsigned n = sched_getaffinity(0, sizeof(set), &set) ? 1 : (unsigned)CPU_COUNT(&set);

	if (n < FSCK_WORKERS_MIN)
		return FSCK_WORKERS_MIN;
	return n < FSCK_WORKERS_MAX ? n : FSCK_WORKERS_MAX;
}

static int run_claimed(struct run *r)
{
	int code, rc = r->opt.mode == MODE_CHECK ? 0 : claim(r);

	if (rc) { /* of a claim that stands the superblock could not be read again */
		if (r->maint)
			maint_end(r->maint);
		return fail(r, r->why);
	}
	fsck_init(&r->f, r->dev, &r->geo, r->opt.mode, r->maint);
	r->f.super_given = r->opt.super_blk != 0;
	r->f.clk = r->clk;
	r->f.threads = workers();
	if (r->opt.undo)
		rc = undo_open(&r->f.store, r->opt.undo, r->why, sizeof(r->why));
	if (rc)
		code = fail(r, r->why);
	else
		code = r->opt.put_back ? put_back(r) : check(r);
	fsck_free(&r->f);
	if (r->maint && maint_end(r->maint))
		fprintf(stderr,
			"fsck.lunfs: the claim on %s could not be given up; the next mount does "
			"that.\n",
			r->shown);
	return code;
}

/* ---- --find-superblock ----------------------------------------------------------------------- */

static bool any_sector(struct run *r)
{
	struct dev *d;
	char why[256];

	if (dev_open(r->opt.device, DEV_OPEN_RDONLY,
		     r->dev->id.sector_bytes == LUNFS_BLOCK_BYTES ? 512 : LUNFS_BLOCK_BYTES, &d,
		     why, sizeof(why)))
		return false;
	dev_close(d);
	return true;
}

static bool ask_to_use(const char *what)
{
	char line[64];

	printf("Check and repair the volume with %s? [y]es, [n]o: ", what);
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

/* With -n, -y or a yes it goes on to the check; else @code is the exit code. */
static bool use_found(struct run *r, bool rebuilt, int *code)
{
	struct super_choice c;
	char why[256];

	*code = rebuilt ? EX_FSCK_LEFT : EX_FSCK_CLEAN;
	if (r->opt.mode == MODE_YES || r->opt.mode == MODE_CHECK)
		return true;
	if (r->opt.mode == MODE_PREEN) {
		if (rebuilt)
			fprintf(r->opt.json ? stderr : stdout,
				"%s: a superblock is not made anew with -p; use -y\n", r->shown);
		return !rebuilt;
	}
	if (!rebuilt && super_choose(r->dev, &c, why, sizeof(why)) == 0)
		return false; /* the usual search finds it */
	if (!r->opt.json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		return ask_to_use(rebuilt ? "that" : "the newest of them");
	fprintf(r->opt.json ? stderr : stdout,
		"'fsck.lunfs --find-superblock -y %s' checks and repairs the volume with %s.\n",
		r->shown, rebuilt ? "that" : "the newest of them");
	return false;
}

/* True: r->geo is to be used. @s: what was found. */
static bool find_super(struct run *r, struct super_search *s, int *code)
{
	FILE *to = r->opt.json ? stderr : stdout; /* for people; the JSON object is the result */
	struct super_rebuilt made;
	uint8_t vol_id[16];
	bool known = super_vol_id(r->dev, vol_id) == 0;

	*code = EX_FSCK_LEFT;
	super_search(r->dev, known ? vol_id : NULL, to, s);
	if (s->others) {
		fprintf(to, "They are of several volumes: choose one of them with -b.\n");
		return false;
	}
	if (s->fit) {
		r->geo = s->best;
		return use_found(r, false, code);
	}
	if (super_rebuild(r->dev, r->clk, any_sector(r), &made, r->why, sizeof(r->why))) {
		fprintf(to, "%s: no superblock can be made anew. %s\n", r->shown, r->why);
		return false;
	}
	super_say_rebuilt(to, &made);
	r->geo = made.geo;
	return use_found(r, true, code);
}

static void search_json(const struct run *r, const struct super_search *s, int code)
{
	struct json_object *o = result_new(r, code);

	json_object_object_add(o, "superblocks", json_object_get(s->list));
	result_print(o);
}

static int search_and_run(struct run *r)
{
	int code, rc = open_device(r, 0);
	struct super_search s;

	if (rc)
		return fail(r, r->why);
	r->found_super = find_super(r, &s, &code);
	if (!r->found_super && r->opt.json)
		search_json(r, &s, code);
	json_object_put(s.list);
	if (!r->found_super)
		return code;
	dev_close(r->dev);
	r->dev = NULL;
	fflush(stdout);
	rc = open_volume(r);
	return rc ? fail(r, r->why) : run_claimed(r);
}

static int run(struct run *r)
{
	int rc = clock_real_new(&r->clk);

	if (rc == 0 && r->opt.find_super)
		return search_and_run(r);
	if (rc == 0)
		rc = open_volume(r);
	return rc ? fail(r, r->why) : run_claimed(r);
}

int main(int argc, char **argv)
{
	static struct run r;
	int rc, code;

	if (!standard_files_open())
		return EX_FSCK_OPERATIONAL;
	signal(SIGPIPE, SIG_IGN); /* who reads along may leave; the claim is to be given up */
	rc = options_parse(argc, argv, &r.opt);
	if (rc)
		return rc > 0 ? EX_FSCK_CLEAN : EX_FSCK_USAGE;
	dev_name_shown(r.opt.device, r.shown, sizeof(r.shown));
	log_open("fsck.lunfs", r.opt.verbose ? LOG_LVL_INFO : LOG_LVL_WARN, 0);
	code = run(&r);
	if (r.dev)
		dev_close(r.dev);
	return code;
}
