/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long commands take, one at a time, and what that means for the timing of a volume: a beat
 * must be on the device well within the I/O deadline, or hosts suspend and others think them dead.
 * On the way: flushes are taken, what was written is there, and COMPARE AND WRITE of a sector that
 * nobody else touches always matches (under contention nobody could tell that it does not).
 */
#include "check/check_impl.h"

#define SHARE_PERCENT 20u
#define ROUNDS_MIN 8u
#define ROUNDS_MAX 5000u
#define IO_BYTES 4096u
#define DEADLINE_DEFAULT_MS 8000u
#define LEASE_MAX_MS 3600000u
#define CAWS 4u	       /* each round */
#define MANY_FALSE 20u /* one in so many false miscompares is too much */

struct meter {
	struct check *c;
	uint8_t *is, *buf, *test, *set;
	uint64_t off_bytes, caw_off, seq, rounds;
	uint64_t caws, refused, sent_twice;
	bool unsure; /* a command without an answer may land yet */
};

static bool good(struct meter *m, const char *name, const char *what, int rc)
{
	struct check_result r;

	if (!rc || rc == -ETIMEDOUT) /* those are counted */
		return true;
	result_init(&r, name);
	if (!result_excused(m->c, &r)) {
		result_say(&r, rc == -EBADE ? CHECK_UNKNOWN : CHECK_BAD, "%s fails: %s.", what,
			   io_error(rc));
		result_advise(&r, "Look at the device's and the kernel's log.");
	}
	result_add(m->c, &r);
	return false;
}

static void fill(struct meter *m, uint8_t *buf, size_t len, uint64_t off)
{
	struct image img = {.run = m->c->run, .setter = 2, .seq = ++m->seq};

	for (size_t at = 0; at < len; at += m->c->sector)
		image_make(buf + at, m->c->sector, off + at, &img);
}

/* What does the sector hold after a command that did not say GOOD? */
static void caw_look(struct meter *m, unsigned s, int rc)
{
	struct check *c = m->c;

	if (io_read(c, s, m->caw_off, c->sector, m->buf)) {
		m->unsure = true;
		return;
	}
	if (rc == DEV_CAW_MISCOMPARE && !memcmp(m->buf, m->set, c->sector))
		m->sent_twice++;
	else if (rc == DEV_CAW_MISCOMPARE && !memcmp(m->buf, m->test, c->sector))
		m->refused++;
	else
		m->unsure = rc != -EAGAIN;
	memcpy(m->test, m->buf, c->sector);
}

static void caw_some(struct meter *m, unsigned s)
{
	struct check *c = m->c;

	for (unsigned i = 0; i < CAWS && !c->no_caw && !m->unsure; i++) {
		int rc;

		fill(m, m->set, c->sector, m->caw_off);
		rc = io_caw_as(c, (s + i) % c->sessions, m->caw_off, m->test, m->set, LAT_CAW);
		m->caws++;
		if (rc == DEV_CAW_GOOD)
			memcpy(m->test, m->set, c->sector);
		else
			caw_look(m, s, rc);
	}
}

static bool there(struct meter *m)
{
	struct check_result r;

	if (!memcmp(m->buf, m->is, IO_BYTES) || atomic_load(&m->c->timeouts))
		return true;
	result_init(&r, "writes");
	if (!result_excused(m->c, &r)) {
		result_say(&r, CHECK_BAD,
			   "A write that was answered with success is not there when "
			   "it is read back.");
		result_advise(&r, "Do not use this device.");
	}
	result_add(m->c, &r);
	return false;
}

static void lap(struct meter *m, uint64_t *at, enum lat_op op)
{
	uint64_t now = check_now(m->c);

	hist_add(&m->c->lat[op], now - *at);
	*at = now;
}

/* false: @name has its result already. */
static bool measure(struct meter *m, unsigned s)
{
	struct check *c = m->c;
	uint64_t at;

	fill(m, m->is, IO_BYTES, m->off_bytes);
	at = check_now(c);
	if (!good(m, "flush", "Writing", io_write(c, s, m->off_bytes, IO_BYTES, m->is)))
		return false;
	lap(m, &at, LAT_WRITE);
	if (!good(m, "flush", "Flushing the device's cache (SYNCHRONIZE CACHE)", io_flush(c, s)))
		return false;
	lap(m, &at, LAT_FLUSH);
	if (!good(m, "flush", "Reading", io_read(c, s, m->off_bytes, IO_BYTES, m->buf)))
		return false;
	lap(m, &at, LAT_READ);
	if (!there(m))
		return false;
	caw_some(m, s);
	return true;
}

static bool prepare(struct meter *m)
{
	fill(m, m->test, m->c->sector, m->caw_off);
	return good(m, "flush", "Writing", io_write(m->c, 0, m->caw_off, m->c->sector, m->test));
}

static void judge_alone(struct meter *m)
{
	unsigned long long caws = m->caws;
	struct check_result r;

	if (!m->caws)
		return;
	result_init(&r, "caw-alone");
	result_value(&r, "commands", m->caws);
	result_value(&r, "refused", m->refused);
	result_value(&r, "sent_twice", m->sent_twice);
	if (result_excused(m->c, &r)) {
		result_add(m->c, &r);
		return;
	}
	if (m->refused) {
		result_say(
		    &r, m->refused * MANY_FALSE > m->caws ? CHECK_BAD : CHECK_LIMIT,
		    "COMPARE AND WRITE said MISCOMPARE %llu of %llu times although the sector "
		    "held just what was compared.",
		    (unsigned long long)m->refused, caws);
		result_advise(&r, "lunfs tries again and survives a few; look at the array's "
				  "firmware.");
	} else if (m->sent_twice) {
		result_say(&r, CHECK_LIMIT,
			   "COMPARE AND WRITE took effect and said MISCOMPARE %llu of %llu times: "
			   "something on the way sends commands twice.",
			   (unsigned long long)m->sent_twice, caws);
		result_advise(&r, "lunfs recognises that and goes on; look at the paths, the "
				  "multipath settings and the kernel's log.");
	} else {
		result_say(&r, CHECK_OK,
			   "A sector that nobody else touches always matches (%llu COMPARE AND "
			   "WRITE).",
			   caws);
	}
	result_add(m->c, &r);
}

void test_latency(struct check *c)
{
	struct meter m = {
	    .c = c, .off_bytes = own_off(c, OWN_LATENCY), .caw_off = own_off(c, OWN_LATENCY + 1)};
	uint64_t until = check_now(c) + check_share_ns(c, SHARE_PERCENT);
	struct check_result r;
	bool ok;

	check_progress(c, "latency of single commands", 13);
	m.is = dev_buf_alloc(IO_BYTES);
	m.buf = dev_buf_alloc(IO_BYTES);
	m.test = dev_buf_alloc(c->sector);
	m.set = dev_buf_alloc(c->sector);
	ok = prepare(&m);
	while (ok && !check_over(c) && m.rounds < ROUNDS_MAX &&
	       (m.rounds < ROUNDS_MIN || check_now(c) < until))
		ok = measure(&m, (unsigned)(m.rounds++ % c->sessions));
	free(m.is);
	free(m.buf);
	free(m.test);
	free(m.set);
	if (!ok)
		return;
	result_init(&r, "flush");
	result_value(&r, "flushes", m.rounds);
	if (!result_excused(c, &r))
		result_say(
		    &r, CHECK_OK,
		    "The device takes flushes (%llu times). Whether they survive a power cut "
		    "only a power cut can tell.",
		    (unsigned long long)m.rounds);
	result_add(c, &r);
	judge_alone(&m);
}

/* ---- judgement ------------------------------------------------------------------------------- */

static const struct lat_row {
	enum lat_op op;
	const char *name, *p50, *p99, *max;
} rows[] = {
    {LAT_READ, "read", "read_p50_us", "read_p99_us", "read_max_us"},
    {LAT_WRITE, "write", "write_p50_us", "write_p99_us", "write_max_us"},
    {LAT_FLUSH, "flush", "flush_p50_us", "flush_p99_us", "flush_max_us"},
    {LAT_CAW, "compare and write", "caw_p50_us", "caw_p99_us", "caw_max_us"},
    {LAT_CAW_BUSY, "the same, contended", "caw_contended_p50_us", "caw_contended_p99_us",
     "caw_contended_max_us"},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void ms_text(uint64_t us, char *out, size_t len)
{
	if (us < 10000)
		snprintf(out, len, "%llu.%02llu", (unsigned long long)us / 1000,
			 (unsigned long long)us % 1000 / 10);
	else
		snprintf(out, len, "%llu", (unsigned long long)(us + 999) / 1000);
}

/* "read 0.21/0.40/1.20, ..." */
static uint64_t describe(struct check *c, struct check_result *r, char *text, size_t len)
{
	uint64_t worst = 0;
	size_t at = 0;

	text[0] = 0;
	for (unsigned i = 0; i < ROWS; i++) {
		const struct hist *h = &c->lat[rows[i].op];
		uint64_t us[3] = {hist_percentile_us(h, 50), hist_percentile_us(h, 99),
				  hist_max_us(h)};
		char ms[3][24];

		if (!atomic_load(&h->n))
			continue;
		for (unsigned k = 0; k < 3; k++)
			ms_text(us[k], ms[k], sizeof(ms[k]));
		result_value(r, rows[i].p50, us[0]);
		result_value(r, rows[i].p99, us[1]);
		result_value(r, rows[i].max, us[2]);
		at += (size_t)snprintf(text + at, at < len ? len - at : 0, "%s%s %s/%s/%s",
				       at ? ", " : "", rows[i].name, ms[0], ms[1], ms[2]);
		worst = us[2] > worst ? us[2] : worst;
	}
	return worst;
}

/* Four times the slowest command fits into the deadline; the rest in the usual proportions. */
static uint64_t fitting_deadline_ms(const struct check *c, uint64_t worst_us, uint64_t timeouts)
{
	uint64_t ms = (worst_us * 4 + 999) / 1000;

	if (timeouts && ms < 4ull * c->cfg.deadline_ms)
		ms = 4ull * c->cfg.deadline_ms;
	if (ms < DEADLINE_DEFAULT_MS)
		ms = DEADLINE_DEFAULT_MS;
	return (ms + 999) / 1000 * 1000;
}

static void advise_timing(struct check *c, struct check_result *r, uint64_t worst_us,
			  uint64_t timeouts)
{
	unsigned long long ms = fitting_deadline_ms(c, worst_us, timeouts);

	if (2 * ms > LEASE_MAX_MS) {
		r->grade = CHECK_BAD;
		result_advise(r,
			      "No timing of lunfs fits that. Look at the array's load, the paths "
			      "and the queue depth.");
	} else {
		result_advise(r,
			      "A timing of beat %llu ms, deadline %llu ms, lease %llu ms would fit "
			      "(mkfs.lunfs --timing %llu,%llu,%llu). Better: look at the array's "
			      "load, the state of the paths and the queue depth of the disk.",
			      ms * 3 / 8, ms, 2 * ms, ms * 3 / 8, ms, 2 * ms);
	}
}

void test_timing(struct check *c)
{
	uint64_t timeouts = atomic_load(&c->timeouts), worst, limit = c->cfg.deadline_ms * 1000ull;
	struct check_result r;
	char text[256];

	result_init(&r, "latency");
	result_value(&r, "timeouts", timeouts);
	worst = describe(c, &r, text, sizeof(text));
	if (!worst && !timeouts) {
		result_say(&r, CHECK_UNKNOWN, "No command could be measured.");
	} else if (timeouts) {
		result_say(&r, CHECK_LIMIT,
			   "%llu commands were not answered within their deadline. Milliseconds of "
			   "the others (half of them / 99%% / all): %s.",
			   (unsigned long long)timeouts, text);
		advise_timing(c, &r, worst, timeouts);
	} else if (worst * 2 > limit) {
		result_say(
		    &r, CHECK_LIMIT,
		    "The slowest command took %llu ms, more than half of the I/O deadline of "
		    "%u ms. Milliseconds (half of them / 99%% / all): %s.",
		    (unsigned long long)(worst + 999) / 1000, c->cfg.deadline_ms, text);
		advise_timing(c, &r, worst, 0);
	} else {
		result_say(
		    &r, CHECK_OK,
		    "Fast enough for beat %u, deadline %u, lease %u ms. Milliseconds (half of "
		    "them / 99%% / all): %s.",
		    c->cfg.beat_ms, c->cfg.deadline_ms, c->cfg.lease_ms, text);
	}
	result_add(c, &r);
}
