/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The order of the tests, their results, and the verdict over all of them.
 *
 * Results are added under the mutex and never changed after that, so whoever waits for a check that
 * hangs can still show what it had found.
 */
#include "check/check_impl.h"

#include <stdarg.h>

#define SESSIONS_DEFAULT 4u
#define TASKS_DEFAULT 8u

/* ---- results --------------------------------------------------------------------------------- */

void result_init(struct check_result *r, const char *name)
{
	memset(r, 0, sizeof(*r));
	r->name = name;
}

void result_say(struct check_result *r, enum check_grade g, const char *fmt, ...)
{
	va_list ap;

	r->grade = g;
	va_start(ap, fmt);
	vsnprintf(r->text, sizeof(r->text), fmt, ap);
	va_end(ap);
}

void result_advise(struct check_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->advice, sizeof(r->advice), fmt, ap);
	va_end(ap);
}

void result_value(struct check_result *r, const char *key, uint64_t value)
{
	lunfs_assert(r->values < CHECK_VALUES_MAX);
	r->value[r->values++] = (struct check_value){key, value};
}

void result_add(struct check *c, const struct check_result *r)
{
	mtx_lock(&c->mtx);
	lunfs_assert(c->results < CHECK_RESULTS_MAX);
	c->result[c->results++] = *r;
	mtx_unlock(&c->mtx);
}

unsigned check_results(struct check *c, struct check_result out[CHECK_RESULTS_MAX])
{
	unsigned n;

	mtx_lock(&c->mtx);
	n = c->results;
	memcpy(out, c->result, n * sizeof(*out));
	mtx_unlock(&c->mtx);
	return n;
}

void check_disturbed(struct check *c, const char *fmt, ...)
{
	va_list ap;

	mtx_lock(&c->mtx);
	if (!c->disturbed[0]) {
		va_start(ap, fmt);
		vsnprintf(c->disturbed, sizeof(c->disturbed), fmt, ap);
		va_end(ap);
	}
	mtx_unlock(&c->mtx);
}

bool check_is_disturbed(struct check *c)
{
	bool is;

	mtx_lock(&c->mtx);
	is = c->disturbed[0] != 0;
	mtx_unlock(&c->mtx);
	return is;
}

bool result_excused(struct check *c, struct check_result *r)
{
	bool is;

	mtx_lock(&c->mtx);
	is = c->disturbed[0] != 0;
	if (is) {
		result_say(r, CHECK_UNKNOWN, "Not to be told: %s", c->disturbed);
		result_advise(r, "Run the check again.");
	}
	mtx_unlock(&c->mtx);
	if (!is && atomic_load(&c->silent)) {
		result_say(r, CHECK_UNKNOWN,
			   "The device stopped answering before this could be "
			   "told.");
		is = true;
	} else if (!is && check_over(c)) {
		result_say(r, CHECK_UNKNOWN, "It was interrupted before this could be told.");
		is = true;
	}
	return is;
}

const char *check_grade_name(enum check_grade g)
{
	static const char *const name[] = {
	    [CHECK_OK] = "ok",	   [CHECK_NOTE] = "note",	[CHECK_LIMIT] = "limit",
	    [CHECK_BAD] = "unfit", [CHECK_UNKNOWN] = "unknown", [CHECK_SKIPPED] = "skipped",
	};

	return name[g];
}

const char *check_verdict_name(enum check_verdict v)
{
	static const char *const name[] = {
	    [CHECK_FIT] = "fit",
	    [CHECK_FIT_WITH_LIMITS] = "fit with limits",
	    [CHECK_UNFIT] = "unfit",
	    [CHECK_UNDECIDED] = "undecided",
	};

	return name[v];
}

enum check_verdict check_verdict(const struct check_result *r, unsigned n)
{
	unsigned count[CHECK_SKIPPED + 1] = {0};

	for (unsigned i = 0; i < n; i++)
		count[r[i].grade]++;
	if (count[CHECK_BAD])
		return CHECK_UNFIT;
	if (!n || count[CHECK_UNKNOWN])
		return CHECK_UNDECIDED;
	return count[CHECK_LIMIT] ? CHECK_FIT_WITH_LIMITS : CHECK_FIT;
}

static void say_silent(struct check *c)
{
	struct check_result r;

	if (!atomic_load(&c->silent))
		return;
	result_init(&r, "answers");
	result_say(&r, CHECK_BAD,
		   "The device stopped answering: no command came back for several deadlines.");
	result_advise(&r, "Look at the target's and the kernel's log, and at the paths; then check "
			  "again.");
	result_add(c, &r);
}

void check_add_hang(struct check *c)
{
	struct check_result r;

	result_init(&r, "answers");
	result_say(&r, CHECK_BAD,
		   "A command, a login or a log-out did not come back, long after its deadline of "
		   "%u ms: the device, or what carries its commands, hangs.",
		   c->cfg.deadline_ms);
	result_advise(&r, "Look at the target's and the kernel's log. A reservation key of this "
			  "check may be left on the device; 'lunfs hosts' shows it.");
	mtx_lock(&c->mtx);
	if (c->results < CHECK_RESULTS_MAX)
		c->result[c->results++] = r;
	mtx_unlock(&c->mtx);
}

/* ---- help ------------------------------------------------------------------------------------ */

bool check_over(const struct check *c)
{
	return atomic_load(&c->stopped) || atomic_load(&c->silent);
}

uint64_t check_now(const struct check *c)
{
	return clock_now_ns(c->clk);
}

void check_nap(const struct check *c, uint64_t ns)
{
	clock_sleep_ns(c->clk, ns);
}

uint64_t check_random(const struct check *c)
{
	uint64_t x = 0;

	while (!x)
		c->clk->ops->random(c->clk, &x, sizeof(x));
	return x;
}

uint64_t check_share_ns(const struct check *c, unsigned percent)
{
	return (uint64_t)c->cfg.run_ms * MS_NS / 100 * percent;
}

void check_progress(struct check *c, const char *what, unsigned percent)
{
	if (c->cfg.progress)
		c->cfg.progress(c->cfg.ctx, what, percent);
}

/* ---- the check ------------------------------------------------------------------------------- */

struct check *check_new(const struct check_config *cfg)
{
	struct check *c = calloc(1, sizeof(*c));

	lunfs_assert(c);
	c->cfg = *cfg;
	c->clk = cfg->clk;
	if (cfg->facts)
		c->facts = *cfg->facts;
	c->cfg.facts = NULL;
	c->cfg.hosts = cfg->hosts ? cfg->hosts : 1;
	c->sessions = cfg->sessions ? cfg->sessions : SESSIONS_DEFAULT;
	c->tasks = cfg->tasks ? cfg->tasks : TASKS_DEFAULT;
	lunfs_assert(c->sessions <= CHECK_SESSIONS_MAX && c->tasks <= CHECK_TASKS_MAX &&
		     c->cfg.hosts <= CHECK_HOSTS_MAX && cfg->deadline_ms);
	mtx_init(&c->mtx, c->clk);
	cond_init(&c->cv, c->clk);
	c->run = check_random(c);
	return c;
}

void check_free(struct check *c)
{
	cond_destroy(&c->cv);
	mtx_destroy(&c->mtx);
	free(c);
}

void check_stop(struct check *c)
{
	atomic_store(&c->stopped, true);
}

static void say_untried(struct check *c)
{
	struct check_result r;

	result_init(&r, "trial");
	if (c->cfg.volume) {
		result_say(&r, CHECK_UNKNOWN, "Nothing was tried, as asked for (-n).");
	} else {
		result_say(&r, CHECK_UNKNOWN,
			   "Nothing was tried: the device holds no lunfs volume, so no place on it "
			   "is known to be free for tests.");
		result_advise(
		    &r, "--destructive tries it, and overwrites the 512 KiB behind the first "
			"1.5 MiB of the device; or make a volume on it first (mkfs.lunfs), then "
			"the check uses only the area that the volume keeps for it.");
	}
	result_add(c, &r);
}

static void try_all(struct check *c)
{
	struct check_result r;

	result_init(&r, "scratch-area");
	if (member_join(c, &r)) {
		result_add(c, &r);
		return;
	}
	c->joined = true;
	test_caw(c);
	test_claim(c);
	test_reads(c);
	test_latency(c);
	test_atomic(c);
	test_hosts(c);
	test_timing(c);
	test_reservations(c);
	test_discard(c);
	member_leave(c);
}

static bool too_small(const struct check *c)
{
	return c->s[0].dev->id.size_bytes < LUNFS_SCRATCH_OFF + LUNFS_SCRATCH_BYTES;
}

static bool write_protected(struct check *c)
{
	struct check_result r;

	if (!c->s[0].dev->id.read_only || !c->cfg.may_write)
		return false;
	result_init(&r, "write-protection");
	result_say(&r, CHECK_BAD,
		   "The device is write-protected for this machine. Every host writes to it, those "
		   "that mount read-only too.");
	result_advise(&r, "Lift the protection at the array or of the file; then check again.");
	result_add(c, &r);
	return true;
}

void check_run(struct check *c)
{
	char why[WHY_BYTES] = "";
	struct check_result r;

	check_progress(c, "opening the device", 0);
	if (sessions_open(c))
		return;
	test_facts(c);
	if (too_small(c) || write_protected(c))
		goto out_close;
	if (!c->cfg.may_write) {
		test_claim(c);
		test_reservations(c);
		say_untried(c);
		goto out_close;
	}
	if (sessions_register(c, why, sizeof(why))) {
		result_init(&r, "reservations");
		result_say(&r, CHECK_UNKNOWN, "Nothing can be tried: %s", why);
		result_add(c, &r);
		goto out_close;
	}
	try_all(c);
	say_silent(c);
out_close:
	check_progress(c, "closing", 99);
	sessions_close(c);
}
