/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame that every operation runs in (fs/LOCKING.md, "Order"): the volume lock, then the rename
 * lock where it is needed, then inodes in ascending order of their addresses. The first round pins
 * what is known; what is learned on the way is waited for if it lies above all that is pinned, else
 * tried, and on failure everything is let go and pinned again in order. Allocator locks are waited
 * for with nothing pinned. Every loop here has a bound.
 */
#include "vol/vol_impl.h"

#define OP_ROUNDS_MAX 1000u /* starts over: names that change under us, each time */
#define OP_WAITS_MAX 64u    /* allocator locks waited for */
#define ROOM_WAIT_NS (5ull * 1000 * 1000 * 1000)
#define CALM_WAITS 4u	   /* allocator locks waited for before hosts get out of each other's way */
#define CALM_SHIFT_MAX 8u  /* then a random part of this many doublings ... */
#define CALM_NS 4000000ull /* ... of this */

int vol_check_name(const char *name)
{
	size_t len = strlen(name);

	if (len == 0)
		return -ENOENT;
	if (len > LUNFS_NAME_MAX)
		return -ENAMETOOLONG;
	return strchr(name, '/') ? -EINVAL : 0;
}

void op_init(struct op *o, struct volume *v, const struct op_ctx *c)
{
	o->v = v;
	o->c = c;
	o->pin_flags = 0;
	o->rename = o->reading = o->made_room = o->part_fits = o->goes_on = o->prompt = false;
	o->vlock = o->rlock = NULL;
	o->n = o->round = o->waits = 0;
	o->top = o->want = o->waited = 0;
	o->first = NULL;
}

static struct opn *find(struct op *o, uint64_t addr)
{
	for (unsigned k = 0; k < o->n; k++)
		if (o->e[k].addr == addr)
			return &o->e[k];
	return NULL;
}

static struct opn *add(struct op *o, uint64_t addr, enum lock_mode mode, enum lock_local local)
{
	struct opn *e;

	lunfs_assert(o->n < OP_NODES);
	e = &o->e[o->n++];
	e->addr = addr;
	e->mode = mode;
	e->local = local;
	e->l = NULL;
	e->loaded = e->parked = false;
	e->round = o->round;
	return e;
}

static bool ino_ok(const struct volume *v, uint64_t ino)
{
	return cell_addr_ok(&v->geo, ino) && blk_range_ok(&v->geo, ino, v->geo.cell_blks);
}

void op_plan(struct op *o, uint64_t ino, enum lock_mode mode, enum lock_local local)
{
	struct opn *e = find(o, ino);

	if (!ino_ok(o->v, ino))
		return; /* op_get() will say so */
	if (!e)
		e = add(o, ino, mode, local);
	if (mode > e->mode)
		e->mode = mode;
	if (local > e->local)
		e->local = local;
}

/* ---- pins ------------------------------------------------------------------------------------ */

static struct lock_intr *intr_of(const struct op *o)
{
	return o->c ? o->c->intr : NULL;
}

static void mark_admitted(const struct op *o, bool admitted)
{
	if (o->c && o->c->admitted)
		atomic_store(o->c->admitted, admitted);
}

static int pin(struct op *o, struct opn *e, unsigned flags)
{
	int rc = lock_pin(o->v->locks, e->addr, e->mode, e->local, flags | o->pin_flags, intr_of(o),
			  &e->l);

	if (rc) {
		e->l = NULL;
		return rc;
	}
	if (e->addr > o->top)
		o->top = e->addr;
	mark_admitted(o, true);
	return 0;
}

/* The volume lock was away: somebody may have changed the superblock. */
static int reread_super(struct volume *v)
{
	struct geo g;
	bool copy;
	char why[256];
	int rc = 0;

	mtx_lock(&v->super_mtx);
	if (atomic_load(&v->super_stale)) {
		rc = vol_read_super(v->env.dev, &g, &copy, why, sizeof(why));
		if (rc == 0 && memcmp(g.vol_id, v->geo.vol_id, sizeof(g.vol_id)) != 0)
			rc = -EIO;
		if (rc == 0 && g.sb_seq != v->geo.sb_seq)
			v->geo = g;
		if (rc == 0)
			atomic_store(&v->super_stale, false);
		else
			log_err("superblock", "The superblock cannot be read again: %s.", why);
	}
	mtx_unlock(&v->super_mtx);
	return rc;
}

static int pin_volume(struct op *o)
{
	struct volume *v = o->v;
	unsigned flags = o->pin_flags | (o->prompt ? LOCK_TRY | LOCK_CACHED : 0);
	int rc;

	rc = lock_pin(v->locks, geo_anchor_cell(LUNFS_ANCHOR_VOLUME), LOCK_SH, LOCAL_SHARED, flags,
		      intr_of(o), &o->vlock);
	if (rc) {
		o->vlock = NULL;
		return rc;
	}
	if (atomic_load_explicit(&v->super_stale, memory_order_acquire))
		rc = reread_super(v);
	if (rc || !o->rename)
		return rc;
	rc = lock_pin(v->locks, geo_anchor_cell(LUNFS_ANCHOR_RENAME), LOCK_EX, LOCAL_EXCL, 0,
		      intr_of(o), &o->rlock);
	if (rc)
		o->rlock = NULL;
	return rc;
}

/* Pin all that is known, lowest address first. */
static int pin_known(struct op *o)
{
	for (unsigned done = 0; done < o->n; done++) {
		struct opn *low = NULL;
		int rc;

		for (unsigned k = 0; k < o->n; k++)
			if (!o->e[k].l && (!low || o->e[k].addr < low->addr))
				low = &o->e[k];
		rc = pin(o, low, 0);
		if (rc)
			return rc;
	}
	return 0;
}

static void unload(struct op *o, struct opn *e)
{
	if (e->loaded)
		inode_put(&o->v->ne, &e->i);
	e->loaded = false;
}

/* @goes_on: it comes back at once for what it has not done yet. */
static void unpin(struct op *o, struct opn *e, bool goes_on)
{
	enum lock_local local = e->parked ? LOCAL_PARKED : e->local;

	unload(o, e);
	if (e->l && goes_on)
		lock_unpin_again(o->v->locks, e->l, local);
	else if (e->l)
		lock_unpin(o->v->locks, e->l, local);
	e->l = NULL;
	e->parked = false;
}

static void let_go(struct op *o, bool goes_on)
{
	for (unsigned k = o->n; k-- > 0;)
		unpin(o, &o->e[k], goes_on);
	if (o->rlock)
		lock_unpin(o->v->locks, o->rlock, LOCAL_EXCL);
	if (o->vlock)
		lock_unpin(o->v->locks, o->vlock, LOCAL_SHARED);
	o->rlock = o->vlock = NULL;
	o->top = 0;
}

/* What this round did not ask for is not pinned in the next. */
static void forget_unused(struct op *o)
{
	unsigned kept = 0;

	for (unsigned k = 0; k < o->n; k++)
		if (o->e[k].round == o->round)
			o->e[kept++] = o->e[k];
	o->n = kept;
}

/* ---- inodes ---------------------------------------------------------------------------------- */

static int load(struct op *o, struct opn *e, struct nodeid id)
{
	int rc;

	if (e->loaded)
		return id.generation && id.generation != e->i.generation ? -ESTALE : 0;
	rc = inode_get(&o->v->ne, e->l, id.generation, &e->i);
	e->loaded = rc == 0;
	return rc;
}

int op_get(struct op *o, struct nodeid id, enum lock_mode mode, enum lock_local local,
	   struct inode **out)
{
	struct opn *e = find(o, id.ino);
	int rc;

	if (!ino_ok(o->v, id.ino))
		return -ESTALE;
	if (!e)
		e = add(o, id.ino, mode, local);
	e->round = o->round;
	if (mode > e->mode || local > e->local) {
		bool pinned = e->l != NULL;

		unpin(o, e, true);
		e->mode = mode > e->mode ? mode : e->mode;
		e->local = local > e->local ? local : e->local;
		if (pinned)
			return OP_RESTART;
	}
	if (!e->l) {
		rc = pin(o, e, e->addr > o->top ? 0 : LOCK_TRY);
		if (rc)
			return rc == -EAGAIN ? OP_RESTART : rc;
	}
	rc = load(o, e, id);
	if (rc == 0)
		*out = &e->i;
	return rc;
}

int op_get_entry(struct op *o, const struct dir_entry *de, enum lock_mode mode,
		 enum lock_local local, struct inode **out)
{
	struct nodeid id = {de->ino, de->generation};
	int rc = op_get(o, id, mode, local, out);

	if (rc != -ESTALE)
		return rc;
	log_err("dangling-name",
		"The name '%s' leads to inode %llu, which does not exist; unmount everywhere and "
		"run fsck.lunfs.",
		de->name, (unsigned long long)de->ino);
	return -EUCLEAN;
}

static struct opn *entry_of(struct op *o, const struct inode *i)
{
	for (unsigned k = 0; k < o->n; k++)
		if (&o->e[k].i == i)
			return &o->e[k];
	lunfs_assert(!"inode of another operation");
	return NULL;
}

void op_park(struct op *o, const struct inode *i)
{
	struct opn *e = entry_of(o, i);

	unload(o, e);
	lock_park(o->v->locks, e->l);
	e->parked = true;
}

int op_raise(struct op *o, struct inode *i)
{
	struct opn *e = entry_of(o, i);
	struct nodeid id = {e->addr, e->i.generation};

	lunfs_assert(e->parked);
	lock_raise(o->v->locks, e->l);
	e->parked = false;
	e->local = LOCAL_EXCL;
	return load(o, e, id);
}

void op_drop(struct op *o, const struct inode *i)
{
	unpin(o, entry_of(o, i), false);
}

struct lock *op_lock_of(struct op *o, const struct inode *i)
{
	return entry_of(o, i)->l;
}

void op_forget(struct op *o, struct inode *i)
{
	entry_of(o, i)->loaded = false;
}

/* ---- the rounds ------------------------------------------------------------------------------ */

static bool failed(struct volume *v)
{
	return atomic_load(&v->lost) || txn_failed(v->txns);
}

bool vol_end_if_failed(struct volume *v)
{
	if (!failed(v))
		return false;
	host_end(v->host, "it had failed, and its device did not answer until the lease was over");
	return true;
}

int vol_wait_active(struct volume *v)
{
	if (host_lease_ok(v->host))
		return 0;
	return vol_end_if_failed(v) ? -EIO : host_wait_active(v->host);
}

static int enter(struct op *o, void *arg)
{
	struct volume *v = o->v;
	int rc = failed(v) ? -EIO : vol_wait_active(v);

	if (rc)
		return rc;
	o->round++;
	rc = pin_volume(o);
	if (rc == 0 && o->waited)
		alloc_use(v->alloc, o->waited);
	o->waited = 0;
	if (rc == 0 && o->rlock && o->first)
		rc = o->first(o, arg);
	return rc ? rc : pin_known(o);
}

/*
 * Hosts that all need the same two locks, of which one may only be tried, can take them from each
 * other for ever. Chance gives one of them the time to do its work.
 */
static void calm_down(struct op *o)
{
	struct clock *clk = o->v->env.clk;
	unsigned shift;
	uint32_t r;

	if (o->waits <= CALM_WAITS)
		return;
	shift = o->waits - CALM_WAITS;
	clk->ops->random(clk, &r, sizeof(r));
	clock_sleep_ns(clk, r % (CALM_NS << (shift < CALM_SHIFT_MAX ? shift : CALM_SHIFT_MAX)));
}

static int wait_for_allocator(struct op *o)
{
	struct lock *l;
	int rc;

	if (++o->waits > OP_WAITS_MAX) {
		log_warn("allocator-busy",
			 "An operation gave up after waiting %u times for allocation lock %llu, "
			 "which other hosts keep taking.",
			 OP_WAITS_MAX, (unsigned long long)o->want);
		return -ENOSPC;
	}
	calm_down(o);
	rc = lock_pin(o->v->locks, o->want, LOCK_EX, LOCAL_SHARED, 0, intr_of(o), &l);
	if (rc == 0) {
		lock_unpin_unused(o->v->locks, l, LOCAL_SHARED);
		o->waited = o->want;
	}
	return rc;
}

/* Space given up lately is free once its transaction is durable. */
static bool make_room(struct op *o)
{
	struct volume *v = o->v;
	unsigned long long freed;
	bool worked;

	o->made_room = true;
	worked = orphans_settle(v->orphans, ROOM_WAIT_NS);
	freed = atomic_load(&v->freed);
	if (!worked && freed == atomic_load(&v->freed_committed))
		return false;
	if (txn_commit_all(v->txns) != 0)
		return false;
	atomic_store(&v->freed_committed, freed);
	return true;
}

/* Shall the body run again after it said @rc? Replaces *@rc by the final answer if not. */
static bool again(struct op *o, int *rc)
{
	forget_unused(o);
	if (*rc == OP_RESTART) {
		if (o->round < OP_ROUNDS_MAX)
			return true;
		*rc = -EIO;
		return false;
	}
	if (*rc == -EAGAIN && o->want) {
		*rc = wait_for_allocator(o);
		return *rc == 0;
	}
	if (*rc != -ENOSPC || o->made_room || o->v->read_only)
		return false;
	return make_room(o) || o->part_fits;
}

int op_run(struct op *o, int (*body)(struct op *o, void *arg), void *arg)
{
	int rc, rc2;

	if (o->v->read_only && !o->reading)
		return -EROFS;
	do {
		o->want = 0;
		mark_admitted(o, false);
		rc = enter(o, arg);
		if (rc == 0)
			rc = body(o, arg);
		let_go(o, rc == OP_RESTART || (rc == 0 && o->goes_on));
	} while (again(o, &rc));
	/*
	 * While suspended this host keeps its locks and nobody else takes them before the slot has
	 * changed, so an answer that was right stays right if the lease comes back.
	 */
	rc2 = vol_wait_active(o->v);
	return rc2 ? rc2 : rc;
}

int op_try(struct op *o)
{
	int rc;

	if (failed(o->v))
		return -EIO;
	if (!host_lease_ok(o->v->host) || atomic_load(&o->v->super_stale))
		return -EAGAIN;
	o->pin_flags |= LOCK_TRY | LOCK_CACHED;
	mark_admitted(o, false);
	o->round++;
	rc = pin_volume(o);
	return rc ? rc : pin_known(o);
}

void op_leave(struct op *o)
{
	let_go(o, false);
}
