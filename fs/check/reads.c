/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does a session see at once what another one has written? Each round the reader reads first, so
 * that a cache on its way has every chance to keep the old contents; then the other one writes or
 * compares and writes, and as soon as that has ended the reader must see it. Both directions, all
 * pairs of neighbours in turn.
 */
#include "check/check_impl.h"

#define SHARE_PERCENT 8u
#define ROUNDS_MIN 4u
#define ROUNDS_MAX 1000u
#define CELLS 2u	/* one write of several sectors */
#define TIMEOUTS_MAX 5u /* so many spoil a round each, not the test */
#define LATER_TRIES 40u
#define LATER_NAP_NS (50 * MS_NS)

struct looker {
	struct check *c;
	unsigned writer, reader;
	uint64_t off_bytes, seq;
	size_t len_bytes;
	uint8_t *is, *seen;
	uint64_t rounds, caws, unanswered;
};

static void make(struct looker *l, unsigned sector)
{
	uint32_t len = l->c->sector;
	struct image img = {.run = l->c->run, .setter = 1, .seq = ++l->seq};

	image_make(l->is + (size_t)sector * len, len, l->off_bytes + (uint64_t)sector * len, &img);
}

static bool failed(struct looker *l, const char *what, int rc, struct check_result *r)
{
	if (!rc)
		return false;
	if (rc == -ETIMEDOUT && atomic_load(&l->c->timeouts) < TIMEOUTS_MAX)
		return false;
	if (!result_excused(l->c, r)) {
		result_say(r, rc == -EBADE || rc == -ETIMEDOUT ? CHECK_UNKNOWN : CHECK_BAD,
			   "%s fails: %s.", what, io_error(rc));
		result_advise(r, "Look at the device's and the kernel's log.");
	}
	return true;
}

/* The reader does not see it. Does it ever? */
static void say_stale(struct looker *l, const char *what, struct check_result *r)
{
	struct check *c = l->c;
	uint64_t at = check_now(c);
	unsigned i = 0;

	for (; i < LATER_TRIES && !check_over(c); i++) {
		check_nap(c, LATER_NAP_NS);
		if (!io_read(c, l->reader, l->off_bytes, l->len_bytes, l->seen) &&
		    !memcmp(l->seen, l->is, l->len_bytes))
			break;
	}
	if (i < LATER_TRIES)
		result_say(r, CHECK_BAD,
			   "After %s by session %u, session %u still read old contents; it saw the "
			   "new ones %llu ms later. A cache stands between the sessions and the "
			   "device.",
			   what, l->writer, l->reader,
			   (unsigned long long)((check_now(c) - at) / MS_NS));
	else
		result_say(r, CHECK_BAD,
			   "Session %u does not see what session %u has written: %s was answered "
			   "with success, and reads go on showing something else.",
			   l->reader, l->writer, what);
	result_advise(r,
		      "Do not share this device until that is found: a caching gateway, paths to "
		      "different arrays, or a target that caches for each connection.");
}

static bool excused(struct looker *l, struct check_result *r)
{
	uint32_t len = l->c->sector;
	struct image img;

	for (size_t at = 0; at < l->len_bytes; at += len)
		if (image_read(l->seen + at, len, l->off_bytes + at, l->c->run, &img) ==
		    IMAGE_FOREIGN)
			check_disturbed(l->c, "another check wrote into this one's part of the "
					      "scratch area.");
	return result_excused(l->c, r);
}

static bool sees(struct looker *l, const char *what, struct check_result *r)
{
	int rc = io_read(l->c, l->reader, l->off_bytes, l->len_bytes, l->seen);

	if (failed(l, "Reading", rc, r))
		return false;
	if (rc || !memcmp(l->seen, l->is, l->len_bytes))
		return true;
	if (atomic_load(&l->c->timeouts)) {
		result_say(r, CHECK_UNKNOWN,
			   "A write whose answer never came may have landed late, so "
			   "that nothing can be told from what was read.");
		return false;
	}
	if (!excused(l, r))
		say_stale(l, what, r);
	return false;
}

static bool write_round(struct looker *l, struct check_result *r)
{
	int rc;

	for (unsigned i = 0; i < l->len_bytes / l->c->sector; i++)
		make(l, i);
	rc = io_write(l->c, l->writer, l->off_bytes, l->len_bytes, l->is);
	if (failed(l, "Writing", rc, r))
		return false;
	return rc || sees(l, "a write", r);
}

static bool caw_round(struct looker *l, struct check_result *r)
{
	struct check *c = l->c;
	unsigned sector = (unsigned)(check_random(c) % (l->len_bytes / c->sector));
	uint8_t *at = l->is + (size_t)sector * c->sector, *test = dev_buf_alloc(c->sector);
	uint8_t *set = dev_buf_alloc(c->sector);
	int rc;

	memcpy(test, at, c->sector);
	make(l, sector);
	memcpy(set, at, c->sector);
	rc = io_caw(c, l->writer, l->off_bytes + (uint64_t)sector * c->sector, test, set);
	if (rc != DEV_CAW_GOOD) { /* judged elsewhere; here it only has to be seen */
		memcpy(at, test, c->sector);
		l->unanswered++;
	}
	l->caws++;
	free(test);
	free(set);
	return rc != DEV_CAW_GOOD || sees(l, "a COMPARE AND WRITE", r);
}

static bool round_trip(struct looker *l, struct check_result *r)
{
	struct check *c = l->c;
	bool caw = l->rounds % 2 && !c->no_caw && !l->unanswered;

	l->writer = (unsigned)(l->rounds % c->sessions);
	l->reader = (l->writer + 1) % c->sessions;
	if (l->rounds / c->sessions % 2) {
		unsigned w = l->writer;

		l->writer = l->reader;
		l->reader = w;
	}
	l->rounds++;
	if (failed(l, "Reading", io_read(c, l->reader, l->off_bytes, l->len_bytes, l->seen), r))
		return false;
	l->unanswered = 0;
	return caw ? caw_round(l, r) : write_round(l, r);
}

void test_reads(struct check *c)
{
	struct looker l = {
	    .c = c, .off_bytes = own_off(c, OWN_READS), .len_bytes = CELLS * (size_t)CELL_BYTES};
	uint64_t until = check_now(c) + check_share_ns(c, SHARE_PERCENT);
	struct check_result r;
	bool ok = true;

	check_progress(c, "reads of one session against writes of another", 5);
	result_init(&r, "reads");
	l.is = dev_buf_alloc(l.len_bytes);
	l.seen = dev_buf_alloc(l.len_bytes);
	while (ok && !check_over(c) && l.rounds < ROUNDS_MAX &&
	       (l.rounds < ROUNDS_MIN || check_now(c) < until))
		ok = round_trip(&l, &r);
	result_value(&r, "rounds", l.rounds);
	result_value(&r, "with_caw", l.caws);
	if (ok && !result_excused(c, &r))
		result_say(&r, CHECK_OK,
			   "What one session writes, another one reads at once (%llu times, both "
			   "directions).",
			   (unsigned long long)l.rounds);
	free(l.is);
	free(l.seen);
	result_add(c, &r);
}
