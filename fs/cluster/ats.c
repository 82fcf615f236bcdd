/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one atomic operation: images, and from a command's answer to an explained outcome.
 *
 * What is relied upon: an image that was replaced never stands again, since (setter_nonce,
 * image_seq) is unique among all images ever set. So a command whose test image no longer stands
 * cannot take effect any more, and a sector that equals an image we tried to set proves that the
 * command landed. A read that still shows the test image proves nothing about a command without an
 * answer; the same command is then sent again, and whichever of the two comes first makes the other
 * harmless. Counters are ats_log.c's, sentences ats_say.c's, pauses ats_retry.c's, many at once
 * ats_batch.c's.
 */
#include "cluster/ats_impl.h"

#include "base/crc.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REC_BYTES 512u
#define DEFAULT_DEADLINE_MS 8000u
#define REREAD_MIN_NS 500000ull /* between reads of a damaged record */
#define UNEXPLAINED_TRIES 5u	/* commands before a miscompare is called unexplained */
#define DAMAGED_READS 4u	/* unchanged bad reads before a record is called damaged */
#define UNRELIABLE_AFTER 3u	/* unexplained outcomes in a row */
#define RESOLVE_ROUNDS 16u

#define TRY_AGAIN ATS_OUTCOMES /* not an outcome: send once more */

/* ---- images ------------------------------------------------------------------------------- */

void ats_init(struct ats *a, const struct env *env)
{
	memset(a, 0, sizeof(*a));
	a->env = *env;
	health_init(&a->health, env);
	mtx_init(&a->mtx, env->clk);
}

void ats_destroy(struct ats *a)
{
	mtx_destroy(&a->mtx);
}

void ats_set_owner(struct ats *a, uint64_t nonce, uint64_t owner)
{
	mtx_lock(&a->mtx);
	a->nonce = nonce;
	a->owner = owner;
	mtx_unlock(&a->mtx);
}

void ats_set_names(struct ats *a,
		   const char *(*name_of)(void *ctx, uint64_t owner, char *buf, size_t len),
		   void *ctx)
{
	a->name_of = name_of;
	a->name_ctx = ctx;
}

static void hdr_fill(const struct geo *g, struct lunfs_ats_hdr *hdr, enum lunfs_ats_type type,
		     uint64_t off_bytes, uint64_t seq)
{
	memset(hdr, 0, sizeof(*hdr));
	hdr->magic = le32_make(LUNFS_ATS_MAGIC);
	hdr->type = le16_make((uint16_t)type);
	memcpy(hdr->vol_id, g->vol_id, sizeof(hdr->vol_id));
	hdr->sector_off = le64_make(off_bytes);
	hdr->image_seq = le64_make(seq);
}

void ats_stamp(struct ats *a, struct lunfs_ats_hdr *hdr, const struct lunfs_ats_hdr *prev,
	       enum lunfs_ats_type type, uint64_t off_bytes)
{
	uint64_t seq = prev ? le64_get(prev->image_seq) + 1 : 1; /* hdr may be prev */

	hdr_fill(a->env.geo, hdr, type, off_bytes, seq);
	hdr->setter_nonce = le64_make(a->nonce);
	hdr->setter_owner = le64_make(a->owner);
}

void ats_hdr_format(const struct geo *g, void *sector, enum lunfs_ats_type type, uint64_t off_bytes,
		    uint64_t nonce)
{
	struct lunfs_ats_hdr *hdr = sector;

	hdr_fill(g, hdr, type, off_bytes, 1);
	hdr->setter_nonce = le64_make(nonce);
	crc_seal(sector, REC_BYTES, offsetof(struct lunfs_ats_hdr, crc));
}

int ats_hdr_check(const struct geo *g, const void *sector, enum lunfs_ats_type type,
		  uint64_t off_bytes)
{
	const struct lunfs_ats_hdr *hdr = sector;
	uint64_t seq = le64_get(hdr->image_seq);

	if (le32_get(hdr->magic) != LUNFS_ATS_MAGIC || le16_get(hdr->type) != type ||
	    le64_get(hdr->sector_off) != off_bytes || le16_get(hdr->reserved0) ||
	    le32_get(hdr->reserved1) || !seq || seq > LUNFS_COUNT_MAX)
		return -EUCLEAN;
	if (memcmp(hdr->vol_id, g->vol_id, sizeof(hdr->vol_id)) ||
	    !crc_ok(sector, REC_BYTES, offsetof(struct lunfs_ats_hdr, crc)))
		return -EUCLEAN;
	if (!mem_is_zero((const uint8_t *)sector + REC_BYTES, g->sector_bytes - REC_BYTES))
		return -EUCLEAN;
	return 0;
}

int ats_check(const struct ats *a, const void *sector, enum lunfs_ats_type type, uint64_t off_bytes)
{
	return ats_hdr_check(a->env.geo, sector, type, off_bytes);
}

/* ---- the memory of a sector --------------------------------------------------------------- */

static uint64_t seq_of(const void *sector)
{
	return le64_get(((const struct lunfs_ats_hdr *)sector)->image_seq);
}

static bool is_ours(const struct ats *a, const void *sector)
{
	return le64_get(((const struct lunfs_ats_hdr *)sector)->setter_nonce) == a->nonce;
}

static bool seq_unresolved(const struct ats_sector *s, uint64_t seq)
{
	for (unsigned i = 0; i < s->unresolved; i++) {
		if (s->unresolved_seq[i] == seq)
			return true;
	}
	return false;
}

/* When the memory is full the oldest goes: found later, it is judged by content as a newer image.
 */
static void remember(struct ats_sector *s, uint64_t seq)
{
	if (seq_unresolved(s, seq))
		return;
	if (s->unresolved == ATS_UNRESOLVED_MAX) {
		memmove(s->unresolved_seq, s->unresolved_seq + 1,
			(ATS_UNRESOLVED_MAX - 1) * sizeof(s->unresolved_seq[0]));
		s->unresolved--;
	}
	s->unresolved_seq[s->unresolved++] = seq;
}

static void landed(struct ats_sector *s, uint64_t seq)
{
	if (s->resolved_seq < seq)
		s->resolved_seq = seq;
}

/* ---- one attempt -------------------------------------------------------------------------- */

uint64_t ats_deadline_ns(const struct ats *a)
{
	uint32_t ms = a->env.dev->deadline_ms;

	return (uint64_t)(ms ? ms : DEFAULT_DEADLINE_MS) * 1000000;
}

/* What the images say it is; a beat keeps the slot LIVE for its owner. */
static enum health_op op_of(const void *test, const void *set)
{
	const struct lunfs_slot_rec *a = test, *b = set;

	switch (le16_get(b->hdr.type)) {
	case LUNFS_ATS_LOCK:
		return HEALTH_LOCK;
	case LUNFS_ATS_SLOT:
		return le16_get(a->state) == LUNFS_SLOT_LIVE &&
			       le16_get(b->state) == LUNFS_SLOT_LIVE
			   ? HEALTH_BEAT
			   : HEALTH_SLOT;
	default:
		return HEALTH_OTHER;
	}
}

void ats_try_begin(struct ats_try *t, uint64_t entered_ns)
{
	struct lunfs_ats_hdr *hdr = t->set;

	/* Two images of one nonce never share a number, also where both follow the same one. */
	if (le64_get(hdr->image_seq) <= t->s->tried_seq)
		hdr->image_seq = le64_make(t->s->tried_seq + 1);
	t->s->tried_seq = le64_get(hdr->image_seq);
	crc_seal(t->set, REC_BYTES, offsetof(struct lunfs_ats_hdr, crc));
	t->op = op_of(t->test, t->set);
	t->entered_ns = entered_ns;
	t->deadline_ns = entered_ns + ats_deadline_ns(t->a);
}

static int submit(struct ats_try *t)
{
	struct env *e = &t->a->env;
	struct dev_caw_io io = {.off_bytes = t->s->off_bytes, .test = t->test, .set = t->set};
	uint64_t sent = clock_now_ns(e->clk);

	dev_caw_batch(e->dev, &io, 1);
	ats_count_command(t, &io, t->commands ? sent : t->entered_ns, sent, clock_now_ns(e->clk));
	return io.result;
}

static int read_now(struct ats_try *t)
{
	const struct env *e = &t->a->env;

	if (t->now_read) {
		t->now_read = false;
		return t->now_result;
	}
	if (!t->now)
		t->now = dev_buf_alloc(e->geo->sector_bytes);
	return dev_read(e->dev, t->s->off_bytes, e->geo->sector_bytes, t->now);
}

static bool same(const struct ats_try *t, const void *a, const void *b)
{
	return !memcmp(a, b, t->a->env.geo->sector_bytes);
}

/*
 * The device said miscompare, and what stands there cannot be read. Something below may have sent
 * the command twice, so it may have landed all the same.
 */
static enum ats_outcome unread(struct ats_try *t, int error)
{
	remember(t->s, seq_of(t->set));
	t->now_valid = false;
	t->pending = true;
	t->give_up = ATS_UNKNOWN;
	t->error = error;
	return TRY_AGAIN;
}

/* The record fails its checks: read until it does not, or has stood like that for long enough. */
static enum ats_outcome judge_damaged(struct ats_try *t)
{
	size_t len = t->a->env.geo->sector_bytes;
	const struct lunfs_ats_hdr *set = t->set;
	void *before = dev_buf_alloc(len);
	unsigned same_reads = 1;
	bool sound = false;

	for (unsigned i = 0; i < 2 * DAMAGED_READS && same_reads < DAMAGED_READS && !sound; i++) {
		memcpy(before, t->now, len);
		clock_sleep_ns(t->a->env.clk, REREAD_MIN_NS << i);
		if (read_now(t))
			continue;
		sound = !ats_check(t->a, t->now, le16_get(set->type), t->s->off_bytes);
		same_reads = same(t, before, t->now) ? same_reads + 1 : 1;
	}
	free(before);
	if (sound || same_reads < DAMAGED_READS)
		return unread(t, -EIO);
	t->s->unresolved = 0;
	return ATS_DAMAGED;
}

/*
 * What stands there is an image of our own whose command had no answer until now. May @set follow
 * it as it would have followed @test? A beat may: it says all there is to say. A lock record may
 * not, unless it says what @test says: it may have given the lock to somebody who has it by now.
 */
static bool may_replace_own(const struct ats_try *t)
{
	const uint8_t *test = t->test, *now = t->now;
	size_t hdr = sizeof(struct lunfs_ats_hdr);

	return t->op != HEALTH_LOCK ||
	       memcmp(test + hdr, now + hdr, t->a->env.geo->sector_bytes - hdr) == 0;
}

/* What stands there is a sound record that is neither our test nor our set image. */
static enum ats_outcome judge_other(struct ats_try *t)
{
	uint64_t seq = seq_of(t->now), test_seq = seq_of(t->test), newest = t->s->resolved_seq;
	size_t len = t->a->env.geo->sector_bytes;
	bool test_stood = !is_ours(t->a, t->test) || !seq_unresolved(t->s, test_seq);

	if (test_stood && newest < test_seq)
		newest = test_seq;
	if (is_ours(t->a, t->now) && seq_unresolved(t->s, seq)) {
		landed(t->s, seq);
		if (!may_replace_own(t)) {
			t->s->unresolved = 0; /* those of the others compare what stood before */
			return ATS_LOST_RACE;
		}
		if (!t->own_test)
			t->own_test = dev_buf_alloc(len);
		memcpy(t->own_test, t->now, len);
		t->test = t->own_test;
		t->late = true;
		t->give_up = ATS_UNKNOWN;
		return TRY_AGAIN;
	}
	if (is_ours(t->a, t->now) && seq < newest)
		return ATS_WENT_BACK;
	if (t->pending && test_stood && seq <= test_seq) {
		t->give_up = ATS_UNKNOWN; /* an old view: it says nothing about our command */
		return TRY_AGAIN;
	}
	if (test_stood || seq > test_seq)
		t->s->unresolved = 0;
	return ATS_LOST_RACE;
}

/* Read, and judge by what stands there. @miscompare: the device said so, else it said nothing. */
static enum ats_outcome judge(struct ats_try *t, bool miscompare)
{
	const struct lunfs_ats_hdr *set = t->set;
	int r = read_now(t);

	if (r)
		return unread(t, r);
	t->now_valid = true;
	if (same(t, t->now, t->set)) {
		landed(t->s, seq_of(t->set));
		t->s->unresolved = 0;
		return ATS_DONE_LATE;
	}
	if (same(t, t->now, t->test)) {
		if (miscompare) {
			t->unexplained++;
			ats_count_false(t);
		}
		t->give_up = t->pending || t->s->unresolved ? ATS_UNKNOWN : ATS_UNEXPLAINED;
		return t->unexplained < UNEXPLAINED_TRIES ? TRY_AGAIN : t->give_up;
	}
	if (ats_check(t->a, t->now, le16_get(set->type), t->s->off_bytes))
		return judge_damaged(t);
	return judge_other(t);
}

static enum ats_outcome explain(struct ats_try *t, int result)
{
	switch (result) {
	case DEV_CAW_GOOD:
		landed(t->s, seq_of(t->set));
		t->s->unresolved = 0;
		return t->late ? ATS_DONE_LATE : ATS_DONE;
	case DEV_CAW_MISCOMPARE:
		return judge(t, true);
	case -ETIMEDOUT:
		remember(t->s, seq_of(t->set));
		t->pending = true;
		t->error = t->cause == DEV_CAUSE_UNCLEAR ? -EIO : result;
		return judge(t, false);
	case -EAGAIN: /* the command had no effect: busy, unit attention */
		t->give_up = t->pending ? ATS_UNKNOWN : ATS_ERROR;
		t->error = -EBUSY;
		return TRY_AGAIN;
	case -EBADE:
		t->error = result;
		return t->pending ? ATS_UNKNOWN : ATS_FENCED;
	default:
		t->error = result;
		return t->pending ? ATS_UNKNOWN : ATS_ERROR;
	}
}

/* A command that had no answer took all the time there is: one more is sent all the same. */
static bool time_left(struct ats_try *t)
{
	uint64_t end = t->deadline_ns;

	if (t->pending && t->commands < 2)
		end += ats_deadline_ns(t->a);
	return clock_now_ns(t->a->env.clk) < end;
}

/* Wait before sending again; false: the time is up. */
static bool back_off(struct ats_try *t)
{
	uint64_t wait;

	if (!time_left(t))
		return false;
	if (t->test == t->own_test && t->commands < 4)
		return true; /* we know what stands there */
	wait = ats_pause_ns(t);
	if (wait)
		clock_sleep_ns(t->a->env.clk, wait);
	return time_left(t);
}

enum ats_outcome ats_try_settle(struct ats_try *t, int result)
{
	for (;;) {
		enum ats_outcome o = explain(t, result);

		if (o != TRY_AGAIN)
			return o;
		if (!back_off(t))
			return t->give_up;
		result = submit(t);
	}
}

static void judge_device(struct ats *a, enum ats_outcome o)
{
	bool was;

	mtx_lock(&a->mtx);
	was = a->unreliable;
	if (o == ATS_UNEXPLAINED && ++a->unexplained_in_a_row >= UNRELIABLE_AFTER)
		a->unreliable = true;
	else if (ats_ok(o))
		a->unexplained_in_a_row = 0;
	if (o == ATS_WENT_BACK)
		a->unreliable = true;
	was = !was && a->unreliable;
	mtx_unlock(&a->mtx);
	if (was)
		log_err("ats-unreliable",
			"Device %s does not carry out COMPARE AND WRITE reliably; do not use it "
			"for a shared volume before its firmware, cache and path settings are "
			"checked.",
			a->env.dev->id.name);
}

enum ats_outcome ats_try_end(struct ats_try *t, enum ats_outcome o, void *found, int *error)
{
	const void *stands = ats_ok(o) ? t->set : t->now;
	bool shown = o != ATS_UNKNOWN && o != ATS_FENCED && o != ATS_ERROR;
	bool passed = o == ATS_LOST_RACE && t->pending;

	ats_count_outcome(t, o);
	judge_device(t->a, o);
	if (found && shown && stands)
		memcpy(found, stands, t->a->env.geo->sector_bytes);
	if (error)
		*error = shown && !passed ? 0 : t->error ? t->error : -ETIMEDOUT;
	free(t->now);
	free(t->own_test);
	return o;
}

enum ats_outcome ats(struct ats *a, struct ats_sector *s, const void *test, void *set, void *found,
		     int *error)
{
	struct ats_try t = {.a = a, .s = s, .test = test, .set = set};

	ats_try_begin(&t, clock_now_ns(a->env.clk));
	return ats_try_end(&t, ats_try_settle(&t, submit(&t)), found, error);
}

/* ---- settling an unknown ------------------------------------------------------------------ */

struct resolve {
	struct ats *a;
	struct ats_sector *s;
	int (*make)(void *ctx, const void *now, void *set);
	void *ctx;
	uint64_t deadline_ns;
	uint8_t *now, *set;
};

/* Give the sector as it stands a fresh image. */
static enum ats_outcome resolve_once(struct resolve *v, void *found, int *error)
{
	const struct geo *g = v->a->env.geo;
	const struct lunfs_ats_hdr *hdr = (const void *)v->now;
	enum lunfs_ats_type type = le16_get(hdr->type);
	enum ats_outcome o;

	if (ats_check(v->a, v->now, type, v->s->off_bytes))
		return ATS_DAMAGED;
	memcpy(v->set, v->now, g->sector_bytes);
	*error = v->make(v->ctx, v->now, v->set);
	if (*error) {
		if (found)
			memcpy(found, v->now, g->sector_bytes);
		return ATS_UNKNOWN;
	}
	ats_stamp(v->a, (void *)v->set, hdr, type, v->s->off_bytes);
	o = ats(v->a, v->s, v->now, v->set, v->now, error);
	if (found && (ats_ok(o) || o == ATS_LOST_RACE))
		memcpy(found, v->now, g->sector_bytes);
	return o;
}

enum ats_outcome ats_resolve(struct ats *a, struct ats_sector *s,
			     int (*make)(void *ctx, const void *now, void *set), void *ctx,
			     void *found, int *error)
{
	struct clock *clk = a->env.clk;
	size_t len = a->env.geo->sector_bytes;
	struct resolve v = {.a = a, .s = s, .make = make, .ctx = ctx};
	enum ats_outcome o = ATS_UNKNOWN;
	int err = -ETIMEDOUT;

	v.deadline_ns = clock_now_ns(clk) + ats_deadline_ns(a);
	v.now = dev_buf_alloc(len);
	v.set = dev_buf_alloc(len);
	for (unsigned i = 0; i < RESOLVE_ROUNDS && clock_now_ns(clk) < v.deadline_ns; i++) {
		int r = dev_read(a->env.dev, s->off_bytes, len, v.now);

		if (r) {
			clock_sleep_ns(clk, REREAD_MIN_NS << (i < 6 ? i : 6));
			err = r;
			continue;
		}
		o = resolve_once(&v, found, &err);
		if (o != ATS_LOST_RACE && o != ATS_DAMAGED)
			break;
	}
	if (o == ATS_LOST_RACE) {
		o = ATS_UNKNOWN;
		err = -ETIMEDOUT;
	}
	if (error)
		*error = err;
	free(v.now);
	free(v.set);
	return o;
}
