/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The volume, hosts and locks of the transaction tests. */
#include "world.h"

#include <errno.h>

/* ---- doubles of cluster/ ----------------------------------------------------------------------
 */

uint64_t lock_addr(const struct lock *l)
{
	return l->addr;
}

bool lock_is_ex(const struct lock *l)
{
	return l->ex;
}

uint64_t lock_possession(const struct lock *l)
{
	return l->possession;
}

uint64_t lock_recorded_version(const struct lock *l)
{
	return l->recorded;
}

uint64_t locks_unproven(struct locks *ls)
{
	return ls->unproven;
}

int locks_renew_guards(struct locks *ls, uint64_t dead_owner, struct guard_renew *g, size_t n)
{
	ls->renewals++;
	for (size_t i = 0; i < n; i++) {
		g[i].live = false;
		for (unsigned k = 0; k < ls->n; k++) {
			if (ls->rec[k].addr != g[i].addr)
				continue;
			g[i].live = ls->rec[k].owner == dead_owner &&
				    ls->rec[k].possession == g[i].possession;
			g[i].recorded_version = ls->rec[k].recorded;
		}
	}
	return 0;
}

unsigned host_slot(const struct host *h)
{
	return h->slot;
}

uint64_t host_owner(const struct host *h)
{
	return h->owner;
}

uint64_t host_nonce(const struct host *h)
{
	return h->nonce;
}

enum host_state host_state(struct host *h)
{
	return h->lost ? HOST_LOST : HOST_ACTIVE;
}

bool host_lease_ok(struct host *h)
{
	return !h->lost && !h->lease_gone;
}

int host_wait_active(struct host *h)
{
	h->lease_gone = false;
	return h->lost ? -EIO : 0;
}

int host_write_gate(struct host *h)
{
	h->gates++;
	return h->lost ? -EIO : 0;
}

bool host_write_try(struct host *h)
{
	return host_write_begin(h) == 0;
}

int host_write_begin(struct host *h)
{
	return host_write_gate(h);
}

void host_write_end(struct host *h)
{
	h->written++;
}

uint64_t host_written(struct host *h)
{
	return h->written;
}

uint64_t host_live_owner(struct host *h, unsigned slot)
{
	return h->others_live ? LUNFS_OWNER(1, slot) : 0;
}

/* ---- the volume -------------------------------------------------------------------------------
 */

static void world_format(struct world *w)
{
	struct geo *g = &w->geo;

	memset(g->vol_id, 0x5a, sizeof(g->vol_id));
	g->dev_blks = WORLD_BYTES / LUNFS_BLOCK_BYTES;
	g->end_blk = g->dev_blks - 16;
	g->cell_blks = g->sector_bytes == 512 ? 1 : 2;
	g->payload_off = g->sector_bytes;
	g->payload_io_bytes = g->sector_bytes == 512 ? LUNFS_PAYLOAD_BYTES : LUNFS_BLOCK_BYTES;
	g->slots = g->journals = WORLD_SLOTS;
	g->journal_blks = w->journal_blks;
	g->group_blks = 1024;
	g->group0_blk = 2048;
	g->groups = 2;
	g->bitmap_cells = 1;
	g->beat_ms = 150;
	g->deadline_ms = 400;
	g->lease_ms = 800;
	for (unsigned i = 0; i < WORLD_SLOTS; i++) {
		g->journal_blk[i] = 1024 + i * 320;
		journal_format(g, i, w->buf);
		simdev_poke(w->medium, geo_blk_off(g->journal_blk[i]), sizeof(w->buf), w->buf);
	}
}

static void world_body(void *arg)
{
	struct world *w = arg;

	w->body(w);
}

static struct world *world_new(struct clock *clk, void (*body)(struct world *w), uint64_t seed,
			       uint32_t journal_blks)
{
	struct world *w = calloc(1, sizeof(*w));

	w->clk = clk;
	w->journal_blks = journal_blks;
	w->geo.sector_bytes = seed % 2 ? 512 : 4096;
	w->dev0 = simdev_new(w->clk, WORLD_BYTES, w->geo.sector_bytes, w->geo.sector_bytes);
	w->medium = simdev_medium_of(w->dev0);
	w->body = body;
	simdev_seed(w->medium, seed);
	world_format(w);
	return w;
}

static void world_free(struct world *w)
{
	dev_close(w->dev0);
	w->clk->ops->destroy(w->clk);
	free(w);
}

void world_run(void (*body)(struct world *w), uint64_t seed, uint32_t journal_blks)
{
	struct world *w = world_new(simclock_new(), body, seed, journal_blks);

	simdev_set_latency(w->medium, 10000, 200000);
	simclock_run(w->clk, world_body, w, seed);
	world_free(w);
}

void world_run_threads(void (*body)(struct world *w), uint32_t journal_blks)
{
	struct clock *clk;
	struct world *w;

	assert_int_equal(clock_real_new(&clk), 0);
	w = world_new(clk, body, 1, journal_blks);
	body(w);
	world_free(w);
}

void world_seeds(void (*body)(struct world *w), const char *name)
{
	const char *one = getenv("TEST_SEED");

	if (one) {
		world_run(body, strtoull(one, NULL, 10), WORLD_JOURNAL_BLKS);
		return;
	}
	for (uint64_t seed = 1; seed <= WORLD_SEEDS; seed++) {
		print_message("%s: seed %llu\n", name, (unsigned long long)seed);
		world_run(body, seed, WORLD_JOURNAL_BLKS);
	}
}

uint64_t world_cell(const struct world *w, unsigned n)
{
	return geo_group_blk(&w->geo, 0) + geo_group_meta_blks(&w->geo) +
	       (uint64_t)n * w->geo.cell_blks;
}

void world_plant(struct world *w, uint64_t addr, uint64_t guard, uint16_t type, uint64_t version,
		 uint32_t value)
{
	memset(w->buf, 0, sizeof(w->buf));
	blk_init(&w->geo, w->buf, type, addr, version, guard, 0);
	payload_set(w->buf, value);
	blk_seal(w->buf);
	simdev_poke(w->medium, geo_payload_off(&w->geo, addr), w->geo.payload_io_bytes, w->buf);
}

bool world_place(struct world *w, uint64_t addr, void *payload)
{
	const struct lunfs_blk_hdr *h = payload;

	simdev_peek(w->medium, geo_payload_off(&w->geo, addr), LUNFS_PAYLOAD_BYTES, payload);
	return blk_check(&w->geo, payload, le16_get(h->type), addr) == 0;
}

uint32_t world_value(struct world *w, uint64_t addr)
{
	assert_true(world_place(w, addr, w->buf));
	return payload_get(w->buf);
}

uint64_t world_version(struct world *w, uint64_t addr)
{
	assert_true(world_place(w, addr, w->buf));
	return le64_get(((struct lunfs_blk_hdr *)w->buf)->version);
}

/* ---- hosts ------------------------------------------------------------------------------------
 */

void node_attach(struct world *w, struct node *n, unsigned slot)
{
	static uint64_t nonce = 1000;

	memset(n, 0, sizeof(*n));
	n->w = w;
	n->env.dev = simdev_attach(w->medium);
	n->env.clk = w->clk;
	n->env.geo = &w->geo;
	nonce++;
	n->host = (struct host){.slot = slot, .owner = LUNFS_OWNER(nonce, slot), .nonce = nonce};
	assert_int_equal(txns_new(&n->env, &n->host, &w->locks, &n->t), 0);
}

void node_up(struct world *w, struct node *n, unsigned slot)
{
	node_attach(w, n, slot);
	assert_int_equal(txns_start(n->t), 0);
}

static void node_free(struct node *n)
{
	txns_free(n->t);
	dev_close(n->env.dev);
	n->t = NULL;
}

void node_down(struct node *n)
{
	assert_int_equal(txns_stop(n->t), 0);
	node_free(n);
}

void node_crash(struct node *n)
{
	txns_abandon(n->t);
	node_free(n);
}

int node_replay(struct node *n, const struct node *dead)
{
	return txn_replay(n->t, dead->host.slot, dead->host.owner, dead->host.nonce);
}

static void rec_set(struct locks *ls, uint64_t addr, uint64_t owner, uint64_t possession)
{
	unsigned k;

	for (k = 0; k < ls->n && ls->rec[k].addr != addr; k++)
		;
	if (k == ls->n)
		ls->n++;
	assert_true(ls->n <= WORLD_LOCKS);
	ls->rec[k].addr = addr;
	ls->rec[k].owner = owner;
	ls->rec[k].possession = possession;
}

static uint64_t rec_possession(const struct locks *ls, uint64_t addr)
{
	for (unsigned k = 0; k < ls->n; k++)
		if (ls->rec[k].addr == addr)
			return ls->rec[k].possession;
	return 0;
}

struct lock *node_lock(struct node *n, unsigned i, uint64_t addr)
{
	struct lock *l = &n->lock[i];

	*l = (struct lock){
	    .addr = addr, .possession = rec_possession(&n->w->locks, addr) + 1, .ex = true};
	rec_set(&n->w->locks, addr, n->host.owner, l->possession);
	return l;
}

void node_give(struct node *n, struct lock *l)
{
	rec_set(&n->w->locks, l->addr, LUNFS_OWNER(77, 7), l->possession + 1);
	l->ex = false;
}

uint64_t node_set(struct node *n, struct lock *l, uint64_t addr, uint16_t type, uint32_t value)
{
	struct txn_handle *h;
	struct mblk *m;

	assert_int_equal(mblk_get(n->t, l, addr, type, &m), 0);
	assert_int_equal(txn_begin(n->t, 1, &h), 0);
	mblk_dirty(h, m);
	payload_set(m->data, value);
	mblk_put(n->t, m);
	return txn_end(h);
}

uint32_t node_value(struct node *n, struct lock *l, uint64_t addr, uint16_t type)
{
	struct mblk *m;
	uint32_t value;

	assert_int_equal(mblk_get(n->t, l, addr, type, &m), 0);
	value = payload_get(m->data);
	mblk_put(n->t, m);
	return value;
}
