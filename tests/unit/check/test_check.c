/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device check on the simulated LUN: a sound device is called fit whatever the seed, and each
 * way of lying is found out.
 */
#include "../base/unit.h"

#include "check/check.h"
#include "simclock.h"
#include "simdev.h"

#include <errno.h>
#include <lunfs/format.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull
#define S 1000000000ull
#define HOSTS_MAX 4u

struct bed;

struct side { /* one check-device, on its own host */
	struct bed *bed;
	unsigned nexus;
	struct check *check;
	struct check_config cfg;
	struct task *task;
	struct check_result result[CHECK_RESULTS_MAX];
	unsigned results;
};

struct bed {
	struct clock *clk;
	struct dev *first;
	struct simdev_medium *m;
	uint64_t seed;
	void (*prepare)(struct bed *t);
	void (*each_session)(struct bed *t, struct dev *d, unsigned n);
	void (*meanwhile)(struct bed *t); /* runs beside the checks */
	struct simdev_snapshot *old;
	struct check_facts facts;
	struct check_config cfg; /* of every side */
	struct side side[HOSTS_MAX];
	unsigned sides, opened;
	bool no_caw, one_machine, read_only, no_discard, refused;
	uint32_t sector_bytes, claim;
	uint64_t size_bytes, min_ns, max_ns, took_ns;
	atomic_uint running;
};

/* ---- a bed ----------------------------------------------------------------------------------- */

static int open_session(void *ctx, struct dev **out, char *why, size_t why_len)
{
	struct side *s = ctx;
	struct bed *t = s->bed;
	struct dev *d = simdev_attach(t->m);

	(void)why;
	(void)why_len;
	d->id.one_machine = t->one_machine;
	d->id.caw_claim_sectors = t->claim;
	d->id.read_only = t->read_only;
	d->id.has_discard = !t->no_discard;
	if (t->no_caw) {
		struct simdev_fault f = {.kind = SIMDEV_FAIL,
					 .ops = SIMDEV_CAW,
					 .count = UINT64_MAX,
					 .error = -EOPNOTSUPP};

		simdev_inject(d, &f);
	}
	if (t->each_session)
		t->each_session(t, d, t->opened);
	t->opened++;
	*out = d;
	return 0;
}

static void side_main(void *arg)
{
	struct side *s = arg;

	check_run(s->check);
	atomic_fetch_sub(&s->bed->running, 1);
}

static void meanwhile_main(void *arg)
{
	struct bed *t = arg;

	t->meanwhile(t);
}

static void run_sides(void *arg)
{
	struct bed *t = arg;
	struct task *beside = NULL;
	uint64_t start = clock_now_ns(t->clk);

	atomic_store(&t->running, t->sides);
	for (unsigned i = 0; i < t->sides; i++)
		t->clk->ops->task_start(t->clk, "check", side_main, &t->side[i], &t->side[i].task);
	if (t->meanwhile)
		t->clk->ops->task_start(t->clk, "beside", meanwhile_main, t, &beside);
	for (unsigned i = 0; i < t->sides; i++)
		t->clk->ops->task_join(t->clk, t->side[i].task);
	t->took_ns = clock_now_ns(t->clk) - start;
	if (beside)
		t->clk->ops->task_join(t->clk, beside);
}

static struct bed *bed_new(void)
{
	struct bed *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->sides = 1;
	t->seed = 1;
	t->sector_bytes = 512;
	t->size_bytes = 1ull << 30;
	t->min_ns = MS / 10;
	t->max_ns = MS;
	t->cfg = (struct check_config){.may_write = true,
				       .volume = true,
				       .beat_ms = 3000,
				       .deadline_ms = 8000,
				       .lease_ms = 16000,
				       .sessions = 3,
				       .tasks = 3,
				       .run_ms = 500,
				       .wait_ms = 20000};
	return t;
}

static void bed_run(struct bed *t)
{
	t->clk = simclock_new();
	t->first = simdev_new(t->clk, t->size_bytes, t->sector_bytes, t->sector_bytes);
	t->m = simdev_medium_of(t->first);
	simdev_seed(t->m, t->seed);
	simdev_set_latency(t->m, t->min_ns, t->max_ns);
	simdev_set_pr(t->m, true, true);
	if (t->prepare)
		t->prepare(t);
	t->opened = 0;
	for (unsigned i = 0; i < t->sides; i++) {
		struct side *s = &t->side[i];

		s->bed = t;
		s->cfg = t->cfg;
		s->cfg.clk = t->clk;
		s->cfg.open = open_session;
		s->cfg.ctx = s;
		s->cfg.facts = &t->facts;
		s->cfg.boot = i + 1;
		snprintf(s->cfg.host, sizeof(s->cfg.host), "host%u", i);
		s->check = check_new(&s->cfg);
	}
	simclock_run(t->clk, run_sides, t, t->seed);
	for (unsigned i = 0; i < t->sides; i++) {
		t->side[i].results = check_results(t->side[i].check, t->side[i].result);
		check_free(t->side[i].check);
	}
}

static void bed_close(struct bed *t)
{
	if (t->old)
		simdev_snapshot_free(t->old);
	t->old = NULL;
	dev_close(t->first);
	t->clk->ops->destroy(t->clk);
}

static void print_all(const struct bed *t)
{
	for (unsigned i = 0; i < t->sides; i++)
		for (unsigned k = 0; k < t->side[i].results; k++)
			fprintf(stderr, "seed %llu host%u %s %s: %s\n", (unsigned long long)t->seed,
				i, check_grade_name(t->side[i].result[k].grade),
				t->side[i].result[k].name, t->side[i].result[k].text);
}

static enum check_verdict verdict_of(const struct bed *t, unsigned side)
{
	return check_verdict(t->side[side].result, t->side[side].results);
}

static void expect(const struct bed *t, enum check_verdict want)
{
	for (unsigned i = 0; i < t->sides; i++)
		if (verdict_of(t, i) != want) {
			print_all(t);
			fail_msg("seed %llu, host%u: %s, not %s", (unsigned long long)t->seed, i,
				 check_verdict_name(verdict_of(t, i)), check_verdict_name(want));
		}
}

static const struct check_result *result(const struct bed *t, unsigned side, const char *name)
{
	for (unsigned k = 0; k < t->side[side].results; k++)
		if (!strcmp(t->side[side].result[k].name, name))
			return &t->side[side].result[k];
	print_all(t);
	fail_msg("no result %s", name);
	return NULL;
}

static void expect_grade(const struct bed *t, const char *name, enum check_grade want)
{
	const struct check_result *r = result(t, 0, name);

	if (r->grade != want) {
		print_all(t);
		fail_msg("%s is %s, not %s", name, check_grade_name(r->grade),
			 check_grade_name(want));
	}
}

static uint64_t value(const struct bed *t, unsigned side, const char *name, const char *key)
{
	const struct check_result *r = result(t, side, name);

	for (unsigned i = 0; i < r->values; i++)
		if (!strcmp(r->value[i].key, key))
			return r->value[i].value;
	fail_msg("%s has no %s", name, key);
	return 0;
}

/* LUNFS_SEEDS in the environment asks for more. */
static unsigned how_many(unsigned n)
{
	const char *more = getenv("LUNFS_SEEDS");

	return more ? (unsigned)strtoul(more, NULL, 10) : n;
}

/* A run with some seeds; each must end with @want. */
static void seeds(struct bed *t, unsigned n, enum check_verdict want)
{
	for (t->seed = 1; t->seed <= how_many(n); t->seed++) {
		bed_run(t);
		expect(t, want);
		bed_close(t);
	}
	free(t);
}

/* ---- sound devices --------------------------------------------------------------------------- */

static void a_sound_device_is_fit_whatever_the_seed(void **state)
{
	(void)state;
	seeds(bed_new(), 40, CHECK_FIT);
}

static void so_is_one_with_sectors_of_4096_bytes(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->sector_bytes = 4096;
	seeds(t, 10, CHECK_FIT);
}

static void fencing_is_played_through_on_a_device_of_nobody(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->cfg.destructive = true;
	bed_run(t);
	expect(t, CHECK_FIT);
	assert_int_equal(value(t, 0, "reservations", "fencing_tried"), 1);
	assert_false(simdev_pr_reserved(t->m));
	expect_grade(t, "discard", CHECK_OK);
	bed_close(t);
	seeds(t, 10, CHECK_FIT);
}

/* Linux's own target: after a refused COMPARE AND WRITE its semaphore lets two through at once. */
static void loses_atomicity(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			    struct simdev_fault *out)
{
	struct bed *t = ctx;

	if (cmd->op != SIMDEV_CAW)
		return;
	if (!simdev_may_write(d))
		t->refused = true;
	else if (t->refused)
		*out = (struct simdev_fault){.kind = SIMDEV_LIE_SPLIT, .delay_ns = MS};
}

static void watch_refusals(struct bed *t)
{
	t->refused = false;
	simdev_set_hook(t->m, loses_atomicity, t);
}

static void no_command_is_refused_that_could_break_the_target(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->cfg.destructive = true;
	t->prepare = watch_refusals;
	bed_run(t);
	expect(t, CHECK_FIT);
	assert_int_equal(value(t, 0, "reservations", "fencing_tried"), 1);
	assert_false(t->refused);
	bed_close(t);
	free(t);
}

static void a_target_that_breaks_by_a_refusal_is_found_when_provoked(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->cfg.destructive = t->cfg.provoke = true;
	bed_run(t);
	expect(t, CHECK_FIT);
	expect_grade(t, "atomic-after-refusal", CHECK_OK);
	bed_close(t);
	t->prepare = watch_refusals;
	bed_run(t);
	expect(t, CHECK_UNFIT);
	expect_grade(t, "atomic", CHECK_OK);
	expect_grade(t, "atomic-after-refusal", CHECK_BAD);
	bed_close(t);
	free(t);
}

static uint64_t outside_hash(struct bed *t)
{
	uint64_t h = 0, word[512];

	for (uint64_t off = 0; off < 4ull << 20; off += sizeof(word)) {
		if (off >= LUNFS_SCRATCH_OFF + 4096 &&
		    off < LUNFS_SCRATCH_OFF + LUNFS_SCRATCH_BYTES)
			continue;
		simdev_peek(t->m, off, sizeof(word), word);
		for (unsigned i = 0; i < 512; i++)
			h = (h ^ word[i]) * 0x100000001b3ull;
	}
	return h;
}

static uint64_t before;

static void fill_all(struct bed *t)
{
	uint8_t block[4096];

	memset(block, 0xa7, sizeof(block));
	for (uint64_t off = 0; off < 4ull << 20; off += sizeof(block))
		simdev_poke(t->m, off, sizeof(block), block);
	before = outside_hash(t);
}

static void nothing_is_written_outside_the_scratch_area(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->prepare = fill_all;
	t->cfg.destructive = true;
	bed_run(t);
	expect(t, CHECK_FIT);
	assert_true(before == outside_hash(t));
	bed_close(t);
	free(t);
}

static void without_leave_nothing_is_written_and_nothing_decided(void **state)
{
	struct bed *t = bed_new();
	struct simdev_counts n;

	(void)state;
	t->cfg.may_write = false;
	t->cfg.volume = false;
	t->claim = 1;
	bed_run(t);
	expect(t, CHECK_UNDECIDED);
	simdev_counts(t->m, &n);
	assert_int_equal(n.writes + n.caws + n.flushes + n.discards, 0);
	bed_close(t);
	free(t);
}

static void several_hosts_at_once_find_each_other(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->sides = 3;
	t->cfg.hosts = 3;
	t->cfg.sessions = 2;
	t->cfg.tasks = 2;
	for (t->seed = 1; t->seed <= how_many(10); t->seed++) {
		uint64_t own = 0;

		bed_run(t);
		expect(t, CHECK_FIT);
		for (unsigned i = 0; i < 3; i++)
			own += value(t, i, "hosts", "own_succeeded");
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(value(t, i, "hosts", "succeeded"), own);
		bed_close(t);
	}
	free(t);
}

static void checks_that_look_for_nobody_do_not_disturb_each_other(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->sides = 4;
	t->cfg.sessions = 2;
	t->cfg.tasks = 2;
	seeds(t, 10, CHECK_FIT);
}

static void a_host_that_nobody_joins_is_undecided(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->cfg.hosts = 2;
	bed_run(t);
	expect(t, CHECK_UNDECIDED);
	expect_grade(t, "hosts", CHECK_UNKNOWN);
	expect_grade(t, "atomic", CHECK_OK);
	bed_close(t);
	free(t);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void a_file_is_fit_for_one_machine_only(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->one_machine = true;
	bed_run(t);
	expect(t, CHECK_FIT_WITH_LIMITS);
	expect_grade(t, "identity", CHECK_LIMIT);
	bed_close(t);
	free(t);
}

static void no_reservations(struct bed *t)
{
	simdev_set_pr(t->m, false, false);
}

static void without_reservations_it_is_fit_with_limits(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->prepare = no_reservations;
	bed_run(t);
	expect(t, CHECK_FIT_WITH_LIMITS);
	expect_grade(t, "reservations", CHECK_LIMIT);
	bed_close(t);
	free(t);
}

static void a_slow_device_is_told_which_timing_fits(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->min_ns = 4500 * MS;
	t->max_ns = 5000 * MS;
	bed_run(t);
	expect(t, CHECK_FIT_WITH_LIMITS);
	expect_grade(t, "latency", CHECK_LIMIT);
	assert_non_null(strstr(result(t, 0, "latency")->advice, "--timing "));
	bed_close(t);
	free(t);
}

static void a_path_that_is_offline_is_named(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->facts.disk.paths = 2;
	t->facts.disk.path[0] = (struct disk_path){.node = "/dev/sda", .state = "running"};
	t->facts.disk.path[1] = (struct disk_path){.node = "/dev/sdq", .state = "offline"};
	bed_run(t);
	expect(t, CHECK_FIT_WITH_LIMITS);
	assert_non_null(strstr(result(t, 0, "paths")->text, "/dev/sdq"));
	bed_close(t);
	free(t);
}

/* ---- devices that lie ------------------------------------------------------------------------ */

static void a_device_that_claims_and_rejects_is_unfit(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->no_caw = true;
	t->claim = 128;
	bed_run(t);
	expect(t, CHECK_UNFIT);
	expect_grade(t, "caw-match", CHECK_BAD);
	assert_non_null(strstr(result(t, 0, "caw-match")->text, "although it claims"));
	assert_non_null(strstr(result(t, 0, "claim")->text, "false"));
	expect_grade(t, "atomic", CHECK_SKIPPED);
	expect_grade(t, "reads", CHECK_OK);
	bed_close(t);
	free(t);
}

static void a_write_protected_device_is_unfit(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->read_only = true;
	bed_run(t);
	expect(t, CHECK_UNFIT);
	bed_close(t);
	free(t);
}

static void a_device_that_is_too_small_is_unfit(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->size_bytes = 1u << 20;
	bed_run(t);
	expect(t, CHECK_UNFIT);
	bed_close(t);
	free(t);
}

static void goes_silent(struct bed *t)
{
	clock_sleep_ns(t->clk, 300 * MS);
	simdev_outage_all(t->m, CLOCK_FOREVER, SIMDEV_OUTAGE_SILENT);
}

static void a_device_that_falls_silent_is_unfit_and_soon_left_alone(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->meanwhile = goes_silent;
	for (t->seed = 1; t->seed <= 5; t->seed++) {
		bed_run(t);
		expect(t, CHECK_UNFIT);
		expect_grade(t, "answers", CHECK_BAD);
		if (t->took_ns >= 150 * S) {
			print_all(t);
			fail_msg("it took %llu s", (unsigned long long)(t->took_ns / S));
		}
		bed_close(t);
	}
	free(t);
}

static void chaos_of(struct bed *t, enum simdev_fault_kind kind, unsigned one_in, unsigned ops,
		     uint64_t ns)
{
	struct simdev_chaos c = {0};

	c.rate[kind] = (struct simdev_rate){one_in, ops, ns, ns};
	simdev_chaos(t->m, &c);
}

static void split(struct bed *t)
{
	chaos_of(t, SIMDEV_LIE_SPLIT, 1, SIMDEV_CAW, MS);
}

static void split_rarely(struct bed *t)
{
	chaos_of(t, SIMDEV_LIE_SPLIT, 20, SIMDEV_CAW, MS);
}

static void blind(struct bed *t)
{
	chaos_of(t, SIMDEV_LIE_BLIND, 1, SIMDEV_CAW, 0);
}

static void blind_rarely(struct bed *t)
{
	chaos_of(t, SIMDEV_LIE_BLIND, 50, SIMDEV_CAW, 0);
}

static void says_done(struct bed *t)
{
	chaos_of(t, SIMDEV_LIE_DONE, 50, SIMDEV_CAW, 0);
}

static void loses_writes(struct bed *t)
{
	chaos_of(t, SIMDEV_LIE_DONE, 5, SIMDEV_WRITE, 0);
}

static void corrupts(struct bed *t)
{
	chaos_of(t, SIMDEV_CORRUPT, 50, SIMDEV_READ, 0);
}

static void miscompares_often(struct bed *t)
{
	chaos_of(t, SIMDEV_LIE_MISCOMPARE, 3, SIMDEV_CAW, 0);
}

static void liar(void (*prepare)(struct bed *), unsigned n)
{
	struct bed *t = bed_new();

	t->prepare = prepare;
	seeds(t, n, CHECK_UNFIT);
}

static void a_device_that_compares_first_and_writes_later_is_caught(void **state)
{
	(void)state;
	liar(split, 20);
}

/*
 * Read, compare, write, answer: as tgt would. One at a time nothing is wrong with it.
 */
static int naive_caw(struct dev *d, uint64_t off_bytes, const void *test, const void *set)
{
	void *now = dev_buf_alloc(d->id.sector_bytes);
	int rc = d->ops->read(d, off_bytes, d->id.sector_bytes, now);

	if (!rc && memcmp(now, test, d->id.sector_bytes) != 0)
		rc = DEV_CAW_MISCOMPARE;
	else if (!rc)
		rc = d->ops->write(d, off_bytes, d->id.sector_bytes, set);
	free(now);
	return rc;
}

static void naive(struct bed *t, struct dev *d, unsigned n)
{
	static struct dev_ops ops;

	(void)t;
	(void)n;
	ops = *d->ops;
	ops.compare_and_write = naive_caw;
	ops.caw_batch = NULL;
	d->ops = &ops;
}

static void a_device_that_is_sound_but_for_two_at_once_is_caught_by_contention(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->each_session = naive;
	for (t->seed = 1; t->seed <= how_many(20); t->seed++) {
		bed_run(t);
		expect(t, CHECK_UNFIT);
		expect_grade(t, "caw-match", CHECK_OK);
		expect_grade(t, "caw-alone", CHECK_OK);
		expect_grade(t, "atomic", CHECK_BAD);
		bed_close(t);
	}
	free(t);
}

static void and_by_contention_between_hosts_if_one_is_not_enough(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->each_session = naive;
	t->cfg.sessions = t->cfg.tasks = 1;
	t->sides = 2;
	t->cfg.hosts = 2;
	for (t->seed = 1; t->seed <= how_many(10); t->seed++) {
		bed_run(t);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(result(t, i, "atomic")->grade, CHECK_OK);
			assert_int_equal(result(t, i, "hosts")->grade, CHECK_BAD);
		}
		bed_close(t);
	}
	free(t);
}

static void so_is_one_that_does_so_rarely(void **state)
{
	(void)state;
	liar(split_rarely, 20);
}

static void a_device_that_writes_without_comparing_is_caught(void **state)
{
	(void)state;
	liar(blind, 10);
}

static void so_is_one_that_does_not_compare_now_and_then(void **state)
{
	(void)state;
	liar(blind_rarely, 20);
}

static void a_device_that_says_done_and_does_nothing_is_caught(void **state)
{
	(void)state;
	liar(says_done, 20);
}

static void a_device_that_loses_writes_is_caught(void **state)
{
	(void)state;
	liar(loses_writes, 20);
}

static void a_device_that_changes_what_is_read_is_caught(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->prepare = corrupts;
	t->cfg.run_ms = 5000; /* under contention it looks like a read that was torn */
	seeds(t, 10, CHECK_UNFIT);
}

static void a_device_that_refuses_matches_often_is_caught(void **state)
{
	(void)state;
	liar(miscompares_often, 20);
}

static void miscompares_rarely(struct bed *t)
{
	chaos_of(t, SIMDEV_LIE_MISCOMPARE, 100, SIMDEV_CAW, 0);
}

static void one_that_does_so_rarely_is_fit_with_limits(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->prepare = miscompares_rarely;
	t->cfg.run_ms = 5000;
	bed_run(t);
	expect_grade(t, "caw-alone", CHECK_LIMIT);
	bed_close(t);
	seeds(t, 10, CHECK_FIT_WITH_LIMITS);
}

static void sends_twice(struct bed *t)
{
	chaos_of(t, SIMDEV_RESENT, 50, SIMDEV_CAW, 0);
}

static void a_way_that_sends_commands_twice_is_noticed(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->prepare = sends_twice;
	t->cfg.run_ms = 3000;
	bed_run(t);
	expect_grade(t, "caw-alone", CHECK_LIMIT);
	bed_close(t);
	seeds(t, 10, CHECK_FIT_WITH_LIMITS);
}

static void busy(struct bed *t)
{
	struct simdev_chaos c = {0};

	c.rate[SIMDEV_BUSY] = (struct simdev_rate){10, 0, MS, 5 * MS};
	c.rate[SIMDEV_TASK_SET_FULL] = (struct simdev_rate){10, 0, MS, 5 * MS};
	c.rate[SIMDEV_UNIT_ATTENTION] = (struct simdev_rate){20, 0, MS, 5 * MS};
	simdev_chaos(t->m, &c);
}

static void busy_answers_and_unit_attentions_change_nothing(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->prepare = busy;
	seeds(t, 20, CHECK_FIT);
}

/* Commands that were answered by a time-out and land whenever they like. */
static void late(struct bed *t)
{
	struct simdev_chaos c = {0};

	c.rate[SIMDEV_LATE] =
	    (struct simdev_rate){200, SIMDEV_CAW | SIMDEV_WRITE, 10 * MS, 500 * MS};
	c.rate[SIMDEV_LOST_REPLY] = (struct simdev_rate){200, SIMDEV_CAW, 0, 0};
	simdev_chaos(t->m, &c);
}

static void time_outs_are_no_reason_to_call_it_unfit(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->prepare = late;
	for (t->seed = 1; t->seed <= how_many(20); t->seed++) {
		bed_run(t);
		if (verdict_of(t, 0) == CHECK_UNFIT || verdict_of(t, 0) == CHECK_FIT)
			expect(t, CHECK_FIT_WITH_LIMITS);
		bed_close(t);
	}
	free(t);
}

/* The second session reads through a cache that never hears of anything. */
static void stale_second(struct bed *t, struct dev *d, unsigned n)
{
	if (n != 1)
		return;
	if (!t->old)
		t->old = simdev_snapshot(t->m);
	simdev_set_stale(d, t->old, LUNFS_SCRATCH_OFF, LUNFS_SCRATCH_BYTES);
}

static void a_session_behind_a_stale_cache_is_caught(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->each_session = stale_second;
	bed_run(t);
	expect(t, CHECK_UNFIT);
	bed_close(t);
	t->no_caw = true; /* so that reads alone tell */
	bed_run(t);
	expect_grade(t, "reads", CHECK_BAD);
	bed_close(t);
	t->no_caw = false;
	seeds(t, 10, CHECK_UNFIT);
}

static void reads_old_now_and_then(struct bed *t)
{
	chaos_of(t, SIMDEV_STALE, 10, SIMDEV_READ, 0);
}

static void a_path_that_reads_old_contents_now_and_then_is_caught(void **state)
{
	(void)state;
	liar(reads_old_now_and_then, 20);
}

/* ---- reservations and other users ------------------------------------------------------------ */

static void reserve_it(struct bed *t)
{
	static const uint64_t key = 0x1234;

	assert_int_equal(t->first->ops->pr->register_key(t->first, 0, key), 0);
	assert_int_equal(t->first->ops->pr->reserve(t->first, key), 0);
}

static void on_a_reserved_volume_temporary_keys_come_and_go(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->prepare = reserve_it;
	bed_run(t);
	expect(t, CHECK_FIT);
	assert_true(simdev_pr_reserved(t->m));
	assert_true(simdev_pr_key(t->m, simdev_nexus(t->first)) == 0x1234);
	assert_int_equal(value(t, 0, "reservations", "keys"), 1 + t->cfg.sessions);
	{
		uint64_t keys[DEV_PR_KEYS_MAX];
		struct dev_pr_state st = {.keys = keys};

		assert_int_equal(t->first->ops->pr->read_state(t->first, &st), 0);
		assert_int_equal(st.nkeys, 1);
	}
	bed_close(t);
	free(t);
}

static void reserve_later(struct bed *t)
{
	clock_sleep_ns(t->clk, 200 * MS);
	reserve_it(t);
}

static void a_host_that_mounts_meanwhile_and_reserves_does_no_harm(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->meanwhile = reserve_later;
	t->prepare = watch_refusals;
	bed_run(t);
	expect(t, CHECK_FIT);
	assert_true(simdev_pr_reserved(t->m));
	assert_false(t->refused);
	bed_close(t);
	t->cfg.destructive = true; /* no keys before they are needed */
	t->prepare = NULL;
	bed_run(t);
	expect(t, CHECK_FIT);
	assert_true(simdev_pr_reserved(t->m));
	bed_close(t);
	free(t);
}

/* What a mount does with the scratch area, and what other programs must not be bothered by. */
static void mounts_probe(struct bed *t)
{
	char why[256] = "";

	while (atomic_load(&t->running)) {
		assert_int_equal(dev_caw_probe(t->first, LUNFS_SCRATCH_OFF, why, sizeof(why)), 0);
		clock_sleep_ns(t->clk, 3 * MS);
	}
}

static void hosts_that_mount_meanwhile_are_not_disturbed(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->meanwhile = mounts_probe;
	bed_run(t);
	expect(t, CHECK_FIT);
	bed_close(t);
	free(t);
}

static void wipe_all(struct bed *t)
{
	void *zero = dev_buf_alloc(LUNFS_SCRATCH_BYTES);

	clock_sleep_ns(t->clk, 350 * MS);
	assert_int_equal(dev_write(t->first, LUNFS_SCRATCH_OFF, LUNFS_SCRATCH_BYTES, zero), 0);
	free(zero);
}

static void left_overs(struct bed *t)
{
	uint8_t junk[4096];

	for (unsigned i = 0; i < LUNFS_SCRATCH_BYTES / 4096; i++) {
		memset(junk, (int)i, sizeof(junk));
		simdev_poke(t->m, LUNFS_SCRATCH_OFF + i * 4096ull, sizeof(junk), junk);
	}
}

static void junk_in_the_scratch_area_does_not_matter(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->prepare = left_overs;
	bed_run(t);
	expect(t, CHECK_FIT);
	bed_close(t);
	free(t);
}

static void stop_it(struct bed *t)
{
	clock_sleep_ns(t->clk, 100 * MS);
	check_stop(t->side[0].check);
}

static void an_interrupted_check_decides_nothing_and_leaves_no_key(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->meanwhile = stop_it;
	t->prepare = reserve_it;
	bed_run(t);
	expect(t, CHECK_UNDECIDED);
	for (unsigned nexus = 0; nexus < 16; nexus++)
		if (nexus != simdev_nexus(t->first))
			assert_true(simdev_pr_key(t->m, nexus) == 0);
	bed_close(t);
	free(t);
}

static void a_scratch_area_that_somebody_wipes_is_noticed(void **state)
{
	struct bed *t = bed_new();

	(void)state;
	t->meanwhile = wipe_all;
	bed_run(t);
	assert_int_not_equal(verdict_of(t, 0), CHECK_FIT);
	bed_close(t);
	free(t);
}

#define T(f) cmocka_unit_test(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(a_sound_device_is_fit_whatever_the_seed),
	    T(so_is_one_with_sectors_of_4096_bytes),
	    T(fencing_is_played_through_on_a_device_of_nobody),
	    T(no_command_is_refused_that_could_break_the_target),
	    T(a_target_that_breaks_by_a_refusal_is_found_when_provoked),
	    T(nothing_is_written_outside_the_scratch_area),
	    T(without_leave_nothing_is_written_and_nothing_decided),
	    T(several_hosts_at_once_find_each_other),
	    T(checks_that_look_for_nobody_do_not_disturb_each_other),
	    T(a_host_that_nobody_joins_is_undecided),
	    T(a_file_is_fit_for_one_machine_only),
	    T(without_reservations_it_is_fit_with_limits),
	    T(a_slow_device_is_told_which_timing_fits),
	    T(a_path_that_is_offline_is_named),
	    T(a_device_that_claims_and_rejects_is_unfit),
	    T(a_write_protected_device_is_unfit),
	    T(a_device_that_is_too_small_is_unfit),
	    T(a_device_that_falls_silent_is_unfit_and_soon_left_alone),
	    T(a_device_that_compares_first_and_writes_later_is_caught),
	    T(so_is_one_that_does_so_rarely),
	    T(a_device_that_is_sound_but_for_two_at_once_is_caught_by_contention),
	    T(and_by_contention_between_hosts_if_one_is_not_enough),
	    T(a_device_that_writes_without_comparing_is_caught),
	    T(so_is_one_that_does_not_compare_now_and_then),
	    T(a_device_that_says_done_and_does_nothing_is_caught),
	    T(a_device_that_loses_writes_is_caught),
	    T(a_device_that_changes_what_is_read_is_caught),
	    T(a_device_that_refuses_matches_often_is_caught),
	    T(one_that_does_so_rarely_is_fit_with_limits),
	    T(a_way_that_sends_commands_twice_is_noticed),
	    T(busy_answers_and_unit_attentions_change_nothing),
	    T(time_outs_are_no_reason_to_call_it_unfit),
	    T(a_session_behind_a_stale_cache_is_caught),
	    T(a_path_that_reads_old_contents_now_and_then_is_caught),
	    T(on_a_reserved_volume_temporary_keys_come_and_go),
	    T(a_host_that_mounts_meanwhile_and_reserves_does_no_harm),
	    T(hosts_that_mount_meanwhile_are_not_disturbed),
	    T(junk_in_the_scratch_area_does_not_matter),
	    T(an_interrupted_check_decides_nothing_and_leaves_no_key),
	    T(a_scratch_area_that_somebody_wipes_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
