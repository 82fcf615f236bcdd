/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The claim on a whole volume: a beating slot without a journal that the maintenance sector names.
 * What is not FREE then either beats, which ends the claim, or is fenced and recovered by the host
 * layer. If the maintenance sector or both such slots are damaged, or any slot cannot be read, they
 * are made anew first, behind the must-check mark, which keeps every mount out by itself.
 */
#include "vol/maint.h"
#include "vol/vol_impl.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MS_NS 1000000ull
#define SLOTS (LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS)
#define SET_TRIES 8u
#define LOOKS_A_BEAT 4u
#define LEASES_MAX 16u /* so long a recovery that gets on is waited for */

struct maint {
	struct volume *v;
	struct maint_config cfg;
	struct maint_info info;
	struct ats_sector sec;
	uint8_t *cur, *set, *table; /* maintenance sector; host table: a block a slot */
	uint8_t first[SLOTS][LUNFS_SLOT_STRIDE]; /* a sector each, as it was seen first */
	uint64_t since_ns[SLOTS];
	bool left_over[SLOTS], told[SLOTS], unreadable[SLOTS];
	bool was_damaged; /* the maintenance sector */
	char *why;
	size_t why_len;
};

static int say(struct maint *m, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int say(struct maint *m, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m->why, m->why_len, fmt, ap);
	va_end(ap);
	return err;
}

static void tell(struct maint *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct maint *m, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (!m->cfg.say)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	m->cfg.say(m->cfg.ctx, line);
}

/* ---- the maintenance sector ------------------------------------------------------------------ */

static int read_maint(struct maint *m)
{
	const struct env *e = &m->v->env;
	int rc = dev_read(e->dev, LUNFS_MAINT_OFF, e->geo->sector_bytes, m->cur);

	return rc ? rc : maint_decode(e->geo, m->cur, &m->info);
}

/* Keep what stands there: only so can it be told that no command of ours is on its way. */
static int keep_record(void *ctx, const void *now, void *set)
{
	struct maint *m = ctx;

	memcpy(set, now, m->v->geo.sector_bytes);
	return 0;
}

static int settle(struct maint *m)
{
	int err = 0;
	enum ats_outcome o = ats_resolve(&m->v->ats, &m->sec, keep_record, m, m->cur, &err);

	return ats_ok(o) ? -EAGAIN : -EIO;
}

/* One test and set from m->cur to @mi. -EAGAIN: something else stands there. */
static int put_maint(struct maint *m, const struct maint_info *mi)
{
	struct lunfs_maint_rec *rec = (void *)m->set;
	const struct lunfs_maint_rec *prev = (const void *)m->cur;
	enum ats_outcome o;
	int err = 0;

	memset(m->set, 0, m->v->geo.sector_bytes);
	maint_encode(mi, rec);
	ats_stamp(&m->v->ats, &rec->hdr,
		  ats_check(&m->v->ats, m->cur, LUNFS_ATS_MAINT, LUNFS_MAINT_OFF) ? NULL
										  : &prev->hdr,
		  LUNFS_ATS_MAINT, LUNFS_MAINT_OFF);
	o = ats(&m->v->ats, &m->sec, m->cur, m->set, NULL, &err);
	if (o == ATS_UNKNOWN)
		return settle(m);
	if (o == ATS_LOST_RACE)
		return -EAGAIN;
	if (!ats_ok(o))
		return -EIO;
	memcpy(m->cur, m->set, m->v->geo.sector_bytes);
	m->info = *mi;
	return 0;
}

/* One that looks dead is fenced and recovered like all others, before anything is written. */
static int holder_alive(struct maint *m, bool *alive)
{
	enum owner_state st;
	bool dead;
	int rc;

	*alive = false;
	if (!m->info.holder || m->info.holder == host_owner(m->v->host))
		return 0;
	/* In this order: our own recovery of it may end in between, and then it is over. */
	dead = host_looks_dead(m->v->host, LUNFS_OWNER_SLOT(m->info.holder));
	rc = host_owner_state(m->v->host, m->info.holder, true, &st);
	*alive = rc == 0 && st != OWNER_OVER && !dead;
	return rc;
}

static int take_maint(struct maint *m)
{
	int rc = -EAGAIN;

	for (unsigned i = 0; i < SET_TRIES && rc == -EAGAIN; i++) {
		struct maint_info mine;
		bool alive;

		rc = read_maint(m);
		if (rc)
			break;
		rc = holder_alive(m, &alive);
		if (rc == 0 && alive)
			return say(m, -EBUSY,
				   "The volume on %s is being checked or changed by another "
				   "process (slot %u); wait until that is done.",
				   m->v->env.dev->id.name, LUNFS_OWNER_SLOT(m->info.holder));
		mine = m->info;
		mine.holder = host_owner(m->v->host);
		if (rc == 0)
			rc = put_maint(m, &mine);
	}
	return rc ? say(m, rc, "The maintenance sector of %s could not be set (%s).",
			m->v->env.dev->id.name, strerror(-rc))
		  : 0;
}

struct maint_info maint_get(const struct maint *m)
{
	return m->info;
}

int maint_set(struct maint *m, const struct maint_info *mi)
{
	struct maint_info next = *mi;
	int rc = -EAGAIN;

	next.holder = m->info.holder;
	for (unsigned i = 0; i < SET_TRIES && rc == -EAGAIN; i++) {
		rc = host_wait_active(m->v->host);
		if (rc == 0)
			rc = put_maint(m, &next);
		if (rc == -EAGAIN && (read_maint(m) || m->info.holder != next.holder))
			rc = -EIO;
	}
	return rc ? -EIO : 0;
}

/* ---- the host table -------------------------------------------------------------------------- */

/* Slots that the device cannot read count as damaged: zeroes. */
static int read_slots_one_by_one(struct maint *m)
{
	const struct env *e = &m->v->env;
	int rc = 0;

	for (unsigned i = 0; i < geo_all_slots(e->geo) && rc == 0; i++) {
		uint8_t *slot = m->table + i * LUNFS_SLOT_STRIDE;

		rc = dev_read(e->dev, geo_slot_off(i), LUNFS_SLOT_STRIDE, slot);
		m->unreadable[i] = rc == -EIO;
		if (rc == -EIO) {
			memset(slot, 0, LUNFS_SLOT_STRIDE);
			rc = 0;
		}
	}
	return rc;
}

static int read_table(struct maint *m)
{
	const struct env *e = &m->v->env;
	int rc = dev_read(e->dev, LUNFS_HOST_TABLE_OFF,
			  (size_t)geo_all_slots(e->geo) * LUNFS_SLOT_STRIDE, m->table);

	if (rc == -EIO)
		return read_slots_one_by_one(m);
	memset(m->unreadable, 0, sizeof(m->unreadable));
	return rc;
}

static const uint8_t *slot_in(const struct maint *m, unsigned slot)
{
	return m->table + slot * LUNFS_SLOT_STRIDE;
}

/* Did the record change since it was first seen? Then it counts from now on. */
static bool changed(struct maint *m, unsigned slot)
{
	if (!memcmp(m->first[slot], slot_in(m, slot), sizeof(m->first[slot])))
		return false;
	memcpy(m->first[slot], slot_in(m, slot), sizeof(m->first[slot]));
	m->since_ns[slot] = clock_now_ns(m->v->env.clk);
	return true;
}

static int begin_watch(struct maint *m)
{
	int rc = read_table(m);

	for (unsigned i = 0; rc == 0 && i < geo_all_slots(&m->v->geo); i++) {
		memset(m->first[i], 0, sizeof(m->first[i]));
		changed(m, i);
	}
	return rc ? say(m, rc, "The host table of %s cannot be read (%s).", m->v->env.dev->id.name,
			strerror(-rc))
		  : 0;
}

static uint64_t lease_ns(const struct maint *m, const struct host_info *hi)
{
	uint32_t ms = hi && hi->lease_ms ? hi->lease_ms : m->v->geo.lease_ms;

	return ms * MS_NS + ms * MS_NS / 8;
}

static int refuse_live(struct maint *m, const struct host_info *hi)
{
	return say(m, -EBUSY,
		   "The volume on %s is mounted by host %s (slot %u, process %u); unmount it there "
		   "first.",
		   m->v->env.dev->id.name, hi->hostname, hi->slot, hi->pid);
}

static void tell_waiting(struct maint *m, const struct host_info *hi)
{
	if (m->told[hi->slot])
		return;
	m->told[hi->slot] = true;
	tell(m,
	     "Slot %u is in use by host %s: watching for its lease of %u ms whether it is alive; "
	     "if it is not, it is fenced and its journal replayed.",
	     hi->slot, hi->hostname, hi->lease_ms);
}

/* 0: settled. 1: look again. */
static int judge_slot(struct maint *m, unsigned slot)
{
	struct host_info hi, was;
	bool readable = slot_decode(&m->v->geo, slot_in(m, slot), slot, &hi) == 0;
	bool had = slot_decode(&m->v->geo, m->first[slot], slot, &was) == 0;
	uint64_t age = clock_now_ns(m->v->env.clk) - m->since_ns[slot];

	if (readable && hi.state == LUNFS_SLOT_FREE)
		return changed(m, slot), 0;
	if (readable && had && hi.state == LUNFS_SLOT_LIVE && was.state == LUNFS_SLOT_LIVE &&
	    hi.generation == was.generation && hi.beat_seq != was.beat_seq)
		return refuse_live(m, &hi);
	if (changed(m, slot))
		return 1;
	if (!readable)
		return age < lease_ns(m, NULL);
	tell_waiting(m, &hi);
	m->left_over[slot] =
	    host_recovery_fails(m->v->host, slot) || age > LEASES_MAX * lease_ns(m, &hi);
	if (m->left_over[slot]) /* nothing is replayed beside a repair */
		host_recovery_bar(m->v->host, slot);
	return !m->left_over[slot];
}

static int watch_all(struct maint *m)
{
	uint64_t step = m->v->geo.beat_ms * MS_NS / LOOKS_A_BEAT;
	int rc = begin_watch(m);

	while (rc == 0) {
		int open = 0;

		for (unsigned i = 0; i < geo_all_slots(&m->v->geo) && rc >= 0; i++)
			if (i != host_slot(m->v->host)) {
				rc = judge_slot(m, i);
				open += rc > 0;
			}
		if (rc < 0 || open == 0)
			return rc < 0 ? rc : 0;
		clock_sleep_ns(m->v->env.clk, step);
		rc = atomic_load(&m->v->lost) ? -EIO : host_wait_active(m->v->host);
		if (rc == 0)
			rc = read_table(m);
		if (rc)
			say(m, rc, "The host table of %s cannot be watched (%s).",
			    m->v->env.dev->id.name, strerror(-rc));
	}
	return rc;
}

/* ---- when the sectors of the claim itself are damaged ---------------------------------------- */

/* Nothing in the table changes for as long as the longest lease. */
static int watch_still(struct maint *m)
{
	uint64_t until, longest = lease_ns(m, NULL);
	int rc = begin_watch(m);

	for (unsigned i = 0; rc == 0 && i < geo_all_slots(&m->v->geo); i++) {
		struct host_info hi;

		if (slot_decode(&m->v->geo, slot_in(m, i), i, &hi) == 0 &&
		    lease_ns(m, &hi) > longest)
			longest = lease_ns(m, &hi);
	}
	until = clock_now_ns(m->v->env.clk) + longest;
	while (rc == 0 && clock_now_ns(m->v->env.clk) < until) {
		clock_sleep_ns(m->v->env.clk, m->v->geo.beat_ms * MS_NS / LOOKS_A_BEAT);
		rc = read_table(m);
		for (unsigned i = 0; rc == 0 && i < geo_all_slots(&m->v->geo); i++)
			if (changed(m, i))
				rc = say(m, -EBUSY,
					 "The volume on %s is in use: slot %u of its host table is "
					 "being changed.",
					 m->v->env.dev->id.name, i);
	}
	return rc;
}

static bool spare_usable(const struct maint *m)
{
	struct host_info hi;

	for (unsigned i = m->v->geo.slots; i < geo_all_slots(&m->v->geo); i++)
		if (slot_decode(&m->v->geo, slot_in(m, i), i, &hi) == 0)
			return true;
	return false;
}

/* The maintenance sector names an incarnation that never was. */
static bool holder_impossible(const struct maint *m)
{
	unsigned slot = LUNFS_OWNER_SLOT(m->info.holder);
	struct host_info hi;

	if (m->info.holder == 0)
		return false;
	return slot >= geo_all_slots(&m->v->geo) ||
	       (slot_decode(&m->v->geo, slot_in(m, slot), slot, &hi) == 0 &&
		LUNFS_OWNER_GEN(m->info.holder) > hi.generation);
}

static uint64_t generation_above_all(const struct maint *m)
{
	uint64_t max = 0;
	struct host_info hi;

	for (unsigned i = 0; i < geo_all_slots(&m->v->geo); i++)
		if (slot_decode(&m->v->geo, slot_in(m, i), i, &hi) == 0 && hi.generation > max)
			max = hi.generation;
	return max + 1;
}

/* A damaged sector is replaced by test and set of what was read. */
static int replace_slot(struct maint *m, unsigned slot)
{
	struct lunfs_slot_rec *rec = (void *)m->set;
	struct ats_sector sec = {.off_bytes = geo_slot_off(slot), .kind = "slot", .addr = slot};
	int err = 0;

	memset(m->set, 0, m->v->geo.sector_bytes);
	rec->slot = le16_make((uint16_t)slot);
	rec->generation = le64_make(generation_above_all(m));
	ats_stamp(&m->v->ats, &rec->hdr, NULL, LUNFS_ATS_SLOT, sec.off_bytes);
	return ats_ok(ats(&m->v->ats, &sec, slot_in(m, slot), m->set, NULL, &err)) ? 0 : -EIO;
}

/*
 * What cannot be read cannot be compared and set either, before it is written again. Zeroes are no
 * record: whenever such a write lands, it lets nobody in.
 */
static int make_readable(struct maint *m)
{
	const struct env *e = &m->v->env;
	uint8_t *zeroes = dev_buf_alloc(LUNFS_SLOT_STRIDE);
	int rc = 0;

	for (unsigned i = 0; i < geo_all_slots(e->geo) && rc == 0; i++)
		if (m->unreadable[i])
			rc = dev_write(e->dev, geo_slot_off(i), LUNFS_SLOT_STRIDE, zeroes);
	if (rc == 0 && dev_read(e->dev, LUNFS_MAINT_OFF, e->geo->sector_bytes, m->cur) == -EIO)
		rc = dev_write(e->dev, LUNFS_MAINT_OFF, LUNFS_BLOCK_BYTES, zeroes);
	free(zeroes);
	return rc ? say(m, rc,
			"Sectors by which a volume is claimed cannot be read on %s, nor written "
			"(%s); look at the disk.",
			e->dev->id.name, strerror(-rc))
		  : 0;
}

static bool any_unreadable(const struct maint *m)
{
	return memchr(m->unreadable, true, sizeof(m->unreadable)) != NULL;
}

static int set_mark(struct maint *m)
{
	struct maint_info mi = {0};

	if (read_maint(m) == 0)
		mi = m->info;
	mi.holder = 0;
	mi.flags |= LUNFS_MAINT_MUST_FSCK;
	return put_maint(m, &mi);
}

/* Not if the volume was made anew since its superblock was read. */
static bool same_volume(const struct maint *m)
{
	struct geo g;
	bool copy;
	char why[256];

	return vol_read_super(m->v->env.dev, &g, &copy, why, sizeof(why)) ||
	       !memcmp(g.vol_id, m->v->geo.vol_id, sizeof(g.vol_id)) ||
	       !memcmp(g.vol_id, m->cfg.passed_over, sizeof(g.vol_id));
}

/* @rc: why the claim was not to be had. */
static int make_claimable(struct maint *m, int rc)
{
	int rc2 = read_maint(m);

	if ((rc2 && rc2 != -EUCLEAN && rc2 != -EIO) || !same_volume(m))
		return rc;
	if (read_table(m))
		return rc;
	m->was_damaged = rc2 != 0 || holder_impossible(m);
	if (!m->was_damaged && !any_unreadable(m) && spare_usable(m))
		return rc;
	tell(m,
	     "The sectors by which a volume is claimed are damaged on %s: watching the host table "
	     "instead, twice for a lease.",
	     m->v->env.dev->id.name);
	rc = watch_still(m);
	if (rc == 0 && !same_volume(m))
		rc = say(m, -EBUSY, "A new volume was made on %s meanwhile.",
			 m->v->env.dev->id.name);
	if (rc == 0)
		rc = make_readable(m);
	if (rc == 0)
		rc = set_mark(m);
	if (rc == 0)
		rc = watch_still(m);
	if (rc == 0 && !spare_usable(m))
		rc = replace_slot(m, m->v->geo.slots);
	return rc;
}

/* ---- the claim ------------------------------------------------------------------------------- */

static int claim(struct maint *m)
{
	int rc = host_claim(m->v->host, m->why, m->why_len);

	if (rc == -EUCLEAN || rc == -EBUSY || rc == -ESHUTDOWN || rc == -EIO) {
		rc = make_claimable(m, rc);
		if (rc == 0)
			rc = host_claim(m->v->host, m->why, m->why_len);
	}
	if (rc)
		return rc;
	rc = take_maint(m);
	return rc ? rc : watch_all(m);
}

static void maint_free(struct maint *m)
{
	vol_destroy(m->v);
	free(m->cur);
	free(m->set);
	free(m->table);
	free(m);
}

int maint_begin(struct dev *dev, struct clock *clk, const struct geo *geo,
		const struct maint_config *cfg, struct maint **out, char *why, size_t why_len)
{
	struct vol_options opt = {.host = cfg->host};
	struct maint *m = calloc(1, sizeof(*m));
	int rc;

	lunfs_assert(m);
	opt.host.spare = true;
	m->cfg = *cfg;
	m->why = why;
	m->why_len = why_len;
	m->sec = (struct ats_sector){.off_bytes = LUNFS_MAINT_OFF, .kind = "maintenance sector"};
	m->cur = dev_buf_alloc(geo->sector_bytes);
	m->set = dev_buf_alloc(geo->sector_bytes);
	m->table = dev_buf_alloc((size_t)SLOTS * LUNFS_SLOT_STRIDE);
	dev_set_deadline(dev, cfg->host.deadline_ms ? cfg->host.deadline_ms : geo->deadline_ms);
	m->v = vol_new(dev, clk, geo, &opt);
	rc = vol_make_objects(m->v, &opt);
	if (rc) {
		say(m, rc, "%s: out of memory or threads (%s)", dev->id.name, strerror(-rc));
		maint_free(m);
		return rc;
	}
	rc = claim(m);
	if (rc == 0)
		*out = m;
	else if (host_slot(m->v->host) == LUNFS_NO_SLOT)
		maint_free(m);
	else
		maint_end(m);
	return rc;
}

int maint_write(struct maint *m, struct dev_io *io, size_t n)
{
	return host_io_write(&m->v->io, io, n);
}

int maint_flush(struct maint *m)
{
	return host_io_flush(&m->v->io);
}

bool maint_was_damaged(const struct maint *m)
{
	return m->was_damaged;
}

bool maint_left_over(const struct maint *m, unsigned slot)
{
	return m->left_over[slot];
}

unsigned maint_slot(const struct maint *m)
{
	return host_slot(m->v->host);
}

uint64_t maint_nonce(const struct maint *m)
{
	return host_nonce(m->v->host);
}

static int give_up_holder(struct maint *m)
{
	struct maint_info mi;
	int rc = -EAGAIN;

	for (unsigned i = 0; i < SET_TRIES && rc == -EAGAIN; i++) {
		rc = read_maint(m);
		if (rc || m->info.holder != host_owner(m->v->host))
			return rc;
		mi = m->info;
		mi.holder = 0;
		rc = put_maint(m, &mi);
	}
	return rc;
}

int maint_end(struct maint *m)
{
	int rc = host_wait_active(m->v->host), rc2;

	if (rc == 0)
		rc = give_up_holder(m);
	if (rc == 0) {
		rc = host_release(m->v->host);
	} else { /* the next mount finds the slot's owner dead */
		host_abandon(m->v->host);
	}
	rc2 = atomic_load(&m->v->lost) ? -EIO : 0;
	maint_free(m);
	return rc ? rc : rc2;
}
