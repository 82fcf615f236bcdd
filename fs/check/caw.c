/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * COMPARE AND WRITE, one command at a time: it must set a sector that holds the test image, must
 * leave every other one alone and say so, and must not touch the sectors beside it.
 */
#include "check/check_impl.h"

#define ROUNDS 16u
#define WRITE_TRIES 3u
#define BESIDE 3u /* the sector in question stands between two others */

struct trio {
	struct check *c;
	uint64_t seq, off_bytes; /* of the first */
	uint8_t *is, *seen;	 /* three sectors each: as they should be, as read */
	uint8_t *test, *set;
};

static uint64_t middle(const struct trio *t)
{
	return t->off_bytes + t->c->sector;
}

static void make(struct trio *t, unsigned i, void *sector)
{
	struct image img = {.run = t->c->run, .seq = ++t->seq};

	image_make(sector, t->c->sector, t->off_bytes + (uint64_t)i * t->c->sector, &img);
}

static int trio_write(struct trio *t, unsigned s)
{
	int rc = -ETIMEDOUT;

	for (unsigned try = 0; try < WRITE_TRIES && rc == -ETIMEDOUT && !check_over(t->c); try++) {
		for (unsigned i = 0; i < BESIDE; i++)
			make(t, i, t->is + (size_t)i * t->c->sector);
		rc = io_write(t->c, s, t->off_bytes, BESIDE * t->c->sector, t->is);
	}
	return rc;
}

static bool plain_error(struct check_result *r, const char *what, int rc)
{
	if (!rc)
		return false;
	result_say(r, rc == -EBADE || rc == -ETIMEDOUT ? CHECK_UNKNOWN : CHECK_BAD, "%s fails: %s.",
		   what, io_error(rc));
	result_advise(r, "Look at the device's and the kernel's log.");
	return true;
}

/* Someone else's image there excuses the device. */
static bool disturbed(struct trio *t, struct check_result *r)
{
	struct image img;

	for (unsigned i = 0; i < BESIDE; i++)
		if (image_read(t->seen + (size_t)i * t->c->sector, t->c->sector,
			       t->off_bytes + (uint64_t)i * t->c->sector, t->c->run,
			       &img) == IMAGE_FOREIGN)
			check_disturbed(t->c, "another check wrote into this one's part of the "
					      "scratch area.");
	return result_excused(t->c, r);
}

/* Do the three sectors hold what they should? @what had been done before. */
static bool trio_holds(struct trio *t, unsigned s, const char *what, struct check_result *r)
{
	size_t len = t->c->sector;

	if (plain_error(r, "Reading", io_read(t->c, s, t->off_bytes, BESIDE * len, t->seen)))
		return false;
	if (!memcmp(t->seen, t->is, BESIDE * len))
		return true;
	if (disturbed(t, r))
		return false;
	if (atomic_load(&t->c->timeouts)) {
		result_say(r, CHECK_UNKNOWN,
			   "A write whose answer never came may have landed late, so "
			   "that nothing can be told from what the sector holds.");
		return false;
	}
	if (memcmp(t->seen + len, t->is + len, len))
		result_say(r, CHECK_BAD, "After %s the sector does not hold what it should.", what);
	else
		result_say(r, CHECK_BAD, "A sector beside the one in question changed after %s.",
			   what);
	result_advise(r, "Do not share this device: its COMPARE AND WRITE destroys data.");
	return false;
}

/* The command itself, or its length of one sector? */
static const char *rejected_what(struct trio *t)
{
	struct dev_caw_io io = {.off_bytes = middle(t), .test = t->test, .set = t->set};

	dev_caw_batch(t->c->s[0].dev, &io, 1);
	return io.cause == DEV_CAUSE_TRANSFER ? "knows COMPARE AND WRITE (SCSI opcode 0x89), but "
						"rejects it even for one sector"
					      : "rejects COMPARE AND WRITE (SCSI opcode 0x89)";
}

static void say_rejected(struct trio *t, struct check_result *r)
{
	struct check *c = t->c;

	result_say(r, CHECK_BAD, "The device %s%s.", rejected_what(t),
		   c->s[0].dev->id.caw_claim_sectors ? ", although it claims to support it" : "");
	result_advise(r, "Hosts cannot share it: use a LUN that supports COMPARE AND WRITE (VAAI "
			 "ATS, hardware assisted locking), or switch that on at the array.");
	c->no_caw = true;
}

static bool caw_error(struct trio *t, struct check_result *r, int rc)
{
	if (rc >= 0)
		return false;
	t->c->no_caw = true;
	if (rc == -EOPNOTSUPP)
		say_rejected(t, r);
	else if (rc == -EBADE)
		result_say(r, CHECK_UNKNOWN, "COMPARE AND WRITE ends with a %s.", io_error(rc));
	else
		plain_error(r, "COMPARE AND WRITE", rc);
	return true;
}

enum match { MATCHED, REFUSED, SENT_TWICE, NO_ANSWER, MATCH_FAILED, MATCHES };

/* It held what was compared, yet the answer was MISCOMPARE: did it take effect? */
static enum match refused(struct trio *t, unsigned s, struct check_result *r)
{
	struct check *c = t->c;
	size_t len = c->sector;

	if (plain_error(r, "Reading", io_read(c, s, middle(t), len, t->seen)))
		return MATCH_FAILED;
	if (!memcmp(t->seen, t->set, len))
		return SENT_TWICE;
	return trio_holds(t, s, "a COMPARE AND WRITE that said MISCOMPARE", r) ? REFUSED
									       : MATCH_FAILED;
}

static enum match match_once(struct trio *t, unsigned s, struct check_result *r)
{
	struct check *c = t->c;
	int rc;

	if (plain_error(r, "Writing", trio_write(t, s)))
		return MATCH_FAILED;
	memcpy(t->test, t->is + c->sector, c->sector);
	make(t, 1, t->set);
	rc = io_caw(c, s, middle(t), t->test, t->set);
	if (rc == -ETIMEDOUT)
		return NO_ANSWER;
	if (caw_error(t, r, rc))
		return MATCH_FAILED;
	if (rc == DEV_CAW_MISCOMPARE)
		return refused(t, s, r);
	memcpy(t->is + c->sector, t->set, c->sector);
	return trio_holds(t, (s + 1) % c->sessions, "a COMPARE AND WRITE that said GOOD", r)
		   ? MATCHED
		   : MATCH_FAILED;
}

static void judge_matches(struct check *c, const unsigned n[MATCHES], unsigned all,
			  struct check_result *r)
{
	if (n[MATCHED] == 0) {
		c->no_caw = true;
		result_say(r, CHECK_BAD,
			   "Of %u COMPARE AND WRITE of a sector that held just what was compared "
			   "none succeeded (%u had no answer).",
			   all, n[NO_ANSWER]);
		result_advise(r, "Look at the array's firmware and at the paths.");
	} else if (n[REFUSED]) {
		result_say(r, n[REFUSED] * 4 > all ? CHECK_BAD : CHECK_LIMIT,
			   "COMPARE AND WRITE said MISCOMPARE %u of %u times although the sector "
			   "held just what was compared.",
			   n[REFUSED], all);
		result_advise(r, "lunfs tries again and survives a few; look at the array's "
				 "firmware.");
	} else if (n[SENT_TWICE]) {
		result_say(r, CHECK_LIMIT,
			   "COMPARE AND WRITE took effect and said MISCOMPARE %u of %u times: "
			   "something on the way sends commands twice.",
			   n[SENT_TWICE], all);
		result_advise(r, "lunfs recognises that and goes on; look at the paths, the "
				 "multipath settings and the kernel's log.");
	} else {
		result_say(r, CHECK_OK,
			   "COMPARE AND WRITE sets a sector that holds what it compares with, and "
			   "nothing beside it (%u times, %u sessions).",
			   n[MATCHED], c->sessions);
	}
}

static void test_match(struct trio *t)
{
	unsigned n[MATCHES] = {0}, i;
	struct check *c = t->c;
	struct check_result r;

	result_init(&r, "caw-match");
	for (i = 0; i < ROUNDS && !n[MATCH_FAILED] && !check_over(c); i++)
		n[match_once(t, i % c->sessions, &r)]++;
	result_value(&r, "commands", i);
	result_value(&r, "refused", n[REFUSED]);
	result_value(&r, "sent_twice", n[SENT_TWICE]);
	result_value(&r, "unanswered", n[NO_ANSWER]);
	c->caw_tried = n[MATCHED] && !n[MATCH_FAILED];
	if (n[MATCH_FAILED] || result_excused(c, &r))
		c->no_caw = true;
	else
		judge_matches(c, n, i, &r);
	result_add(c, &r);
}

/* ---- miscompare ------------------------------------------------------------------------------ */

enum wrong { WRONG_FIRST_BYTE, WRONG_LAST_BYTE, WRONG_ONE_BIT, WRONG_ALL, WRONG_ZERO, WRONGS };

static const char *const wrong_name[] = {
    [WRONG_FIRST_BYTE] = "in its first byte", [WRONG_LAST_BYTE] = "in its last byte",
    [WRONG_ONE_BIT] = "in a single bit",      [WRONG_ALL] = "in every byte",
    [WRONG_ZERO] = "by being all zero",
};

static void spoil(struct trio *t, enum wrong how)
{
	uint32_t len = t->c->sector;
	uint64_t bit = check_random(t->c) % (len * 8ull);

	memcpy(t->test, t->is + len, len);
	switch (how) {
	case WRONG_FIRST_BYTE:
		t->test[0] ^= 0x01;
		break;
	case WRONG_LAST_BYTE:
		t->test[len - 1] ^= 0x80;
		break;
	case WRONG_ONE_BIT:
		t->test[bit / 8] ^= (uint8_t)(1u << bit % 8);
		break;
	case WRONG_ALL:
		for (uint32_t i = 0; i < len; i++)
			t->test[i] = (uint8_t)~t->test[i];
		break;
	default:
		memset(t->test, 0, len);
	}
}

static bool mismatch_once(struct trio *t, unsigned s, enum wrong how, struct check_result *r)
{
	int rc;

	spoil(t, how);
	make(t, 1, t->set);
	rc = io_caw(t->c, s, middle(t), t->test, t->set);
	if (rc != -ETIMEDOUT && caw_error(t, r, rc))
		return false;
	if (rc == DEV_CAW_GOOD) {
		result_say(r, CHECK_BAD,
			   "COMPARE AND WRITE accepted a test image that differed from the sector "
			   "%s: it writes without comparing all of it.",
			   wrong_name[how]);
		result_advise(r, "Do not share this device: two hosts would hold one lock.");
		return false;
	}
	return trio_holds(t, (s + 1) % t->c->sessions, "a COMPARE AND WRITE that had to miscompare",
			  r);
}

static void test_mismatch(struct trio *t)
{
	struct check *c = t->c;
	struct check_result r;
	unsigned i = 0;
	bool ok;

	result_init(&r, "caw-miscompare");
	if (c->no_caw) {
		result_say(&r, CHECK_SKIPPED, "There is no COMPARE AND WRITE to be tried.");
		result_add(c, &r);
		return;
	}
	ok = !plain_error(&r, "Writing", trio_write(t, 0));
	for (; i < ROUNDS && ok && !check_over(c); i++)
		ok = mismatch_once(t, i % c->sessions, i % WRONGS, &r);
	result_value(&r, "commands", i);
	if (!ok)
		c->no_caw = true;
	else if (!result_excused(c, &r))
		result_say(&r, CHECK_OK,
			   "A test image that differs, be it in one bit, is answered with "
			   "MISCOMPARE and leaves the sector alone (%u times).",
			   i);
	result_add(c, &r);
}

void test_caw(struct check *c)
{
	struct trio t = {.c = c, .off_bytes = own_off(c, OWN_TRIO)};

	check_progress(c, "COMPARE AND WRITE, one at a time", 2);
	t.is = dev_buf_alloc(BESIDE * c->sector);
	t.seen = dev_buf_alloc(BESIDE * c->sector);
	t.test = dev_buf_alloc(c->sector);
	t.set = dev_buf_alloc(c->sector);
	test_match(&t);
	test_mismatch(&t);
	free(t.is);
	free(t.seen);
	free(t.test);
	free(t.set);
}
