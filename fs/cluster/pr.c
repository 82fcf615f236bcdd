/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fencing by persistent reservations (DESIGN section 5). What it promises:
 *
 * - Nothing of an incarnation is written before its nonce is registered as the key and the device
 *   is reserved (type 7: who is not registered cannot write).
 * - A dead host is fenced when its key is seen to be absent and the reservation to stand, while
 *   this host was registered without a break (h->pr_epoch): then nothing of the dead lands any
 *   more. An answer of PREEMPT proves nothing by itself; what READ KEYS shows counts.
 * - A registration that got lost is made anew only after a read has shown this host's own live
 *   image in its slot, and when none of its writes is on its way; the beat that follows, before any
 *   other write, tells whether that was still true.
 *
 * Runs on the claiming caller, the beat thread and the recovery thread; no mutex is held.
 */
#include "cluster/pr.h"

#include "cluster/host_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TELL_FAILURES 8u
#define DEFAULT_DEADLINE_MS 8000u

struct pr_view { /* READ KEYS and READ RESERVATION */
	struct dev_pr_state st;
	uint64_t keys[DEV_PR_KEYS_MAX];
};

static const struct dev_pr_ops *pr_of(const struct dev *d)
{
	return d->ops->pr;
}

/* NULL and *@err when they cannot be read; the caller frees. */
static struct pr_view *view_read(struct dev *d, int *err)
{
	struct pr_view *v = calloc(1, sizeof(*v));

	lunfs_assert(v);
	v->st.keys = v->keys;
	*err = pr_of(d)->read_state(d, &v->st);
	if (!*err && v->st.nkeys > DEV_PR_KEYS_MAX)
		*err = -EOVERFLOW;
	if (!*err)
		return v;
	free(v);
	return NULL;
}

/* ---- commands that may be sent again --------------------------------------------------------- */

struct again { /* one command, until it was executed */
	struct clock *clk;
	uint64_t until_ns;
	uint64_t nap_ns;
	bool unknown; /* one without an answer may have landed */
};

static struct again again_begin(struct dev *d, struct clock *clk)
{
	uint64_t bound = (d->deadline_ms ? d->deadline_ms : DEFAULT_DEADLINE_MS) * MS_NS;

	return (struct again){
	    .clk = clk, .until_ns = clock_now_ns(clk) + 2 * bound, .nap_ns = MS_NS};
}

/* @r calls for another try, and there is time for one. */
static bool again(struct again *a, int r)
{
	if (r == -ETIMEDOUT)
		a->unknown = true;
	if ((r != -ETIMEDOUT && r != -EAGAIN) || clock_now_ns(a->clk) >= a->until_ns)
		return false;
	clock_sleep_ns(a->clk, a->nap_ns);
	a->nap_ns = a->nap_ns < 64 * MS_NS ? 2 * a->nap_ns : a->nap_ns;
	return true;
}

/* As register_key(). A command without an answer may have landed: then the key is there already. */
static int register_surely(struct dev *d, struct clock *clk, uint64_t old, uint64_t key)
{
	struct again a = again_begin(d, clk);
	int r;

	do {
		r = pr_of(d)->register_key(d, old, key);
		if (r == -EBADE && a.unknown)
			r = key ? pr_of(d)->register_key(d, key, key) : 0;
	} while (again(&a, r));
	return r;
}

/* @cmd: one that changes nothing when it lands again. */
static int send_surely(struct dev *d, struct clock *clk, int (*cmd)(struct dev *d, uint64_t key),
		       uint64_t key)
{
	struct again a = again_begin(d, clk);
	int r;

	do {
		r = cmd(d, key);
	} while (again(&a, r));
	return r;
}

/* ---- what stands there ----------------------------------------------------------------------- */

static bool has_key(const struct pr_view *v, uint64_t key)
{
	for (size_t i = 0; key && i < v->st.nkeys; i++)
		if (v->keys[i] == key)
			return true;
	return false;
}

static bool is_type_7(const struct pr_view *v)
{
	return v->st.reserved && v->st.type == DEV_PR_TYPE_WE_AR;
}

static uint64_t random_key(struct clock *clk)
{
	uint64_t key = 0;

	while (!key)
		clk->ops->random(clk, &key, sizeof(key));
	return key;
}

/* ---- before the claim ------------------------------------------------------------------------ */

static bool same_id(const uint8_t a[16], const uint8_t b[16])
{
	return !mem_is_zero(a, 16) && !memcmp(a, b, 16);
}

static bool same_machine(const struct host *h, const struct host_info *hi)
{
	return same_id(h->self.machine_id, hi->machine_id) || same_id(h->self.boot_id, hi->boot_id);
}

static bool other_boot(const struct host *h, const struct host_info *hi)
{
	return memcmp(h->self.boot_id, hi->boot_id, sizeof(hi->boot_id)) != 0;
}

/* That incarnation of this machine writes no more: it is over, or its process is gone. */
static bool ended_here(struct host *h, const struct slot_seen *s)
{
	if (!s->valid || s->damaged || !s->hi.generation || !same_machine(h, &s->hi))
		return false;
	if (s->hi.state != LUNFS_SLOT_LIVE)
		return true;
	return slot_owner_proven_gone(&s->hi) || (other_boot(h, &s->hi) && watch_dead(h, s));
}

const struct host_info *pr_old_process(struct host *h, struct slot_seen *s)
{
	if (h->env.dev->id.kind != DEV_KIND_SG)
		return NULL; /* each process has a nexus of its own */
	for (unsigned i = 0; i < h->n; i++) {
		watch_get(h, i, s);
		if (s->valid && s->hi.state != LUNFS_SLOT_LIVE && !watch_ended_cleanly(s) &&
		    fence_old_process(h, &s->hi))
			return &s->hi;
	}
	return NULL;
}

/*
 * What an earlier life of this machine sent may still be on its way along the same path. Only its
 * own clean end proves that there is nothing; that no slot names this machine may also mean that
 * others have its slots by now, so that is drained as well, where it can be.
 */
static int drain_old(struct host *h, char *why, size_t why_len)
{
	struct dev *d = h->env.dev;
	bool known = false, unclean = false;
	int r;

	for (unsigned i = 0; i < h->n; i++) {
		struct slot_seen s;

		watch_get(h, i, &s);
		if (!ended_here(h, &s))
			continue;
		known = true;
		unclean = unclean || !watch_ended_cleanly(&s);
	}
	if (known && !unclean)
		return 0;
	r = dev_drain(d);
	if (r == -EOPNOTSUPP && !unclean)
		return 0;
	if (r)
		snprintf(why, why_len,
			 "It cannot be proven that no write of an earlier mount of this machine is "
			 "still on its way to %s (error %d)",
			 d->id.name, r);
	return r;
}

/* A key that an ended incarnation of this very machine left on this path is replaced. */
static int replace_left_over(struct host *h)
{
	struct dev *d = h->env.dev;
	int r = -EBADE;

	for (unsigned i = 0; i < h->n && r == -EBADE; i++) {
		struct slot_seen s;

		watch_get(h, i, &s);
		if (!s.hi.nonce || !ended_here(h, &s))
			continue;
		r = register_surely(d, h->env.clk, s.hi.nonce, h->nonce);
		if (!r)
			log_info("pr-key-replaced",
				 "The reservation key %016llx, which the earlier mount in slot %u "
				 "left on %s, was replaced.",
				 (unsigned long long)s.hi.nonce, i, d->id.name);
	}
	return r;
}

/* 0: @key is gone. This machine is registered with @own. */
static int preempt_surely(struct host *h, uint64_t own, uint64_t key)
{
	struct dev *d = h->env.dev;
	struct again a = again_begin(d, h->env.clk);
	struct pr_view *v;
	int r;

	do {
		r = pr_of(d)->preempt_abort(d, own, key);
	} while (again(&a, r));
	if (r && r != -EBADE)
		return r;
	v = view_read(d, &r);
	if (v && has_key(v, key))
		r = -EBADE;
	free(v);
	return r;
}

/* Where a machine could not do that itself when it left (unregister()). */
static int take_off_left_over(struct host *h)
{
	struct pr_view *v;
	int r;

	v = view_read(h->env.dev, &r);
	for (unsigned i = 0; !r && i < h->n; i++) {
		struct slot_seen s;

		watch_get(h, i, &s);
		if (s.hi.state != LUNFS_SLOT_FREE || !ended_here(h, &s) || !has_key(v, s.hi.nonce))
			continue;
		r = preempt_surely(h, h->nonce, s.hi.nonce);
		if (!r)
			log_info("pr-key-taken-off",
				 "The reservation key %016llx, which the earlier mount in slot %u "
				 "left on another path to %s, was taken off.",
				 (unsigned long long)s.hi.nonce, i, h->env.dev->id.name);
	}
	free(v);
	return r;
}

/* The key is registered. */
static int joined(struct host *h, char *why, size_t why_len)
{
	struct dev *d = h->env.dev;
	int r = take_off_left_over(h);

	if (!r) {
		h->pr_key = h->nonce;
		return 0;
	}
	register_surely(d, h->env.clk, h->nonce, 0);
	snprintf(
	    why, why_len,
	    "A reservation key that an earlier mount here left on another path to %s cannot be "
	    "taken off (error %d); look at the device and its reservations",
	    d->id.name, r);
	return r;
}

int pr_join(struct host *h, char *why, size_t why_len)
{
	struct dev *d = h->env.dev;
	char reason[256] = "";
	int r;

	if (!pr_of(d)) {
		snprintf(why, why_len, "%s has no persistent reservations", d->id.name);
		return -EOPNOTSUPP;
	}
	r = pr_of(d)->probe(d, reason, sizeof(reason));
	if (r) {
		snprintf(why, why_len, "%s cannot be fenced by persistent reservations: %s",
			 d->id.name, reason[0] ? reason : strerror(-r));
		return r;
	}
	r = drain_old(h, why, why_len);
	if (r)
		return r;
	h->nonce = random_key(h->env.clk);
	r = register_surely(d, h->env.clk, 0, h->nonce);
	if (r == -EBADE)
		r = replace_left_over(h);
	if (r == -EBADE)
		snprintf(why, why_len,
			 "This machine's path to %s is registered with a key that is not left over "
			 "from an earlier mount here: another program or host uses the same path. "
			 "Stop it; a key that nobody needs goes by lunfs clear-keys, or sg_persist",
			 d->id.name);
	else if (r)
		snprintf(why, why_len, "A reservation key cannot be registered with %s (error %d)",
			 d->id.name, r);
	return r ? r : joined(h, why, why_len);
}

int pr_refused(struct host *h, char *why, size_t why_len)
{
	struct dev *d = h->env.dev;
	struct pr_view *v;
	bool reserved;
	int r;

	v = pr_of(d) ? view_read(d, &r) : NULL;
	if (!v) /* a device that does not know the question is not reserved */
		return 0;
	reserved = v->st.reserved;
	if (reserved)
		snprintf(why, why_len,
			 "%s is reserved (type %u, %zu keys), so that only registered hosts can "
			 "write to it",
			 d->id.name, v->st.type, v->st.nkeys);
	free(v);
	return reserved ? -EBUSY : 0;
}

/* ---- after the claim, and the end ------------------------------------------------------------ */

int pr_reserve(struct host *h, char *why, size_t why_len)
{
	struct dev *d = h->env.dev;
	struct pr_view *v;
	int r = send_surely(d, h->env.clk, pr_of(d)->reserve, h->pr_key);

	v = r && r != -EBADE ? NULL : view_read(d, &r);
	if (!v) {
		snprintf(why, why_len, "%s cannot be reserved (error %d)", d->id.name, r);
		return r;
	}
	if (!is_type_7(v) || !has_key(v, h->pr_key)) {
		r = -EBADE;
		if (v->st.reserved && !is_type_7(v))
			snprintf(why, why_len,
				 "%s is reserved by somebody else (type %u); no other cluster "
				 "software may use the same device",
				 d->id.name, v->st.type);
		else
			snprintf(why, why_len,
				 "%s does not show the reservation or the key that this host has "
				 "just set",
				 d->id.name);
	}
	free(v);
	return r;
}

/*
 * A host that was fenced and has not come back may be a paused machine. It is shut out only for as
 * long as the reservation stands, which goes with the last registrant. So while no other host is
 * there to keep it up, the key stays. Two that leave at once both see nobody else, and both stay.
 */
static bool must_stay(struct host *h)
{
	bool fenced = false;

	if (watch_read_table(h))
		return true;
	for (unsigned i = 0; i < h->n; i++) {
		struct slot_seen s;

		watch_get(h, i, &s);
		if (i == h->slot || !s.valid || !s.hi.generation)
			continue;
		if (s.hi.state != LUNFS_SLOT_FREE)
			return false;
		fenced = fenced || !watch_ended_cleanly(&s);
	}
	return fenced;
}

/* Our key is on no path that this machine has; is it on one that is away? */
static int take_off_elsewhere(struct host *h)
{
	struct dev *d = h->env.dev;
	struct clock *clk = h->env.clk;
	uint64_t key = random_key(clk);
	struct pr_view *v;
	bool there;
	int r, end;

	v = view_read(d, &r);
	if (!v)
		return r;
	there = has_key(v, h->pr_key);
	free(v);
	if (!there)
		return 0;
	r = register_surely(d, clk, 0, key);
	if (r)
		return r;
	r = preempt_surely(h, key, h->pr_key);
	end = register_surely(d, clk, key, 0);
	return r ? r : end;
}

/*
 * The device keeps the key of a path that is away. No fence looks for that one once we have left,
 * so what comes along that path one day would get past all of them.
 */
static int unregister(struct host *h)
{
	int r = register_surely(h->env.dev, h->env.clk, h->pr_key, 0);

	return r && r != -EBADE ? r : take_off_elsewhere(h);
}

void pr_leave(struct host *h)
{
	struct dev *d = h->env.dev;
	int r;

	if (!h->pr_key)
		return;
	if (must_stay(h)) {
		log_info("pr-key-stays",
			 "Host %s is the last to leave %s, and a host that was fenced has not come "
			 "back since: the reservation stays, so that it cannot write should it "
			 "only have been paused. The next mount here, mkfs.lunfs or lunfs "
			 "clear-keys takes the key away.",
			 h->cfg.name, d->id.name);
		return;
	}
	r = unregister(h);
	if (r)
		log_warn("pr-key-left",
			 "The reservation key %016llx of host %s could not be taken off %s (error "
			 "%d); the next mount of this machine replaces it.",
			 (unsigned long long)h->pr_key, h->cfg.name, d->id.name, r);
}

/* ---- fencing others -------------------------------------------------------------------------- */

/* 0: the reservation stands, this host is registered and @victim is not. */
static int judge_fenced(struct host *h, uint64_t victim, const char **what)
{
	struct pr_view *v;
	int r;

	*what = "the keys cannot be read";
	v = view_read(h->env.dev, &r);
	if (!v)
		return r;
	if (!has_key(v, h->pr_key)) {
		*what = "this host's own registration is gone";
		r = -EBADE;
	} else if (!is_type_7(v)) {
		*what = "the reservation is gone";
		r = -EBADE;
	} else if (has_key(v, victim)) {
		*what = "the device still shows its key";
		r = -EAGAIN;
	}
	free(v);
	if (r == -EBADE)
		host_conflict(h); /* the beat thread puts it right */
	return r;
}

int pr_fence(struct host *h, const struct host_info *dead, unsigned failures)
{
	struct dev *d = h->env.dev;
	const char *what = "the device refused PREEMPT AND ABORT";
	char name[HOST_LABEL_BYTES];
	int r = pr_of(d)->preempt_abort(d, h->pr_key, dead->nonce);
	bool was_there = !r;

	if (!r || r == -EBADE)
		r = judge_fenced(h, dead->nonce, &what);
	if (!r) {
		log_warn("host-fenced",
			 "%s is fenced: %s refuses its writes, its reservation key %016llx %s.",
			 host_label(dead, name), d->id.name, (unsigned long long)dead->nonce,
			 was_there ? "was preempted" : "was gone already");
		return 0;
	}
	if (failures % TELL_FAILURES == 0)
		log_err("host-fence-failed",
			"%s cannot be fenced on %s yet: %s (error %d). It is tried again; until "
			"then what that host had locked stays locked. Look at the device and its "
			"reservations.",
			host_label(dead, name), d->id.name, what, r);
	return r;
}

int pr_fenced_still(struct host *h, const struct host_info *dead)
{
	const char *what;
	char name[HOST_LABEL_BYTES];
	int r = judge_fenced(h, dead->nonce, &what);

	if (r)
		log_warn("host-fence-gone",
			 "After the replay for %s it is not fenced on %s any more: %s (error %d); "
			 "it is fenced and replayed again.",
			 host_label(dead, name), h->env.dev->id.name, what, r);
	return r;
}

/* ---- a registration that got lost ------------------------------------------------------------ */

bool pr_intact(struct host *h)
{
	struct pr_view *v;
	bool ok;
	int r;

	v = view_read(h->env.dev, &r);
	if (!v)
		return true; /* a failed read proves nothing */
	ok = has_key(v, h->pr_key) && is_type_7(v);
	free(v);
	return ok;
}

static int restore_failed(struct host *h, const char *what, int r)
{
	if (h->pr_failures++ % TELL_FAILURES == 0)
		log_err("pr-restore-failed",
			"%s refuses the writes of host %s (slot %u), and %s (error %d). Nothing is "
			"written until that is put right; it is tried again.",
			h->env.dev->id.name, h->cfg.name, h->slot, what, r);
	return -EAGAIN;
}

/*
 * @partly: some path has the key, and keeps it, since with the last registration the reservation
 * would go, and with that what keeps out a host that was fenced and is only paused.
 */
static int register_anew(struct host *h, bool partly)
{
	struct dev *d = h->env.dev;
	int r;

	if (atomic_load(&h->writing)) /* the gate is closed since h->conflict was set */
		return restore_failed(h, "earlier writes of it have not come back", -EBUSY);
	r = dev_drain(d);
	if (r == -EOPNOTSUPP) {
		host_set_lost(h, "its registration with the device is gone, and the device cannot "
				 "prove that earlier writes of this host are out of the way");
		return -EIO;
	}
	if (r)
		return restore_failed(h, "it does not say what has become of earlier writes", r);
	r = partly ? send_surely(d, h->env.clk, pr_of(d)->register_anyway, h->pr_key)
		   : register_surely(d, h->env.clk, 0, h->pr_key);
	return r ? restore_failed(h, "this host cannot register again", r) : 0;
}

static int reserve_anew(struct host *h)
{
	char why[256];
	int r = pr_reserve(h, why, sizeof(why));

	if (r)
		return restore_failed(h, why, r);
	mtx_lock(&h->mtx);
	h->pr_epoch++;
	mtx_unlock(&h->mtx);
	return 0;
}

int pr_restore(struct host *h)
{
	uint64_t now = host_now(h);
	bool again = h->pr_restored_ns && now - h->pr_restored_ns < h->cfg.lease_ms * MS_NS;
	struct pr_view *v;
	bool own, type_7;
	int r;

	v = view_read(h->env.dev, &r);
	if (!v)
		return restore_failed(h, "the keys cannot be read", r);
	own = has_key(v, h->pr_key);
	type_7 = is_type_7(v);
	r = own && !again ? 0 : register_anew(h, own);
	free(v);
	if (!r && !(own && type_7 && !again))
		r = reserve_anew(h);
	if (r)
		return r;
	h->pr_restored_ns = now | 1;
	h->pr_failures = 0;
	if (!own || !type_7)
		log_warn("pr-restored",
			 "The %s of host %s (slot %u) on %s was gone although nobody had taken its "
			 "slot (a reset of the target, or another program?): it was made anew.",
			 own ? "reservation" : "registration", h->cfg.name, h->slot,
			 h->env.dev->id.name);
	return 0;
}

/* ---- tools ----------------------------------------------------------------------------------- */

static int temporary_register(struct pr_temporary *t, uint64_t old, uint64_t key)
{
	int r = register_surely(t->dev, t->clk, old, key);

	if (!r)
		t->key = key;
	return r;
}

static int temporary_failed(const struct pr_temporary *t, const struct pr_view *v, int r, char *why,
			    size_t why_len)
{
	if (!v->st.reserved)
		return 0; /* nobody keeps it from writing */
	snprintf(why, why_len,
		 "%s is reserved for registered hosts, and this machine cannot register with it "
		 "(error %d).",
		 t->dev->id.name, r);
	return -EOPNOTSUPP;
}

static int temporary_type(const struct pr_temporary *t, const struct pr_view *v, char *why,
			  size_t why_len)
{
	if (!v->st.reserved || is_type_7(v))
		return 0;
	snprintf(why, why_len,
		 "%s is reserved by other software (type %u); if that is a left-over, take it away "
		 "by sg_persist(8).",
		 t->dev->id.name, v->st.type);
	return -EBUSY;
}

/* NULL: nothing can be reserved here. */
static struct pr_view *temporary_open(struct pr_temporary *t, struct dev *d, struct clock *clk)
{
	struct again a = again_begin(d, clk);
	struct pr_view *v = NULL;
	int r = -EOPNOTSUPP;

	*t = (struct pr_temporary){.dev = d, .clk = clk};
	if (!pr_of(d))
		return NULL;
	do {
		v = view_read(d, &r);
	} while (!v && again(&a, r));
	return v;
}

int pr_temporary_begin(struct pr_temporary *t, struct dev *d, struct clock *clk, char *why,
		       size_t why_len)
{
	struct pr_view *v = temporary_open(t, d, clk);
	int r;

	if (!v)
		return 0;
	r = temporary_type(t, v, why, why_len);
	if (!r) {
		r = temporary_register(t, 0, random_key(clk));
		r = r && r != -EBADE ? temporary_failed(t, v, r, why, why_len) : 0;
	}
	free(v);
	return r;
}

/* Each key may stand for several paths; one is enough. */
static int preempt_all(struct pr_temporary *t, const struct pr_view *v, char *why, size_t why_len)
{
	struct again a = again_begin(t->dev, t->clk);
	int r = 0;

	for (size_t i = 0; i < v->st.nkeys && (!r || r == -EBADE); i++) {
		if (!v->keys[i] || v->keys[i] == t->key)
			continue;
		do {
			r = pr_of(t->dev)->preempt_abort(t->dev, t->key, v->keys[i]);
		} while (again(&a, r));
	}
	if (!r || r == -EBADE)
		return 0;
	snprintf(why, why_len,
		 "The keys that dead hosts left on %s cannot be preempted (error %d).",
		 t->dev->id.name, r);
	return r;
}

static int take_over(struct pr_temporary *t, const struct pr_view *v, char *why, size_t why_len)
{
	uint64_t key = random_key(t->clk);
	int r = temporary_register(t, 0, key);

	for (size_t i = 0; i < v->st.nkeys && r == -EBADE; i++)
		if (v->keys[i])
			r = temporary_register(t, v->keys[i], key);
	if (r)
		return temporary_failed(t, v, r, why, why_len);
	return v->st.reserved ? preempt_all(t, v, why, why_len) : 0;
}

int pr_temporary_take(struct pr_temporary *t, struct dev *d, struct clock *clk, char *why,
		      size_t why_len)
{
	struct pr_view *v = temporary_open(t, d, clk);
	int r;

	if (!v)
		return 0;
	r = temporary_type(t, v, why, why_len);
	if (!r)
		r = take_over(t, v, why, why_len);
	free(v);
	if (r)
		pr_temporary_end(t);
	return r;
}

void pr_temporary_end(struct pr_temporary *t)
{
	if (!t->key)
		return;
	register_surely(t->dev, t->clk, t->key, 0);
	t->key = 0;
}
