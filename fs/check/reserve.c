/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent reservations, by which lunfs fences a dead host. A reservation that stands is never
 * touched. Where nothing is reserved, a key is registered and taken away again. On a device that is
 * nobody's (--destructive), the whole of a fencing is played through between two sessions: who is
 * registered writes, who is not or was preempted does not, and reads always pass.
 *
 * What is refused is a plain write. Linux's own target (LIO, seen on kernel 6.1) gives its one
 * semaphore of COMPARE AND WRITE back once more than it was taken when such a command is refused,
 * or meets a unit attention: from then on two run at once. So no session of this check that may
 * have a unit attention waiting, or be refused, sends one, unless that is asked for (.provoke).
 */
#include "check/check_impl.h"

#define TRIES_AGAIN 20u
#define NAP_NS (50 * MS_NS)

struct pr_try {
	struct check *c;
	struct check_result *r;
	uint64_t key[2]; /* of sessions 0 and 1 while registered */
	struct dev_pr_state st;
	uint8_t *buf;
	bool provoked; /* a COMPARE AND WRITE was refused */
};

static struct dev *dev_of(struct pr_try *t, unsigned s)
{
	return t->c->s[s].dev;
}

static const struct dev_pr_ops *ops(struct pr_try *t)
{
	return dev_of(t, 0)->ops->pr;
}

static bool again(struct pr_try *t, int rc, unsigned *tries)
{
	if ((rc != -EAGAIN && rc != -ETIMEDOUT) || ++*tries >= TRIES_AGAIN || check_over(t->c))
		return false;
	check_nap(t->c, NAP_NS);
	return true;
}

static int read_state(struct pr_try *t)
{
	unsigned tries = 0;
	int rc;

	do {
		rc = ops(t)->read_state(dev_of(t, 0), &t->st);
	} while (again(t, rc, &tries));
	return rc;
}

static int register_key(struct pr_try *t, unsigned s, uint64_t key)
{
	unsigned tries = 0;
	int rc;

	do {
		rc = ops(t)->register_key(dev_of(t, s), t->key[s], key);
		if (rc == -EBADE && tries) /* the one before, without an answer, has landed */
			rc = 0;
	} while (again(t, rc, &tries));
	if (!rc)
		t->key[s] = key;
	return rc;
}

static size_t count_key(const struct pr_try *t, uint64_t key)
{
	size_t n = 0;

	for (size_t i = 0; i < t->st.nkeys && i < DEV_PR_KEYS_MAX; i++)
		n += t->st.keys[i] == key;
	return n;
}

/* A step that had to end with @want. */
static bool step(struct pr_try *t, const char *what, int rc, int want)
{
	if (rc == want)
		return true;
	if (want == -EBADE && rc == 0) {
		result_say(t->r, CHECK_BAD, "%s was let through: the device does not fence.", what);
		result_advise(t->r,
			      "Mount with fence=timer or fence=watchdog, and only where hosts "
			      "cannot be paused; or look for a firmware that is sound.");
	} else {
		result_say(t->r, CHECK_LIMIT, "%s fails: %s. Reservations cannot be used to fence.",
			   what, rc ? io_error(rc) : "no conflict was reported");
		result_advise(t->r, "Fencing will be by timer; see mount.lunfs(8), option fence.");
	}
	return false;
}

/* ---- the short form -------------------------------------------------------------------------- */

/* The session's own temporary key shows as much as another one would. */
static bool try_key(struct pr_try *t)
{
	uint64_t key = t->c->s[0].pr.key;
	bool ok;
	int rc = 0;

	if (!key) {
		key = check_random(t->c);
		rc = register_key(t, 0, key);
	}
	if (rc == -EBADE) {
		result_say(t->r, CHECK_NOTE,
			   "This machine's path is registered already, with another program's key; "
			   "nothing more was tried.");
		return false;
	}
	ok = step(t, "Registering a key", rc, 0) && step(t, "Reading the keys", read_state(t), 0);
	if (ok && !count_key(t, key)) {
		result_say(t->r, CHECK_LIMIT,
			   "A key that was registered is not among those that "
			   "the device shows: it cannot be used to fence.");
		result_advise(t->r, "Fencing will be by timer; see mount.lunfs(8), option fence.");
		ok = false;
	}
	return ok;
}

static void drop_keys(struct pr_try *t)
{
	for (unsigned s = 2; s-- > 0;)
		if (t->key[s])
			register_key(t, s, 0);
}

/* ---- the whole of a fencing ------------------------------------------------------------------ */

static int write_by(struct pr_try *t, unsigned s)
{
	return dev_write(dev_of(t, s), own_off(t->c, OWN_LATENCY), CELL_BYTES, t->buf);
}

static int caw_by(struct pr_try *t, unsigned s)
{
	int rc;

	memset(t->buf, 0x5a, CELL_BYTES);
	rc = dev_caw(dev_of(t, s), own_off(t->c, OWN_LATENCY), t->buf, t->buf);
	return rc > 0 ? 0 : rc; /* it was let through, whatever stood there */
}

static bool fence_other(struct pr_try *t)
{
	uint64_t victim = t->key[1];
	int rc = ops(t)->preempt_abort(dev_of(t, 0), t->key[0], victim);

	if (!step(t, "PREEMPT AND ABORT", rc, 0))
		return false;
	t->key[1] = 0;
	if (!step(t, "Reading the keys", read_state(t), 0))
		return false;
	if (count_key(t, victim) || !t->st.reserved) {
		result_say(t->r, CHECK_BAD,
			   "After PREEMPT AND ABORT the key is still there, or the "
			   "reservation is gone: the device does not fence.");
		return false;
	}
	return step(t, "A write by a session that was preempted", write_by(t, 1), -EBADE) &&
	       (!t->c->cfg.provoke || step(t, "A COMPARE AND WRITE by a session that was preempted",
					   caw_by(t, 1), -EBADE)) &&
	       step(t, "A read by a session that was preempted",
		    dev_read(dev_of(t, 1), own_off(t->c, OWN_LATENCY), CELL_BYTES, t->buf), 0);
}

static bool try_fencing(struct pr_try *t)
{
	return step(t, "Reserving (Write Exclusive, All Registrants)",
		    ops(t)->reserve(dev_of(t, 0), t->key[0]), 0) &&
	       step(t, "A write by a session that is not registered", write_by(t, 1), -EBADE) &&
	       step(t, "Registering a second session", register_key(t, 1, check_random(t->c)), 0) &&
	       step(t, "A write by a registered session", write_by(t, 1), 0) &&
	       step(t, "A COMPARE AND WRITE by a registered session", caw_by(t, 1), 0) &&
	       fence_other(t);
}

/* Is the second session another nexus? Without that nothing can be refused to it. */
static bool own_nexus(struct pr_try *t)
{
	int rc;

	if (t->c->sessions < 2 || dev_of(t, 0)->id.kind == DEV_KIND_SG)
		return false;
	rc = register_key(t, 1, check_random(t->c));
	return rc == 0 && register_key(t, 1, 0) == 0;
}

/* Does another check beat? (A record that stands still is left over.) */
static bool others_here(struct check *c)
{
	struct member before[MEMBERS], now[MEMBERS];
	unsigned n = 0;

	if (members_read(c, before))
		return true;
	check_nap(c, 3 * MEMBER_BEAT_NS);
	if (members_read(c, now))
		return true;
	for (unsigned i = 0; i < MEMBERS; i++)
		n += i != c->cell && now[i].nonce && now[i].nonce != c->run &&
		     (now[i].nonce != before[i].nonce || now[i].beat != before[i].beat);
	return n != 0;
}

/* ---- */

static void try_free(struct pr_try *t)
{
	struct check *c = t->c;
	bool ok = try_key(t), full = false;

	if (ok && c->cfg.destructive && t->key[0] && c->joined && !c->no_caw && !others_here(c) &&
	    own_nexus(t)) {
		full = true;
		ok = try_fencing(t);
		t->provoked = ok && c->cfg.provoke;
	}
	drop_keys(t);
	if (!ok)
		return;
	result_value(t->r, "fencing_tried", full);
	result_say(
	    t->r, CHECK_OK, "%s",
	    full ? "Persistent reservations work and fence: a session that is not registered, "
		   "or was preempted, can read and cannot write."
		 : "Persistent reservations can be had (type 7, kept through a power loss), "
		   "and a key could be registered.");
}

static void say_reserved(struct pr_try *t)
{
	result_value(t->r, "keys", t->st.nkeys);
	result_value(t->r, "type", t->st.type);
	if (t->st.type == DEV_PR_TYPE_WE_AR) {
		result_say(t->r, CHECK_OK, "Persistent reservations are in use: type 7, %zu keys.",
			   t->st.nkeys);
		return;
	}
	result_say(t->r, CHECK_BAD, "The device is reserved by other software (type %u, %zu keys).",
		   t->st.type, t->st.nkeys);
	result_advise(t->r, "No other cluster software may use the same device; if that is a "
			    "left-over, take it away by sg_persist(8).");
}

static void say_none(struct pr_try *t, const char *why)
{
	const struct disk_facts *f = &t->c->facts.disk;
	bool one = dev_of(t, 0)->id.one_machine;
	unsigned longest_s = 0;

	for (unsigned i = 0; i < f->paths; i++)
		longest_s = f->path[i].timeout_s > longest_s ? f->path[i].timeout_s : longest_s;
	result_say(t->r, one ? CHECK_NOTE : CHECK_LIMIT,
		   "No persistent reservations to fence with: %s",
		   why[0] ? why : "the device does not have them.");
	if (!one && longest_s * 1000 > t->c->cfg.deadline_ms)
		result_advise(
		    t->r,
		    "Fencing will be by timer: a host that is paused and goes on may write "
		    "late, and so may the kernel, which gives a command %u s. Set that below "
		    "the I/O deadline of %u ms (/sys/block/.../device/timeout), switch "
		    "reservations on at the array, or mount with fence=watchdog.",
		    longest_s, t->c->cfg.deadline_ms);
	else if (!one)
		result_advise(t->r,
			      "Fencing will be by timer: a host that is paused and goes on may "
			      "write late. Switch reservations on at the array, or mount with "
			      "fence=watchdog.");
}

static void try_reservations(struct pr_try *t)
{
	char why[WHY_BYTES] = "";
	int rc;

	if (!ops(t)) {
		say_none(t, "");
		return;
	}
	rc = ops(t)->probe(dev_of(t, 0), why, sizeof(why));
	if (rc) {
		say_none(t, why);
		return;
	}
	rc = read_state(t);
	if (rc)
		step(t, "Reading the keys", rc, 0);
	else if (t->st.reserved)
		say_reserved(t);
	else if (t->c->cfg.may_write)
		try_free(t);
	else
		result_say(
		    t->r, CHECK_NOTE,
		    "The device claims persistent reservations of type 7; nothing is reserved "
		    "now.");
}

static void say_not_provoked(struct check *c)
{
	struct check_result r;

	result_init(&r, "atomic-after-refusal");
	result_say(&r, CHECK_SKIPPED,
		   "No COMPARE AND WRITE could be refused: that takes two sessions that the device "
		   "tells apart (iscsi://), on a device with persistent reservations.");
	result_add(c, &r);
}

void test_reservations(struct check *c)
{
	struct pr_try t = {.c = c};
	struct check_result r;

	result_init(&r, "reservations");
	check_progress(c, "persistent reservations", 92);
	if (check_over(c)) {
		result_excused(c, &r);
		result_add(c, &r);
		return;
	}
	t.r = &r;
	t.st.keys = calloc(DEV_PR_KEYS_MAX, sizeof(*t.st.keys));
	lunfs_assert(t.st.keys);
	t.buf = dev_buf_alloc(CELL_BYTES);
	memset(t.buf, 0x5a, CELL_BYTES); /* with zeroes to compare, a refusal can crash LIO */
	try_reservations(&t);
	free(t.st.keys);
	free(t.buf);
	result_add(c, &r);
	if (t.provoked)
		test_atomic_again(c);
	else if (c->cfg.provoke)
		say_not_provoked(c);
}
