/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Claiming a slot. Each round reads the host table and judges: who bears our name, who repairs the
 * volume, which slot is free. Where a dead host is in the way it is recovered first, from a
 * journal-less spare slot that is claimed just for that. A claim stores first and looks second:
 * after the ATS the maintenance sector and the table are read again, and who sees another
 * withdraws. That also keeps hosts that are registered with the device and hosts that are not from
 * being live together.
 */
#include "cluster/host_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_YET 1      /* look again in a moment */
#define AGAIN 2	       /* look again now: another host was faster, which is progress */
#define CLAIM_TRIES 4u /* commands without an answer */
#define FIRST_BEATS 8u
#define READ_TRIES 4u
#define WAIT_LIMIT 16u /* a recovery that makes progress may stretch the wait this far */

enum verdict { V_FREE, V_ALIVE, V_WATCHING, V_DEAD, V_RECOVERING, V_DAMAGED };

struct claim {
	struct host *h;
	char *why;
	size_t why_len;
	uint64_t start_ns, wait_ns;
	int blocked; /* what to answer when time is up; its sentence is in why */
	bool caw_proven;
};

static int say(struct claim *c, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int say(struct claim *c, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (c->why_len)
		vsnprintf(c->why, c->why_len, fmt, ap);
	va_end(ap);
	return err;
}

/* A command may be aborted along with those of a mount that used this path before. */
static int read_table(struct host *h)
{
	int r = -ETIMEDOUT;

	for (unsigned i = 0; i < READ_TRIES && r == -ETIMEDOUT; i++)
		r = watch_read_table(h);
	return r;
}

/* Say why this takes time; it is the answer if it takes too long. */
#define WAIT_FOR(c, err, ...) ((c)->blocked = say(c, err, __VA_ARGS__), NOT_YET)

/* ---- judging slots ------------------------------------------------------------------------------
 */

static enum verdict judge(struct host *h, unsigned slot, struct slot_seen *s)
{
	watch_get(h, slot, s);
	if (!s->valid || s->damaged)
		return V_DAMAGED;
	if (s->hi.state == LUNFS_SLOT_FREE) /* the last generation of all cannot be followed */
		return s->hi.generation + 1 < LUNFS_GEN_LIMIT ? V_FREE : V_DAMAGED;
	if (s->hi.state == LUNFS_SLOT_RECOVERING && s->hi.recoverer == host_owner(h))
		return V_RECOVERING;
	if (watch_dead(h, s))
		return V_DEAD;
	if (s->hi.state == LUNFS_SLOT_RECOVERING)
		return V_RECOVERING;
	return s->moved ? V_ALIVE : V_WATCHING;
}

/* Who only repairs needs no journal, but may use a slot that has one. */
static bool can_mount(const struct host *h, unsigned slot)
{
	return h->cfg.spare || slot_has_journal(h, slot);
}

/*
 * How good a free slot is for us: the one our name used last, then unused ones, then any. One whose
 * last owner was fenced comes last: what its record says of that owner is still of use (pr_leave).
 */
static int score_of(const struct host *h, const struct slot_seen *s)
{
	if (h->cfg.spare)
		return slot_has_journal(h, s->hi.slot) ? 0 : 3;
	if (!strcmp(s->hi.hostname, h->cfg.name))
		return 3;
	if (!s->hi.generation)
		return 2;
	return watch_ended_cleanly(s);
}

/* The slot to try; h->n: none is free. */
static unsigned choose(struct host *h)
{
	unsigned best = h->n;
	int best_score = -1;

	for (unsigned i = 0; i < h->n; i++) {
		struct slot_seen s;
		int score;

		if (!can_mount(h, i) || judge(h, i, &s) != V_FREE)
			continue;
		score = score_of(h, &s);
		if (score > best_score) {
			best = i;
			best_score = score;
		}
	}
	return best;
}

/* ---- one slot -----------------------------------------------------------------------------------
 */

static void build_claim(struct host *h, unsigned slot, const struct slot_seen *s)
{
	struct lunfs_slot_rec *rec = (void *)h->set;
	struct timespec ts;

	h->env.clk->ops->realtime(h->env.clk, &ts);
	memset(h->set, 0, h->env.geo->sector_bytes);
	rec->state = le16_make(LUNFS_SLOT_LIVE);
	rec->slot = le16_make((uint16_t)slot);
	rec->fence = le16_make((uint16_t)host_fence(h));
	rec->flags = le16_make(h->cfg.read_only ? HOST_FLAG_READ_ONLY : 0);
	rec->generation = le64_make(s->hi.generation + 1);
	rec->nonce = le64_make(h->nonce);
	rec->beat_seq = le64_make(1);
	rec->beat_ms = le32_make(h->cfg.beat_ms);
	rec->deadline_ms = le32_make(h->cfg.deadline_ms);
	rec->lease_ms = le32_make(h->cfg.lease_ms);
	rec->pid = le32_make(h->self.pid);
	rec->claim_time_s = le64_make((uint64_t)ts.tv_sec);
	memcpy(rec->machine_id, h->self.machine_id, sizeof(rec->machine_id));
	memcpy(rec->boot_id, h->self.boot_id, sizeof(rec->boot_id));
	rec->pid_start = le64_make(h->self.pid_start);
	rec->pid_ns = le64_make(h->self.pid_ns);
	memcpy(rec->hostname, h->cfg.name, strlen(h->cfg.name));
	ats_stamp(h->ats, &rec->hdr, &s->rec.hdr, LUNFS_ATS_SLOT, geo_slot_off(slot));
}

static void new_nonce(struct host *h)
{
	h->nonce = 0;
	while (!h->nonce)
		h->env.clk->ops->random(h->env.clk, &h->nonce, sizeof(h->nonce));
}

static void begin_incarnation(struct host *h, unsigned slot, uint64_t generation, uint64_t since_ns)
{
	uint8_t *tmp = h->cur;
	uint64_t now = host_now(h);

	h->cur = h->set;
	h->set = tmp;
	mtx_lock(&h->mtx);
	h->slot = slot;
	h->generation = generation;
	h->temporary = slot >= h->env.geo->slots && !h->cfg.spare;
	h->idle_since_ns = h->rec_step_ns = 0;
	h->pr_restored_ns = h->pr_failures = 0;
	h->refused = false;
	atomic_store(&h->conflict, false);
	h->suspensions = h->suspensions_told = 0;
	h->lost_told = h->giving_up = h->slot_gone = false;
	atomic_store(&h->lease_end_ns, since_ns + h->cfg.lease_ms * MS_NS);
	atomic_store(&h->state, HOST_ACTIVE);
	mtx_unlock(&h->mtx);
	watch_note(h, slot, h->cur, now, now);
}

/*
 * FREE -> LIVE by ATS. AGAIN: another host was faster. The slot was free when it was chosen; the
 * table may have been read again since, and what it says now is the image the claim is tested by.
 */
static int take_slot(struct claim *c, unsigned slot)
{
	struct host *h = c->h;
	enum ats_outcome o = ATS_UNKNOWN;
	uint64_t since = host_now(h);
	struct slot_seen s;
	uint8_t *test;
	uint64_t now;
	int error = 0;

	if (judge(h, slot, &s) != V_FREE)
		return NOT_YET;
	test = dev_buf_alloc(h->env.geo->sector_bytes);
	memcpy(test, &s.rec, sizeof(s.rec));
	if (!h->pr_key) /* else the nonce is the key */
		new_nonce(h);
	ats_set_owner(h->ats, h->nonce, LUNFS_OWNER(s.hi.generation + 1, slot));
	h->sec = (struct ats_sector){.off_bytes = geo_slot_off(slot), .kind = "slot", .addr = slot};
	for (unsigned i = 0; i < CLAIM_TRIES && o == ATS_UNKNOWN; i++) {
		since = host_now(h);
		build_claim(h, slot, &s);
		o = ats(h->ats, &h->sec, test, h->set, h->found, &error);
	}
	free(test);
	if (ats_ok(o)) {
		begin_incarnation(h, slot, s.hi.generation + 1, since);
		return 0;
	}
	if (o == ATS_LOST_RACE) {
		now = host_now(h);
		watch_note(h, slot, h->found, now, now);
		return AGAIN;
	}
	return say(c, -EIO,
		   "Slot %u on %s cannot be claimed: the atomic update ended as \"%s\" (error %d); "
		   "check the device and its support of COMPARE AND WRITE.",
		   slot, h->env.dev->id.name, ats_outcome_name(o), error);
}

/* ---- fencing ------------------------------------------------------------------------------------
 */

static const char *fence_word(enum lunfs_fence_mode m)
{
	static const char *const word[] = {
	    [LUNFS_FENCE_NONE] = "nothing",
	    [LUNFS_FENCE_TIMER] = "the lease alone (timer)",
	    [LUNFS_FENCE_PIDFD] = "killing its process (pidfd)",
	    [LUNFS_FENCE_PR] = "persistent reservations (pr)",
	    [LUNFS_FENCE_WATCHDOG] = "a watchdog",
	};

	return word[m];
}

/* A host that is alive, or may be, and is registered (or not) otherwise than @pr. */
static enum verdict find_mixed(struct host *h, bool pr, struct slot_seen *s)
{
	for (unsigned i = 0; i < h->n; i++) {
		enum verdict v = i == h->slot ? V_FREE : judge(h, i, s);

		if ((v == V_ALIVE || v == V_WATCHING) && (s->hi.fence == LUNFS_FENCE_PR) != pr)
			return v;
	}
	return V_FREE;
}

static int wait_for_verdict(struct claim *c, const struct slot_seen *s)
{
	char name[HOST_LABEL_BYTES];

	return WAIT_FOR(c, -EBUSY,
			"%s is fenced by %s and its beats are not seen yet; this host would be "
			"fenced otherwise, and the two do not go together.",
			host_label(&s->hi, name), fence_word(s->hi.fence));
}

/* It is not to be had (@r, h->pr_why): 0 where this host may do without. */
static int pr_failed(struct claim *c, int r)
{
	struct host *h = c->h;

	if (r != -EBADE && r != -EOPNOTSUPP && r != -EBUSY) /* perhaps in a moment */
		return WAIT_FOR(c, r, "%s.", h->pr_why);
	if (h->cfg.fence == FENCE_PR)
		return say(c, r, "fence=pr: %s.", h->pr_why);
	h->pr_cannot = true;
	return 0;
}

/* 0: registered, or it is clear that this host does without (h->pr_cannot). */
static int try_pr(struct claim *c)
{
	struct host *h = c->h;
	char name[HOST_LABEL_BYTES];
	struct slot_seen s;
	int r = -EBUSY;

	switch (find_mixed(h, true, &s)) {
	case V_WATCHING:
		return wait_for_verdict(c, &s);
	case V_ALIVE:
		snprintf(h->pr_why, sizeof(h->pr_why),
			 "%s, which is alive, is not registered with the device and could not "
			 "write to a reserved one",
			 host_label(&s.hi, name));
		break;
	default:
		if (pr_old_process(h, &s))
			return WAIT_FOR(
			    c, -EBUSY,
			    "Process %u, an earlier mount on this machine that lost its "
			    "place on %s, is still there; unmount it first.",
			    s.hi.pid, h->env.dev->id.name);
		h->fence = LUNFS_FENCE_PR;
		r = fence_begin(h, h->pr_why, sizeof(h->pr_why));
		if (!r)
			return 0;
	}
	return pr_failed(c, r);
}

static int without_pr(struct claim *c)
{
	struct host *h = c->h;
	char name[HOST_LABEL_BYTES], why[256];
	struct slot_seen s;
	int r;

	switch (find_mixed(h, false, &s)) {
	case V_WATCHING:
		return wait_for_verdict(c, &s);
	case V_ALIVE:
		return say(
		    c, -EBUSY,
		    "%s has the volume on %s mounted and fences by persistent reservations: a "
		    "host that is not registered cannot write there. %s.",
		    host_label(&s.hi, name), h->env.dev->id.name,
		    h->pr_cannot ? h->pr_why : "Mount with fence=auto or fence=pr");
	default:
		break;
	}
	r = pr_refused(h, why, sizeof(why));
	if (r)
		return say(c, r, "%s. %s.", why,
			   h->pr_cannot ? h->pr_why
					: "Mount with fence=auto or fence=pr; left-over keys go by "
					  "lunfs clear-keys");
	h->fence = h->cfg.fence == FENCE_WATCHDOG ? LUNFS_FENCE_WATCHDOG : LUNFS_FENCE_TIMER;
	return fence_begin(h, c->why, c->why_len);
}

/* Decide how this host is fenced; after 0 it is registered where there is something to register at.
 */
static int begin_fence(struct claim *c)
{
	struct host *h = c->h;
	bool pr = h->cfg.fence == FENCE_AUTO || h->cfg.fence == FENCE_PR;
	int r = 0;

	if (h->env.dev->id.one_machine) {
		if (h->cfg.fence == FENCE_PR)
			return say(
			    c, -EOPNOTSUPP,
			    "fence=pr: %s is shared by processes of one machine only and has "
			    "no persistent reservations.",
			    h->env.dev->id.name);
		h->fence =
		    h->cfg.fence == FENCE_WATCHDOG ? LUNFS_FENCE_WATCHDOG : LUNFS_FENCE_PIDFD;
		return fence_begin(h, c->why, c->why_len);
	}
	if (pr && !h->pr_cannot)
		r = try_pr(c);
	if (r || h->pr_key)
		return r;
	return without_pr(c);
}

/* Both sides have stored first; who looks second and sees the other withdraws. */
static int stand_fence(struct claim *c)
{
	struct host *h = c->h;
	struct slot_seen s;
	int r;

	if (h->env.dev->id.one_machine)
		return 0;
	if (find_mixed(h, h->fence == LUNFS_FENCE_PR, &s) != V_FREE)
		return wait_for_verdict(c, &s);
	if (h->fence != LUNFS_FENCE_PR)
		return 0;
	r = pr_reserve(h, h->pr_why, sizeof(h->pr_why));
	if (!r)
		return 0;
	r = pr_failed(c, r);
	return r ? r : WAIT_FOR(c, -EBUSY, "%s.", h->pr_why);
}

/* Claims are not believed; and only a registered host may try. */
static int prove_caw(struct claim *c)
{
	struct dev *d = c->h->env.dev;
	int r = 0;

	if (!c->caw_proven && !d->id.one_machine && d->id.kind != DEV_KIND_SIM)
		r = dev_caw_probe(d, LUNFS_SCRATCH_OFF, c->why, c->why_len);
	c->caw_proven = !r;
	return r;
}

static int enter(struct claim *c, unsigned slot)
{
	int r = begin_fence(c);

	if (r)
		return r;
	r = prove_caw(c);
	if (!r)
		r = take_slot(c, slot);
	if (r)
		fence_end(c->h);
	return r;
}

static int first_beat(struct claim *c)
{
	struct host *h = c->h;
	int r = -EAGAIN;

	for (unsigned i = 0; i < FIRST_BEATS && r == -EAGAIN; i++)
		r = beat_once(h);
	return r ? say(c, -EIO, "The first beat in slot %u on %s failed; check the device.",
		       h->slot, h->env.dev->id.name)
		 : 0;
}

/* The claim stands. */
static int go_live(struct claim *c)
{
	struct host *h = c->h;
	int r = first_beat(c);

	if (!r)
		r = fence_arm(h, c->why, c->why_len);
	if (r)
		return r;
	r = host_start_threads(h);
	return r ? say(c, r, "The host's threads cannot be started (error %d).", r) : 0;
}

/* The claim is not allowed to stand. */
static int withdraw(struct host *h, int r)
{
	host_free_slot(h);
	return r;
}

/* ---- maintenance --------------------------------------------------------------------------------
 */

static int read_maint(struct claim *c, struct maint_info *mi)
{
	struct host *h = c->h;
	uint8_t *buf = dev_buf_alloc(h->env.geo->sector_bytes);
	int r = -ETIMEDOUT;

	for (unsigned i = 0; i < READ_TRIES && r == -ETIMEDOUT; i++)
		r = dev_read(h->env.dev, LUNFS_MAINT_OFF, h->env.geo->sector_bytes, buf);
	if (r)
		say(c, r, "The maintenance sector of %s cannot be read (error %d).",
		    h->env.dev->id.name, r);
	else if ((r = maint_decode(h->env.geo, buf, mi)))
		say(c, r,
		    "The maintenance sector of %s fails its checks; run fsck.lunfs before "
		    "mounting.",
		    h->env.dev->id.name);
	free(buf);
	return r;
}

/* 0: nobody repairs the volume and nothing was left half repaired. */
static int check_maint(struct claim *c)
{
	struct host *h = c->h;
	enum owner_state st;
	struct slot_seen s;
	struct maint_info mi;
	char name[HOST_LABEL_BYTES];
	int r = read_maint(c, &mi);

	if (r)
		return r;
	if (mi.flags & LUNFS_MAINT_MUST_FSCK && !h->cfg.spare)
		return say(
		    c, -EUCLEAN,
		    "A repair of the volume on %s was begun and not finished; run fsck.lunfs "
		    "before mounting it.",
		    h->env.dev->id.name);
	if (!mi.holder)
		return 0;
	r = host_owner_state(h, mi.holder, true, &st);
	if (r)
		return say(c, r,
			   "Slot %u, which repairs the volume on %s, cannot be read (error %d).",
			   LUNFS_OWNER_SLOT(mi.holder), h->env.dev->id.name, r);
	if (st == OWNER_OVER)
		return 0;
	watch_get(h, LUNFS_OWNER_SLOT(mi.holder), &s);
	return say(c, -ESHUTDOWN,
		   "The volume on %s is being checked, repaired or changed by %s; try again when "
		   "that is done.",
		   h->env.dev->id.name, host_label(&s.hi, name));
}

/* It is for its recovery that we need a slot. */
static bool repairer_dead(struct claim *c)
{
	struct slot_seen s;
	struct maint_info mi;

	return !read_maint(c, &mi) && LUNFS_OWNER_SLOT(mi.holder) < c->h->n &&
	       judge(c->h, LUNFS_OWNER_SLOT(mi.holder), &s) == V_DEAD;
}

/* ---- in the way ---------------------------------------------------------------------------------
 */

/* Be somebody, so that the dead can be recovered: claim a spare slot for that. */
static int enter_spare(struct claim *c)
{
	struct host *h = c->h;
	int r;

	if (h->slot != LUNFS_NO_SLOT)
		return 0;
	if (!h->cb.replay || h->cfg.spare)
		return -EBUSY;
	for (unsigned k = 0; k < h->n; k++) { /* the two without a journal first */
		unsigned i = (h->env.geo->slots + k) % h->n;
		struct slot_seen s;

		if (judge(h, i, &s) != V_FREE)
			continue;
		r = enter(c, i);
		if (r)
			return r;
		r = check_maint(c);
		if (r == -ESHUTDOWN && repairer_dead(c))
			r = 0;
		if (!r)
			r = read_table(h);
		if (!r)
			r = stand_fence(c);
		if (!r)
			r = go_live(c);
		return r ? withdraw(h, r) : 0;
	}
	return -EBUSY;
}

/* A dead host is in the way: recover it, from a spare slot. 0: no spare slot is to be had. */
static int recover_dead(struct claim *c, const struct slot_seen *s)
{
	char name[HOST_LABEL_BYTES];
	int r = enter_spare(c);

	if (r == -EBUSY)
		return 0;
	if (r)
		return r;
	return WAIT_FOR(
	    c, -EBUSY,
	    "The dead %s could not be recovered in time; the log says why. Mount again, or "
	    "run fsck.lunfs when no host has the volume mounted.",
	    host_label(&s->hi, name));
}

/* Our own daemon of before may still be unmounting. */
static bool may_be_leaving(const struct claim *c, const struct slot_seen *s)
{
	const struct host *h = c->h;

	return !memcmp(h->self.boot_id, s->hi.boot_id, sizeof(s->hi.boot_id)) &&
	       h->self.pid != s->hi.pid && host_now(h) < c->start_ns + h->cfg.lease_ms * MS_NS;
}

static int same_name_slot(struct claim *c, unsigned slot)
{
	struct host *h = c->h;
	char name[HOST_LABEL_BYTES];
	struct slot_seen s;
	enum verdict v = judge(h, slot, &s);

	if (v == V_FREE || v == V_DAMAGED || slot == h->slot || strcmp(s.hi.hostname, h->cfg.name))
		return 0;
	if (v == V_DEAD)
		return recover_dead(c, &s);
	if (v == V_RECOVERING)
		return h->slot == LUNFS_NO_SLOT ? 0 : recover_dead(c, &s);
	say(c, -EEXIST,
	    "A live host of that name has the volume mounted: %s, process %u; use another "
	    "host=NAME or "
	    "unmount there.",
	    host_label(&s.hi, name), s.hi.pid);
	c->blocked = -EEXIST;
	return v == V_ALIVE && !may_be_leaving(c, &s) ? -EEXIST : NOT_YET;
}

static int check_same_name(struct claim *c)
{
	int worst = 0;

	if (c->h->cfg.spare)
		return 0;
	for (unsigned i = 0; i < c->h->env.geo->slots; i++) {
		int r = same_name_slot(c, i);

		if (r < 0)
			return r;
		worst = r ? r : worst;
	}
	return worst;
}

/* fsck or mkfs seems to work on the volume: is it alive? */
static int check_repair(struct claim *c)
{
	struct slot_seen s;
	struct maint_info mi;
	int r = check_maint(c);

	if (r != -ESHUTDOWN)
		return r;
	c->blocked = r;
	r = read_maint(c, &mi);
	if (r || LUNFS_OWNER_SLOT(mi.holder) >= c->h->n)
		return r ? r : -ESHUTDOWN;
	switch (judge(c->h, LUNFS_OWNER_SLOT(mi.holder), &s)) {
	case V_ALIVE:
		return -ESHUTDOWN;
	case V_DEAD:
		if (c->h->cfg.spare) /* recovered once we have a slot to do it from */
			return 0;
		r = recover_dead(c, &s);
		return r < 0 ? r : NOT_YET;
	default:
		return NOT_YET;
	}
}

/* No slot is free: will one be? */
static int none_free(struct claim *c)
{
	struct host *h = c->h;
	unsigned usable = 0, alive = 0;

	for (unsigned i = 0; i < h->n; i++) {
		struct slot_seen s;
		enum verdict v = judge(h, i, &s);

		if (!can_mount(h, i))
			continue;
		usable++;
		alive += v == V_ALIVE || v == V_DAMAGED;
		if (v == V_DEAD) {
			int r = recover_dead(c, &s);

			if (r)
				return r;
		}
	}
	say(c, -EBUSY,
	    "All %u slots of the volume on %s are taken by live hosts; unmount it somewhere, or "
	    "make "
	    "the volume for more hosts.",
	    usable, h->env.dev->id.name);
	c->blocked = -EBUSY;
	return alive == usable ? -EBUSY : NOT_YET;
}

/* ---- the claim ----------------------------------------------------------------------------------
 */

/* Another host that bears our name claimed at the same time? Then neither stays. */
static int check_twin(struct claim *c)
{
	struct host *h = c->h;
	struct slot_seen s;
	int r = read_table(h);

	if (r)
		return say(c, r, "The host table of %s cannot be read (error %d).",
			   h->env.dev->id.name, r);
	for (unsigned i = 0; i < h->env.geo->slots && !h->cfg.spare; i++) {
		enum verdict v = judge(h, i, &s);

		if (i != h->slot && (v == V_ALIVE || v == V_WATCHING) &&
		    !strcmp(s.hi.hostname, h->cfg.name))
			return say(
			    c, -EEXIST,
			    "Two hosts named %s claimed a slot on %s at the same time; give them "
			    "different names.",
			    h->cfg.name, h->env.dev->id.name);
	}
	return 0;
}

static int take_and_check(struct claim *c, unsigned slot)
{
	struct host *h = c->h;
	int r = enter(c, slot);

	if (r)
		return r;
	r = check_maint(c);
	if (r == -ESHUTDOWN && h->cfg.spare && repairer_dead(c))
		r = 0;
	if (!r)
		r = check_twin(c);
	if (!r)
		r = stand_fence(c);
	if (!r)
		r = go_live(c);
	if (r)
		return withdraw(h, r);
	log_info("host-mounted",
		 "This host is %s (slot %u, generation %llu) on %s; were it dead, it would be "
		 "fenced by %s%s%s.",
		 h->cfg.name, h->slot, (unsigned long long)h->generation, h->env.dev->id.name,
		 fence_word(h->fence), h->pr_cannot ? ": " : "", h->pr_cannot ? h->pr_why : "");
	return 0;
}

static int claim_round(struct claim *c)
{
	struct host *h = c->h;
	unsigned slot;
	int r = watch_read_table(h);

	if (r)
		return WAIT_FOR(c, r, "The host table of %s cannot be read (error %d).",
				h->env.dev->id.name, r);
	r = check_repair(c);
	if (!r)
		r = check_same_name(c);
	if (r)
		return r;
	slot = choose(h);
	if (slot == h->n)
		return none_free(c);
	r = host_release(h);
	if (r)
		return say(c, r, "The spare slot used for a recovery on %s was lost; mount again.",
			   h->env.dev->id.name);
	return take_and_check(c, slot);
}

/* A recovery that gets on is worth waiting for. */
static bool time_is_up(struct claim *c)
{
	uint64_t waited = host_now(c->h) - c->start_ns;
	bool busy = false;

	for (unsigned i = 0; i < c->h->n; i++)
		busy = busy || recover_busy(c->h, i);
	return waited >= c->wait_ns * (busy ? WAIT_LIMIT : 1);
}

static int check_config(struct claim *c)
{
	const struct host_config *cfg = &c->h->cfg;

	if (c->h->env.dev->id.read_only)
		return say(
		    c, -EROFS,
		    "%s is read-only; a host must be able to write its slot to mount a shared "
		    "volume.",
		    c->h->env.dev->id.name);
	if (!cfg->beat_ms || !cfg->deadline_ms || cfg->beat_ms + cfg->deadline_ms > cfg->lease_ms)
		return say(
		    c, -EINVAL,
		    "A lease of %u ms is too short for a beat of %u ms and an I/O deadline of %u "
		    "ms: it must be at least their sum.",
		    cfg->lease_ms, cfg->beat_ms, cfg->deadline_ms);
	return 0;
}

static void wait_a_bit(struct host *h)
{
	uint64_t until = host_now(h) + h->cfg.beat_ms * MS_NS / 4;

	mtx_lock(&h->mtx);
	cond_wait(&h->changed, &h->mtx, until);
	mtx_unlock(&h->mtx);
}

int host_claim(struct host *h, char *why, size_t why_len)
{
	struct claim c = {.h = h, .why = why, .why_len = why_len};
	int r;

	lunfs_assert(h->slot == LUNFS_NO_SLOT);
	c.start_ns = host_now(h);
	c.wait_ns = h->cfg.claim_wait_ms * MS_NS;
	memset(h->seen, 0, h->n * sizeof(*h->seen));
	h->pr_cannot = false;
	r = check_config(&c);
	if (r)
		return r;
	while ((r = claim_round(&c)) > 0) {
		if (time_is_up(&c)) {
			r = c.blocked ? c.blocked
				      : say(&c, -EBUSY, "No slot could be claimed in time.");
			break;
		}
		if (r == NOT_YET)
			wait_a_bit(h);
	}
	if (r && h->slot != LUNFS_NO_SLOT)
		host_release(h);
	return r;
}
