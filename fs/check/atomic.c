/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the operation atomic? Many tasks on several sessions count sectors up by COMPARE AND WRITE.
 * Each image that is set is unique and carries a counter one above that of its test image. So
 *
 * - as many commands succeed as the counter shows in the end: fewer is a lost update;
 * - no two commands make the same value of a counter: both would have compared the same contents;
 * - who reads after a success sees that value or a higher one: else the read was stale, or the
 *   counter went back;
 * - what is read is a whole image, or is one when it is read again: lunfs knows its records by
 *   their checksums, and a file's reads and writes are not atomic.
 */
#include "check/check_impl.h"

#include "base/crc.h"

#include <stdarg.h>

#define WON_BITS (1u << 20)
#define MANY_FALSE 20u /* one in so many false miscompares is too much */
#define NAP_NS MS_NS
#define LATER_TRIES 5u
#define LATER_NAP_NS (20 * MS_NS)
#define ERRORS_MAX 3u
#define AGAIN_SHARE_PERCENT 20u

struct counter {
	uint64_t off_bytes;
	atomic_ullong known;   /* some command that made this value has succeeded */
	atomic_ullong success; /* commands */
	atomic_ullong unknown;
	atomic_uchar *won; /* a bit for each value that a command has made */
};

struct arena {
	struct check *c;
	uint64_t run, until_ns;
	struct counter ctr[COUNTERS];
	unsigned n;
	atomic_ullong tries, miscompare, busy, false_miscompare, sent_twice, torn;
	atomic_bool stop, failed;
	struct check_result *r; /* c->mtx; filled by the first fault */
};

struct worker {
	struct arena *a;
	struct task *task;
	unsigned session;
	uint64_t id, seq, rng;
	unsigned errors;
	uint8_t *test, *set, *seen;
};

/* The first fault is the one to be told. */
static void fault(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void fault(struct arena *a, const char *fmt, ...)
{
	char text[WHY_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	mtx_lock(&a->c->mtx);
	if (!atomic_exchange(&a->failed, true)) {
		result_say(a->r, CHECK_BAD, "%s", text);
		result_advise(a->r, "Do not share this device: hosts would destroy what others "
				    "wrote. Look for a firmware with a correct COMPARE AND WRITE "
				    "(VAAI ATS), and for a caching layer on the way.");
	}
	mtx_unlock(&a->c->mtx);
	atomic_store(&a->stop, true);
}

static void disturbed(struct arena *a, const char *why)
{
	check_disturbed(a->c, "%s", why);
	atomic_store(&a->stop, true);
}

static bool over(const struct arena *a)
{
	return atomic_load(&a->stop) || check_over(a->c) || check_now(a->c) >= a->until_ns;
}

static uint64_t pick(struct worker *w, uint64_t below)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return w->rng % below;
}

#define IMAGE_TORN 1

/* 0: an image of this run. -1: the task is to look again, or over. IMAGE_TORN: it is none. */
static int image_here(struct worker *w, const struct counter *k, const void *sector,
		      struct image *img)
{
	struct arena *a = w->a;

	switch (image_read(sector, a->c->sector, k->off_bytes, a->run, img)) {
	case IMAGE_OURS:
		return 0;
	case IMAGE_FOREIGN:
		disturbed(a, "another check wrote over the counters of this one.");
		return -1;
	case IMAGE_MOVED:
		fault(a, "A sector shows what was written to another one.");
		return -1;
	case IMAGE_BROKEN:
		break;
	}
	return IMAGE_TORN;
}

/* A mixture of two images, perhaps: the next reads tell. */
static int look_again(struct worker *w, const struct counter *k, void *sector, struct image *img)
{
	struct arena *a = w->a;
	int rc = IMAGE_TORN;

	for (unsigned i = 0; i < LATER_TRIES && rc == IMAGE_TORN; i++) {
		if (i)
			check_nap(a->c, LATER_NAP_NS);
		if (!io_read(a->c, w->session, k->off_bytes, a->c->sector, sector))
			rc = image_here(w, k, sector, img);
	}
	if (rc != IMAGE_TORN)
		atomic_fetch_add(&a->torn, 1);
	else if (mem_is_zero(sector, a->c->sector))
		fault(a, "A counter reads as zeroes: the device has lost it, or another program "
			 "(mkfs.lunfs?) has wiped the scratch area meanwhile.");
	else
		fault(a,
		      "A sector is damaged: it does not change as a whole when it is compared and "
		      "written.");
	return rc;
}

static int judge_image(struct worker *w, const struct counter *k, void *sector, struct image *img)
{
	int rc = image_here(w, k, sector, img);

	if (rc == IMAGE_TORN)
		rc = look_again(w, k, sector, img);
	return rc == IMAGE_TORN ? -1 : rc;
}

static int io_failed(struct worker *w, const char *what, int rc)
{
	if (rc == -EBADE)
		disturbed(w->a, "another host has reserved the device meanwhile, and this one is "
				"refused.");
	else if (rc != -ETIMEDOUT && rc != -EAGAIN && ++w->errors >= ERRORS_MAX)
		fault(w->a, "%s fails under load: %s.", what, io_error(rc));
	check_nap(w->a->c, NAP_NS);
	return -1;
}

/* Read less than what had been made: does it come with time? */
static int behind(struct worker *w, struct counter *k, uint64_t floor, uint64_t value)
{
	struct check *c = w->a->c;
	struct image img;

	for (unsigned i = 0; i < LATER_TRIES; i++) {
		check_nap(c, LATER_NAP_NS);
		if (io_read(c, w->session, k->off_bytes, c->sector, w->seen) ||
		    judge_image(w, k, w->seen, &img))
			continue;
		if (img.value < floor)
			continue;
		fault(w->a,
		      "A read showed old contents (counter %llu) after a COMPARE AND WRITE to %llu "
		      "had succeeded: a cache stands between a session and the device.",
		      (unsigned long long)value, (unsigned long long)floor);
		return -1;
	}
	fault(
	    w->a,
	    "A counter went back from %llu to %llu: a COMPARE AND WRITE that succeeded was lost or "
	    "overwritten, so the operation is not atomic.",
	    (unsigned long long)floor, (unsigned long long)value);
	return -1;
}

/* The present image into w->test. */
static int look(struct worker *w, struct counter *k, struct image *img)
{
	struct check *c = w->a->c;
	uint64_t floor = atomic_load(&k->known);
	int rc = io_read(c, w->session, k->off_bytes, c->sector, w->test);

	if (rc)
		return io_failed(w, "Reading", rc);
	rc = judge_image(w, k, w->test, img);
	if (rc)
		return rc;
	return img->value < floor ? behind(w, k, floor, img->value) : 0;
}

static void won(struct worker *w, struct counter *k, uint64_t value)
{
	unsigned long long known = atomic_load(&k->known);
	unsigned char bit = (unsigned char)(1u << value % 8);

	atomic_fetch_add(&k->success, 1);
	if (value < WON_BITS && (atomic_fetch_or(&k->won[value / 8], bit) & bit))
		fault(
		    w->a,
		    "Two COMPARE AND WRITE both succeeded on the same contents (counter %llu): the "
		    "operation is not atomic.",
		    (unsigned long long)value);
	while (value > known && !atomic_compare_exchange_weak(&k->known, &known, value))
		;
}

/* Rightly so, or does the sector hold just what was compared? */
static void judge_miscompare(struct worker *w, struct counter *k, const struct image *set)
{
	struct arena *a = w->a;
	struct check *c = a->c;
	struct image img;

	atomic_fetch_add(&a->miscompare, 1);
	if (io_read(c, w->session, k->off_bytes, c->sector, w->seen) ||
	    judge_image(w, k, w->seen, &img))
		return;
	if (img.setter == set->setter && img.seq == set->seq) {
		atomic_fetch_add(&a->sent_twice, 1);
		won(w, k, set->value);
	} else if (!memcmp(w->seen, w->test, c->sector)) {
		atomic_fetch_add(&a->false_miscompare, 1);
		check_nap(c, NAP_NS);
	}
}

static void count_up(struct worker *w)
{
	struct arena *a = w->a;
	struct check *c = a->c;
	struct counter *k = &a->ctr[pick(w, 2) ? 0 : pick(w, a->n)];
	struct image img, set;
	int rc;

	if (look(w, k, &img))
		return;
	set = (struct image){a->run, w->id, ++w->seq, img.value + 1};
	image_make(w->set, c->sector, k->off_bytes, &set);
	atomic_fetch_add(&a->tries, 1);
	rc = io_caw_as(c, w->session, k->off_bytes, w->test, w->set, LAT_CAW_BUSY);
	if (rc == DEV_CAW_GOOD) {
		won(w, k, set.value);
	} else if (rc == DEV_CAW_MISCOMPARE) {
		judge_miscompare(w, k, &set);
	} else {
		if (rc == -ETIMEDOUT)
			atomic_fetch_add(&k->unknown, 1);
		else if (rc == -EAGAIN)
			atomic_fetch_add(&a->busy, 1);
		io_failed(w, "COMPARE AND WRITE", rc);
	}
}

static void worker_main(void *arg)
{
	struct worker *w = arg;

	while (!over(w->a))
		count_up(w);
}

/* ---- the arena ------------------------------------------------------------------------------- */

int arena_prepare(struct check *c, uint64_t run, const uint64_t *off, unsigned n)
{
	void *sector = dev_buf_alloc(c->sector);
	struct image img = {.run = run};
	int rc = 0;

	for (unsigned i = 0; i < n && !rc; i++) {
		image_make(sector, c->sector, off[i], &img);
		rc = io_write(c, 0, off[i], c->sector, sector);
	}
	free(sector);
	return rc;
}

/* So many that the device's other users do not feel it: their beats queue behind our commands. */
static unsigned tasks_for(const struct check *c)
{
	uint64_t one_us = hist_percentile_us(&c->lat[LAT_CAW], 50);
	uint64_t room_us = c->cfg.deadline_ms * 1000ull / 8, want = c->sessions * c->tasks;

	if (one_us && want * one_us > room_us)
		want = room_us / one_us;
	return want > c->sessions ? (unsigned)want : c->sessions;
}

static void worker_init(struct worker *w, struct arena *a, unsigned i)
{
	struct check *c = a->c;

	*w = (struct worker){.a = a, .session = i % c->sessions};
	w->id = (uint64_t)(c->cell + 1) << 32 | (i + 1);
	w->rng = check_random(c);
	w->test = dev_buf_alloc(c->sector);
	w->set = dev_buf_alloc(c->sector);
	w->seen = dev_buf_alloc(c->sector);
}

static unsigned run_tasks(struct arena *a, struct worker *w, unsigned n)
{
	struct check *c = a->c;
	unsigned started = 0;

	for (; started < n; started++) {
		worker_init(&w[started], a, started);
		if (c->clk->ops->task_start(c->clk, "check-count", worker_main, &w[started],
					    &w[started].task))
			w[started].task = NULL;
	}
	for (unsigned i = 0; i < started; i++) {
		if (w[i].task)
			c->clk->ops->task_join(c->clk, w[i].task);
		free(w[i].test);
		free(w[i].set);
		free(w[i].seen);
	}
	return started;
}

static void sum_up(struct arena *a, struct arena_sum *sum)
{
	sum->tries = atomic_load(&a->tries);
	sum->miscompare = atomic_load(&a->miscompare);
	sum->busy = atomic_load(&a->busy);
	sum->false_miscompare = atomic_load(&a->false_miscompare);
	sum->sent_twice = atomic_load(&a->sent_twice);
	sum->torn = atomic_load(&a->torn);
	sum->failed = atomic_load(&a->failed);
	for (unsigned i = 0; i < a->n; i++) {
		sum->success_at[i] = atomic_load(&a->ctr[i].success);
		sum->unknown_at[i] = atomic_load(&a->ctr[i].unknown);
		sum->success += sum->success_at[i];
		sum->unknown += sum->unknown_at[i];
	}
}

void arena_run(struct check *c, uint64_t run, const uint64_t *off, unsigned n, uint64_t until_ns,
	       struct arena_sum *sum, struct check_result *r)
{
	struct worker *w = calloc(c->sessions * c->tasks, sizeof(*w));
	struct arena a = {.c = c, .run = run, .until_ns = until_ns, .n = n, .r = r};

	lunfs_assert(w && n <= COUNTERS);
	memset(sum, 0, sizeof(*sum));
	for (unsigned i = 0; i < n; i++) {
		a.ctr[i].off_bytes = off[i];
		a.ctr[i].won = calloc(WON_BITS / 8, sizeof(*a.ctr[i].won));
		lunfs_assert(a.ctr[i].won);
	}
	sum->tasks = run_tasks(&a, w, tasks_for(c));
	sum_up(&a, sum);
	sum->sessions = c->sessions;
	sum->one_machine = c->s[0].dev->id.one_machine;
	for (unsigned i = 0; i < n; i++)
		free(a.ctr[i].won);
	free(w);
}

/* ---- afterwards ------------------------------------------------------------------------------ */

static bool verify_one(struct check *c, uint64_t run, uint64_t off, unsigned session,
		       uint64_t *value, struct check_result *r)
{
	void *sector = dev_buf_alloc(c->sector);
	struct image img = {0};
	enum image_is is = IMAGE_BROKEN;
	int rc = io_read(c, session, off, c->sector, sector);

	if (!rc)
		is = image_read(sector, c->sector, off, run, &img);
	free(sector);
	*value = img.value;
	if (rc) {
		result_say(r, CHECK_UNKNOWN, "The counters cannot be read in the end: %s.",
			   io_error(rc));
	} else if (is == IMAGE_FOREIGN) {
		check_disturbed(c, "another check wrote over the counters of this one.");
		result_excused(c, r);
	} else if (is != IMAGE_OURS) {
		result_say(r, CHECK_BAD,
			   "In the end a counter is damaged: what a COMPARE AND WRITE wrote is not "
			   "there as a whole.");
		result_advise(r, "Do not share this device.");
	}
	return !rc && is == IMAGE_OURS;
}

static bool verify_sum(uint64_t value, uint64_t success, uint64_t unknown, const char *what,
		       struct check_result *r)
{
	if (value < success) {
		result_say(r, CHECK_BAD,
			   "%llu COMPARE AND WRITE by %s were answered with success, but the "
			   "counter shows %llu: %llu updates were lost, so the operation is not "
			   "atomic.",
			   (unsigned long long)success, what, (unsigned long long)value,
			   (unsigned long long)(success - value));
		result_advise(r,
			      "Do not share this device: hosts would destroy what others wrote.");
		return false;
	}
	if (value > success + unknown) {
		result_say(r, CHECK_LIMIT,
			   "%llu COMPARE AND WRITE by %s took effect although they were answered "
			   "with MISCOMPARE: something on the way sends commands twice.",
			   (unsigned long long)(value - success - unknown), what);
		result_advise(r, "lunfs recognises that and goes on; look at the paths, the "
				 "multipath settings and the kernel's log.");
		return false;
	}
	return true;
}

bool arena_verify(struct check *c, uint64_t run, const uint64_t *off, unsigned n,
		  const struct arena_sum *sum, const char *what, struct check_result *r)
{
	for (unsigned k = 0; k < n; k++) {
		uint64_t first = 0, value;

		for (unsigned s = 0; s < c->sessions; s++) {
			if (!verify_one(c, run, off[k], s, &value, r))
				return false;
			if (s && value != first && !sum->unknown) {
				result_say(r, CHECK_BAD,
					   "Sessions read different contents of one sector that "
					   "nobody changes any more (%llu and %llu).",
					   (unsigned long long)first, (unsigned long long)value);
				result_advise(r, "Do not share this device: a cache stands between "
						 "a session and the device.");
				return false;
			}
			first = value;
		}
		if (!verify_sum(first, sum->success_at[k], sum->unknown_at[k], what, r))
			return false;
	}
	return true;
}

void arena_judge(const struct arena_sum *sum, const char *what, struct check_result *r)
{
	unsigned long long wrong = sum->false_miscompare;

	if (!sum->success) {
		result_say(
		    r, CHECK_BAD,
		    "Not one of %llu COMPARE AND WRITE by %s succeeded: under contention the "
		    "device lets nobody through.",
		    (unsigned long long)sum->tries, what);
		result_advise(r, "Look at the array's load and firmware.");
	} else if (wrong) {
		result_say(r, wrong * MANY_FALSE > sum->tries ? CHECK_BAD : CHECK_LIMIT,
			   "%llu of %llu COMPARE AND WRITE by %s were answered with MISCOMPARE "
			   "although the sector held just what was compared.",
			   wrong, (unsigned long long)sum->tries, what);
		result_advise(r, "lunfs tries again and survives a few; look at the array's "
				 "firmware.");
	} else if (sum->sent_twice) {
		result_say(
		    r, CHECK_LIMIT,
		    "%llu of %llu COMPARE AND WRITE by %s took effect and were answered with "
		    "MISCOMPARE: something on the way sends commands twice.",
		    (unsigned long long)sum->sent_twice, (unsigned long long)sum->tries, what);
		result_advise(r, "lunfs recognises that and goes on; look at the paths, the "
				 "multipath settings and the kernel's log.");
	} else if (sum->torn && !sum->one_machine) {
		result_say(
		    r, CHECK_LIMIT,
		    "%llu reads showed a mixture of two images of one sector, and a whole one "
		    "when they were done again: a read is not atomic while the sector changes.",
		    (unsigned long long)sum->torn);
		result_advise(r, "lunfs reads such a sector again and survives that; look at the "
				 "array's firmware.");
	} else {
		result_say(r, CHECK_OK,
			   "%llu of %llu contended COMPARE AND WRITE by %s succeeded, and the "
			   "counters show that number: none was lost, none counted twice.",
			   (unsigned long long)sum->success, (unsigned long long)sum->tries, what);
	}
}

static void add_values(const struct arena_sum *sum, struct check_result *r)
{
	result_value(r, "sessions", sum->sessions);
	result_value(r, "tasks", sum->tasks);
	result_value(r, "commands", sum->tries);
	result_value(r, "succeeded", sum->success);
	result_value(r, "miscompared", sum->miscompare);
	result_value(r, "false_miscompares", sum->false_miscompare);
	result_value(r, "sent_twice", sum->sent_twice);
	result_value(r, "torn_reads", sum->torn);
	result_value(r, "busy", sum->busy);
	result_value(r, "unknown", sum->unknown);
}

/* Contend for the counters of our own. */
static void contend(struct check *c, uint64_t ns, struct check_result *r)
{
	uint64_t off[OWN_COUNTERS_N];
	struct arena_sum sum = {0};
	char what[64];
	int rc;

	for (unsigned i = 0; i < OWN_COUNTERS_N; i++)
		off[i] = own_off(c, OWN_COUNTERS + i);
	rc = arena_prepare(c, c->run, off, OWN_COUNTERS_N);
	if (!rc)
		arena_run(c, c->run, off, OWN_COUNTERS_N, check_now(c) + ns, &sum, r);
	snprintf(what, sizeof(what), "%llu tasks on %llu sessions", (unsigned long long)sum.tasks,
		 (unsigned long long)sum.sessions);
	if (rc)
		result_say(r, CHECK_UNKNOWN, "The counters cannot be written: %s.", io_error(rc));
	else if (!sum.failed && !result_excused(c, r) &&
		 arena_verify(c, c->run, off, OWN_COUNTERS_N, &sum, what, r))
		arena_judge(&sum, what, r);
	add_values(&sum, r);
}

void test_atomic(struct check *c)
{
	struct check_result r;

	result_init(&r, "atomic");
	if (c->no_caw) {
		result_say(&r, CHECK_SKIPPED, "There is no COMPARE AND WRITE to be contended for.");
		result_add(c, &r);
		return;
	}
	check_progress(c, "many COMPARE AND WRITE at once", 35);
	contend(c, check_share_ns(c, c->cfg.hosts > 1 ? 20 : 45), &r);
	if (r.grade == CHECK_BAD)
		c->no_caw = true;
	result_add(c, &r);
}

void test_atomic_again(struct check *c)
{
	struct check_result r;
	char text[WHY_BYTES];

	result_init(&r, "atomic-after-refusal");
	check_progress(c, "many COMPARE AND WRITE at once, after one was refused", 94);
	contend(c, check_share_ns(c, AGAIN_SHARE_PERCENT), &r);
	if (r.grade == CHECK_BAD) {
		snprintf(text, sizeof(text), "%s", r.text);
		result_say(
		    &r, CHECK_BAD,
		    "Since a COMPARE AND WRITE was refused by a reservation, those that follow "
		    "are not atomic any more. %.200s",
		    text);
		result_advise(
		    &r, "A fault of the target (Linux's own has it, seen on kernel 6.1). It "
			"stays until the LUN's backstore is set up anew: restart the target "
			"before anybody uses the LUN. Any fenced host and any reset of the LUN "
			"can bring it about again.");
	}
	result_add(c, &r);
}
