/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Member records: how checks that run at the same time, here and on other hosts, share the scratch
 * area and find each other. Each writes its own record only, by plain writes of one sector: the
 * atomic operation is what is being tested, so nothing relies on it.
 *
 * A record whose beat does not change for MEMBER_STALE_NS is of nobody. Two checks that take the
 * same free record at the same moment: the one whose write came last has it, the other one sees
 * that when it reads back, or at its next beat, and gives up.
 */
#include "check/check_impl.h"

#include "base/crc.h"

#define MEMBER_MAGIC 0x424d4b4cu /* "LKMB" */
#define CLAIMS_MAX 8u
#define SETTLE_MIN_NS (100 * MS_NS)

struct member_disk {
	le32 magic;		/* 0x00 */
	le32 crc;		/* 0x04 of 512 bytes with this field zero */
	le64 nonce;		/* 0x08 */
	le64 beat;		/* 0x10 */
	le64 group;		/* 0x18 */
	le64 boot;		/* 0x20 */
	le32 state;		/* 0x28 enum member_state */
	le32 hosts;		/* 0x2c */
	le64 success[COUNTERS]; /* 0x30 */
	le64 unknown[COUNTERS]; /* 0x50 */
	uint8_t host[64];	/* 0x70 */
	uint8_t reserved[336];	/* 0xb0 */
};
static_assert(sizeof(struct member_disk) == 512, "member_disk");

static void encode(const struct member *m, void *sector)
{
	struct member_disk *d = sector;

	d->magic = le32_make(MEMBER_MAGIC);
	d->nonce = le64_make(m->nonce);
	d->beat = le64_make(m->beat);
	d->group = le64_make(m->group);
	d->boot = le64_make(m->boot);
	d->state = le32_make(m->state);
	d->hosts = le32_make(m->hosts);
	for (unsigned i = 0; i < COUNTERS; i++) {
		d->success[i] = le64_make(m->success[i]);
		d->unknown[i] = le64_make(m->unknown[i]);
	}
	memcpy(d->host, m->host, strnlen(m->host, sizeof(d->host) - 1));
	crc_seal(d, sizeof(*d), offsetof(struct member_disk, crc));
}

static void decode(const void *sector, struct member *m)
{
	const struct member_disk *d = sector;
	uint32_t state = le32_get(d->state);

	memset(m, 0, sizeof(*m));
	if (le32_get(d->magic) != MEMBER_MAGIC ||
	    !crc_ok(d, sizeof(*d), offsetof(struct member_disk, crc)) || state < MEMBER_ALONE ||
	    state > MEMBER_SEEN)
		return;
	m->nonce = le64_get(d->nonce);
	m->beat = le64_get(d->beat);
	m->group = le64_get(d->group);
	m->boot = le64_get(d->boot);
	m->state = state;
	m->hosts = le32_get(d->hosts);
	for (unsigned i = 0; i < COUNTERS; i++) {
		m->success[i] = le64_get(d->success[i]);
		m->unknown[i] = le64_get(d->unknown[i]);
	}
	memcpy(m->host, d->host, sizeof(m->host) - 1);
	for (char *p = m->host; *p; p++) /* it goes to a terminal */
		if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
			*p = '?';
}

int members_read(struct check *c, struct member out[MEMBERS])
{
	uint8_t *buf = dev_buf_alloc(MEMBERS * CELL_BYTES);
	int rc = io_read(c, 0, cell_off(MEMBER_CELL), MEMBERS * CELL_BYTES, buf);

	for (unsigned i = 0; i < MEMBERS && !rc; i++)
		decode(buf + (size_t)i * CELL_BYTES, &out[i]);
	free(buf);
	return rc;
}

static int write_record(struct check *c, const struct member *m)
{
	void *sector = dev_buf_alloc(c->sector);
	int rc;

	if (m)
		encode(m, sector);
	rc = io_write(c, 0, cell_off(MEMBER_CELL + c->cell), c->sector, sector);
	free(sector);
	return rc;
}

/* One writer at a time, so that no older record lands on a newer one. */
int member_publish(struct check *c)
{
	struct member m;
	int rc;

	mtx_lock(&c->mtx);
	while (c->member_writing)
		cond_wait(&c->cv, &c->mtx, CLOCK_FOREVER);
	c->member_writing = true;
	c->me.beat++;
	m = c->me;
	mtx_unlock(&c->mtx);
	rc = write_record(c, &m);
	mtx_lock(&c->mtx);
	c->member_writing = false;
	cond_broadcast(&c->cv);
	mtx_unlock(&c->mtx);
	return rc;
}

/* ---- taking a record ------------------------------------------------------------------------- */

static int pick(struct check *c, const bool free_cell[MEMBERS])
{
	unsigned n = 0, k;

	for (unsigned i = 0; i < MEMBERS; i++)
		n += free_cell[i];
	if (!n)
		return -1;
	k = (unsigned)(check_random(c) % n);
	for (unsigned i = 0; i < MEMBERS; i++)
		if (free_cell[i] && k-- == 0)
			return (int)i;
	return -1;
}

/* Records of nobody: empty ones, or, where there is none, those that nobody has changed for long.
 */
static int find_free(struct check *c, bool free_cell[MEMBERS])
{
	struct member first[MEMBERS], now[MEMBERS];
	uint64_t until = check_now(c) + MEMBER_STALE_NS;
	bool any = false;
	int rc = members_read(c, first);

	for (unsigned i = 0; i < MEMBERS && !rc; i++) {
		free_cell[i] = !first[i].nonce;
		any = any || free_cell[i];
	}
	if (rc || any)
		return rc;
	for (unsigned i = 0; i < MEMBERS; i++)
		free_cell[i] = true;
	while (check_now(c) < until && !check_over(c)) {
		check_nap(c, MEMBER_BEAT_NS);
		rc = members_read(c, now);
		for (unsigned i = 0; i < MEMBERS && !rc; i++)
			free_cell[i] = free_cell[i] && now[i].nonce == first[i].nonce &&
				       now[i].beat == first[i].beat;
		if (rc)
			return rc;
	}
	return 0;
}

static int claim(struct check *c, bool *ours)
{
	struct member all[MEMBERS];
	uint64_t at = check_now(c), took;
	int rc;

	rc = member_publish(c);
	if (!rc)
		rc = members_read(c, all);
	took = check_now(c) - at;
	if (rc)
		return rc;
	check_nap(c, 4 * took > SETTLE_MIN_NS ? 4 * took : SETTLE_MIN_NS);
	rc = members_read(c, all);
	*ours = !rc && all[c->cell].nonce == c->run;
	return rc;
}

/* ---- the beat -------------------------------------------------------------------------------- */

static bool still_ours(struct check *c)
{
	struct member all[MEMBERS];

	return members_read(c, all) || !all[c->cell].nonce || all[c->cell].nonce == c->run;
}

static void beat_task(void *arg)
{
	struct check *c = arg;
	bool end = false, lost = false;

	while (!end) {
		uint64_t until = check_now(c) + MEMBER_BEAT_NS;

		mtx_lock(&c->mtx);
		while (!c->beat_end && check_now(c) < until)
			cond_wait(&c->cv, &c->mtx, until);
		end = c->beat_end;
		mtx_unlock(&c->mtx);
		if (end || lost)
			continue;
		if (still_ours(c)) {
			member_publish(c);
			continue;
		}
		lost = true;
		check_disturbed(c, "another check has taken the place of this one in the scratch "
				   "area, because it saw no sign of life from it.");
	}
}

int member_join(struct check *c, struct check_result *r)
{
	bool free_cell[MEMBERS] = {false}, ours = false;
	int rc = 0, cell;

	check_progress(c, "taking a place in the scratch area", 1);
	c->me = (struct member){.nonce = c->run, .state = MEMBER_ALONE, .boot = c->cfg.boot};
	memcpy(c->me.host, c->cfg.host, sizeof(c->me.host));
	for (unsigned i = 0; i < CLAIMS_MAX && !rc && !ours && !check_over(c); i++) {
		rc = find_free(c, free_cell);
		cell = rc ? -1 : pick(c, free_cell);
		if (cell < 0)
			break;
		c->cell = (unsigned)cell;
		rc = claim(c, &ours);
		if (rc == -ETIMEDOUT) /* what lands late in that record is of nobody */
			rc = 0;
	}
	if (rc) {
		result_say(r, CHECK_BAD, "Plain reading or writing of the scratch area fails: %s.",
			   io_error(rc));
		result_advise(r, "Look at the device's and the kernel's log.");
	} else if (!ours) {
		result_say(r, CHECK_UNKNOWN,
			   "No place in the scratch area could be had: %u other checks run on this "
			   "device, or it does not keep what is written to it.",
			   MEMBERS);
		result_advise(r, "Check again when they have ended.");
	} else {
		rc = c->clk->ops->task_start(c->clk, "check-beat", beat_task, c, &c->beat);
		lunfs_assert(rc == 0);
	}
	if (rc == -ENOSPC || rc == -EBADE || rc == -ETIMEDOUT)
		r->grade = CHECK_UNKNOWN;
	return ours ? 0 : -EAGAIN;
}

void member_leave(struct check *c)
{
	mtx_lock(&c->mtx);
	c->beat_end = true;
	cond_broadcast(&c->cv);
	mtx_unlock(&c->mtx);
	c->clk->ops->task_join(c->clk, c->beat);
	if (still_ours(c))
		write_record(c, NULL);
}
