/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake.h"

#include "base/bitmap.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GROUP0 4096u
#define GROUP_BLKS (1u << 16)
#define GROUPS 24u
#define CELL_GROUPS 2u /* groups 0 and 1 hold cells, the others data */
#define CELL_BLKS 2u
#define CELLS_PER_GROUP (GROUP_BLKS / CELL_BLKS)
#define CELLS (CELL_GROUPS * CELLS_PER_GROUP)
#define DATA_BLKS ((GROUPS - CELL_GROUPS) * GROUP_BLKS)

struct lock {
	uint64_t addr;
};

struct fblk {
	struct mblk m;
	bool live, in_use; /* allocated; has a payload */
	bool dirty, gone, touched;
	unsigned refs;
	uint64_t version;
	uint8_t data[LUNFS_PAYLOAD_BYTES], shadow[LUNFS_PAYLOAD_BYTES];
};

struct txns {
	struct fake f;
	struct lock lock;
	struct fblk *blk[CELLS];
	unsigned next_cell; /* rotor */
	struct fblk **touched;
	unsigned n_touched, touched_room;
	struct cell_res cells;
	unsigned credits, used;
	uint64_t freed_in; /* locks of frees that were drawn on */
	bool in_txn, changed;
	uint8_t data_map[DATA_BLKS / 8];
	uint64_t data_rotor;
};

static struct txns *of(struct fake *f)
{
	return (struct txns *)f;
}

struct txn_handle { /* never made: a txns passes for one */
	int unused;
};

static struct txns *of_handle(struct txn_handle *h)
{
	return (struct txns *)h;
}

uint64_t fake_random(struct fake *f)
{
	uint64_t z = f->rnd += 0x9e3779b97f4a7c15ull; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* ---- locks -------------------------------------------------------------------------- */

uint64_t lock_addr(const struct lock *l)
{
	return l->addr;
}

/* ---- cells -------------------------------------------------------------------------- */

static uint64_t cell_addr(unsigned n)
{
	return GROUP0 + (uint64_t)n * CELL_BLKS;
}

static bool cell_index(uint64_t addr, unsigned *n)
{
	if (addr < GROUP0 || addr >= cell_addr(CELLS) || (addr - GROUP0) % CELL_BLKS)
		return false;
	*n = (unsigned)((addr - GROUP0) / CELL_BLKS);
	return true;
}

static struct fblk *blk_of(struct txns *t, uint64_t addr)
{
	unsigned n = 0;

	assert_true(cell_index(addr, &n));
	assert_non_null(t->blk[n]);
	return t->blk[n];
}

static bool can_be_cell(const struct geo *g, unsigned n)
{
	unsigned rel = n % CELLS_PER_GROUP;

	return rel >= geo_group_meta_blks(g) / CELL_BLKS && rel % LUNFS_CHUNK_CELLS != 0;
}

static struct fblk *blk_at(struct txns *t, unsigned n)
{
	if (!t->blk[n]) {
		t->blk[n] = calloc(1, sizeof(struct fblk));
		t->blk[n]->m.addr = cell_addr(n);
		t->blk[n]->m.data = t->blk[n]->data;
		t->blk[n]->m.guard = &t->lock;
	}
	return t->blk[n];
}

static struct cell find_cell(struct txns *t)
{
	struct fblk *b;

	do {
		t->next_cell = (t->next_cell + 1) % CELLS;
		b = blk_at(t, t->next_cell);
	} while (b->live || b->gone || !can_be_cell(&t->f.geo, t->next_cell));
	b->live = true;
	t->f.live_cells++;
	return (struct cell){.addr = b->m.addr, .version = b->version};
}

struct cell cell_take(struct txn_handle *h, struct alloc *a, struct cell_res *res)
{
	struct txns *t = of_handle(h);

	(void)a;
	assert_true(t->in_txn && res == &t->cells && res->taken < res->n);
	return res->cell[res->taken++];
}

/* Where the header of this cell's chunk stands: the first cell of its window. */
static uint64_t chunk_of(uint64_t cell)
{
	return cell - (cell - GROUP0) % (LUNFS_CHUNK_CELLS * CELL_BLKS);
}

static int pin(struct txns *t, struct free_res *r, uint64_t addr)
{
	for (unsigned k = 0; k < r->n; k++)
		if (r->addr[k] == addr)
			return 0;
	if (fake_random(&t->f) % 1000 < t->f.busy_permil) {
		r->want = addr;
		return -EAGAIN;
	}
	assert_true(r->n < ALLOC_CELLS_MAX);
	r->addr[r->n++] = addr;
	return 0;
}

static bool pinned(const struct free_res *r, uint64_t addr)
{
	for (unsigned k = 0; k < r->n; k++)
		if (r->addr[k] == addr)
			return true;
	return false;
}

/* Blocks that the allocator would dirty for the lock at @addr. */
static void use_credits(struct txns *t, const struct free_res *r, uint64_t addr, unsigned n)
{
	for (unsigned k = 0; k < r->n; k++)
		if (r->addr[k] == addr && !(t->freed_in & 1ull << k)) {
			t->freed_in |= 1ull << k;
			t->used += n;
		}
	assert_true(t->used <= t->credits);
}

int cell_free_prepare(struct alloc *a, struct free_res *r, uint64_t cell)
{
	struct txns *t = (struct txns *)a;
	unsigned n;

	assert_false(t->in_txn);
	if (!cell_index(cell, &n) || !t->blk[n] || !t->blk[n]->live)
		return -EUCLEAN;
	return pin(t, r, chunk_of(cell));
}

void cell_free(struct txn_handle *h, struct alloc *a, struct free_res *r, uint64_t cell)
{
	struct txns *t = of_handle(h);
	struct fblk *b = blk_of(t, cell);

	(void)a;
	assert_true(t->in_txn && pinned(r, chunk_of(cell)));
	assert_true(b->live && b->gone);
	if (t->f.count_frees)
		use_credits(t, r, chunk_of(cell), CELL_FREE_CREDITS);
	b->live = false;
	t->f.live_cells--;
}

void cell_free_version(struct alloc *a, struct free_res *r, uint64_t cell, uint64_t version)
{
	struct fblk *b = blk_of((struct txns *)a, cell);

	(void)r;
	assert_true(version > b->version);
	b->version = version;
}

/* ---- blocks of metadata ------------------------------------------------------------- */

static void touch(struct txns *t, struct fblk *b)
{
	if (b->touched)
		return;
	b->touched = true;
	if (t->n_touched == t->touched_room) {
		t->touched_room = t->touched_room * 2 + 64;
		t->touched = realloc(t->touched, t->touched_room * sizeof(*t->touched));
	}
	t->touched[t->n_touched++] = b;
}

static void dirty(struct txns *t, struct fblk *b)
{
	assert_true(t->in_txn);
	t->changed = true;
	if (b->dirty)
		return;
	if (!b->gone && b->in_use && b->touched)
		assert_memory_equal(b->data, b->shadow, LUNFS_PAYLOAD_BYTES);
	b->dirty = true;
	touch(t, b);
	t->used++;
	if (!t->f.hostile)
		assert_true(t->used <= t->credits);
}

int mblk_get(struct txns *t, struct lock *guard, uint64_t addr, uint16_t type, struct mblk **out)
{
	const struct lunfs_blk_hdr *h;
	struct fblk *b;
	unsigned n;

	assert_ptr_equal(guard, &t->lock);
	if (!cell_index(addr, &n) || !t->blk[n] || !t->blk[n]->in_use || t->blk[n]->gone)
		return -EUCLEAN;
	b = t->blk[n];
	h = (const void *)b->data;
	if (le16_get(h->type) != type || le64_get(h->guard) != guard->addr)
		return -EUCLEAN;
	if (t->in_txn && t->changed)
		assert_true(b->refs > 0 || b->dirty);
	b->refs++;
	touch(t, b);
	*out = &b->m;
	return 0;
}

void mblk_read_ahead(struct txns *t, struct lock *guard, const uint64_t *addr, size_t n)
{
	assert_ptr_equal(guard, &t->lock);
	assert_in_range(n, 1, MBLK_AHEAD_MAX);
	assert_true(addr[0] != 0);
}

void mblk_put(struct txns *t, struct mblk *m)
{
	struct fblk *b = (struct fblk *)m;

	(void)t;
	assert_true(b->refs > 0);
	b->refs--;
}

static void look_again(struct fblk *b)
{
	for (size_t i = 0; i < sizeof(b->m.seen) / sizeof(b->m.seen[0]); i++)
		atomic_store(&b->m.seen[i].set, false);
}

struct mblk *mblk_new(struct txn_handle *h, struct lock *guard, uint64_t addr, uint16_t type,
		      uint64_t version, uint64_t guard_gen)
{
	struct txns *t = of_handle(h);
	struct fblk *b = blk_of(t, addr);

	assert_true(b->live && !b->in_use && !b->refs);
	assert_true(version >= b->version);
	dirty(t, b);
	b->in_use = true;
	b->version = version;
	look_again(b);
	memset(b->data, 0, LUNFS_PAYLOAD_BYTES);
	blk_init(&t->f.geo, b->data, type, addr, version, guard->addr, guard_gen);
	b->refs = 1;
	return &b->m;
}

void mblk_dirty(struct txn_handle *h, struct mblk *m)
{
	struct fblk *b = (struct fblk *)m;

	assert_true(b->refs > 0 && !b->gone);
	dirty(of_handle(h), b);
}

void mblk_dirty_times(struct txn_handle *h, struct mblk *m)
{
	mblk_dirty(h, m);
}

uint64_t mblk_forget(struct txn_handle *h, struct mblk *m)
{
	struct fblk *b = (struct fblk *)m;

	assert_true(b->refs > 0 && !b->gone);
	dirty(of_handle(h), b);
	b->gone = true;
	b->refs--;
	return b->version + 1;
}

void txn_abort_volume(struct txn_handle *h, const char *why)
{
	struct fake *f = &of_handle(h)->f;

	(void)why;
	assert_true(f->hostile);
	f->aborted = true;
}

/* ---- data blocks -------------------------------------------------------------------- */

static uint64_t data_blk(uint64_t n)
{
	return GROUP0 + (uint64_t)CELL_GROUPS * GROUP_BLKS + n;
}

uint64_t fake_blocks(struct fake *f, uint32_t len)
{
	struct txns *t = of(f);
	uint64_t n;

	for (;;) {
		n = t->data_rotor;
		if (n + len > DATA_BLKS || !blk_range_ok(&f->geo, data_blk(n), len)) {
			t->data_rotor = (n + 1) % DATA_BLKS;
			continue;
		}
		if (bit_find(t->data_map, n, n + len, true) == n + len)
			break;
		t->data_rotor++;
	}
	for (uint64_t k = n; k < n + len; k++)
		bit_set(t->data_map, k);
	t->data_rotor = (n + len) % DATA_BLKS;
	f->data_blks += len;
	return data_blk(n);
}

bool fake_block_used(struct fake *f, uint64_t blk)
{
	return blk >= data_blk(0) && blk < data_blk(DATA_BLKS) &&
	       bit_get(of(f)->data_map, blk - data_blk(0));
}

void fake_blocks_free(struct fake *f, uint64_t blk, uint32_t len)
{
	for (uint64_t k = blk; k < blk + len; k++) {
		assert_true(fake_block_used(f, k));
		bit_clear(of(f)->data_map, k - data_blk(0));
	}
	f->data_blks -= len;
}

int blk_free_prepare(struct alloc *a, struct free_res *r, uint64_t blk, uint32_t len)
{
	struct txns *t = (struct txns *)a;

	assert_false(t->in_txn);
	if (!blk_range_ok(&t->f.geo, blk, len))
		return -EUCLEAN;
	for (uint64_t k = blk; k < blk + len; k++)
		if (!fake_block_used(&t->f, k))
			return -EUCLEAN;
	return pin(t, r, geo_group_header(&t->f.geo, geo_group_of(&t->f.geo, blk)));
}

void blk_free(struct txn_handle *h, struct alloc *a, struct free_res *r, uint64_t blk, uint32_t len)
{
	struct txns *t = of_handle(h);

	(void)a;
	assert_true(t->in_txn);
	assert_true(pinned(r, geo_group_header(&t->f.geo, geo_group_of(&t->f.geo, blk))));
	if (t->f.count_frees)
		use_credits(t, r, geo_group_header(&t->f.geo, geo_group_of(&t->f.geo, blk)),
			    BLK_FREE_CREDITS);
	if (t->f.hostile && !fake_block_used(&t->f, blk))
		return;
	fake_blocks_free(&t->f, blk, len);
}

/* ---- transactions ------------------------------------------------------------------- */

struct node_txn fake_begin_with(struct fake *f, unsigned cells, unsigned credits)
{
	struct txns *t = of(f);

	assert_true(cells <= ALLOC_CELLS_MAX && !t->in_txn);
	t->cells = (struct cell_res){.n = cells};
	for (unsigned k = 0; k < cells; k++)
		t->cells.cell[k] = find_cell(t);
	t->in_txn = true;
	t->changed = false;
	t->credits = credits;
	t->used = 0;
	t->freed_in = 0;
	if (f->most_cells < cells)
		f->most_cells = cells;
	if (f->most_credits < credits)
		f->most_credits = credits;
	return (struct node_txn){.h = (struct txn_handle *)t,
				 .cells = &t->cells,
				 .frees = f->with_frees ? &f->frees : NULL};
}

struct node_txn fake_begin(struct fake *f, enum node_fork fork, unsigned changes)
{
	struct node_need need = {0, 0};
	int rc = fork_need(&f->ne, &f->i, fork, changes, &need);

	if (rc) {
		assert_true(f->hostile);
		need = (struct node_need){9 * changes < 64 ? 9 * changes : 64, 400};
	}
	return fake_begin_with(f, need.cells, need.credits);
}

void fake_next_op(struct fake *f)
{
	of(f)->changed = false;
}

static void settle(struct fblk *b)
{
	if (b->gone) {
		assert_int_equal(b->refs, 0);
		b->in_use = b->gone = false;
	}
	if (b->dirty && b->in_use)
		((struct lunfs_blk_hdr *)b->data)->version = le64_make(++b->version);
	if (!b->dirty && b->in_use)
		assert_memory_equal(b->data, b->shadow, LUNFS_PAYLOAD_BYTES);
	memcpy(b->shadow, b->data, LUNFS_PAYLOAD_BYTES);
	b->dirty = false;
	b->touched = false;
}

void fake_end(struct fake *f)
{
	struct txns *t = of(f);

	assert_true(t->in_txn);
	for (unsigned k = t->cells.taken; k < t->cells.n; k++) {
		blk_of(t, t->cells.cell[k].addr)->live = false;
		f->live_cells--;
	}
	for (unsigned k = 0; k < t->n_touched; k++)
		settle(t->touched[k]);
	t->n_touched = 0;
	t->in_txn = false;
	memset(&f->frees, 0, sizeof(f->frees));
}

/* ---- the inode ---------------------------------------------------------------------- */

static void make_geo(struct geo *g)
{
	*g = (struct geo){.cell_blks = CELL_BLKS,
			  .sector_bytes = 512,
			  .group_blks = GROUP_BLKS,
			  .group0_blk = GROUP0,
			  .groups = GROUPS,
			  .bitmap_cells = 3,
			  .end_blk = GROUP0 + (uint64_t)GROUPS * GROUP_BLKS,
			  .dev_blks = GROUP0 + (uint64_t)GROUPS * GROUP_BLKS + 64,
			  .hash_key = "sixteen bytes ..",
			  .vol_id = "this volume's id"};
}

struct fake *fake_new(uint32_t mode)
{
	struct txns *t = calloc(1, sizeof(*t));
	struct fake *f = &t->f;
	struct node_txn nt;
	struct cell c;

	log_open("test", (enum log_level)0, 0);
	make_geo(&f->geo);
	f->env.geo = &f->geo;
	f->ne = (struct node_env){.env = &f->env, .txns = t, .alloc = (struct alloc *)t};
	f->i = (struct inode){.generation = 0x1234567, .mode = mode, .nlink = 1};
	if (S_ISDIR(mode))
		f->i.parent = cell_addr(40);
	nt = fake_begin_with(f, 1, 1);
	c = cell_take(nt.h, f->ne.alloc, nt.cells);
	t->lock.addr = c.addr;
	inode_create(&f->ne, nt.h, &t->lock, &c, &f->i);
	fake_end(f);
	return f;
}

void fake_free(struct fake *f)
{
	struct txns *t = of(f);

	inode_put(&f->ne, &f->i);
	for (unsigned n = 0; n < CELLS; n++) {
		if (t->blk[n])
			assert_int_equal(t->blk[n]->refs, 0);
		free(t->blk[n]);
	}
	free(t->touched);
	free(t);
}

static struct fblk *nth(struct fake *f, unsigned n)
{
	struct txns *t = of(f);

	for (unsigned k = 0; k < CELLS; k++)
		if (t->blk[k] && t->blk[k]->in_use && n-- == 0)
			return t->blk[k];
	return NULL;
}

unsigned fake_payloads(struct fake *f)
{
	unsigned n = 0;

	for (unsigned k = 0; k < CELLS; k++)
		n += of(f)->blk[k] && of(f)->blk[k]->in_use;
	return n;
}

const uint8_t *fake_payload(struct fake *f, unsigned n)
{
	return nth(f, n)->data;
}

void fake_damage(struct fake *f, unsigned n, size_t off, uint8_t byte)
{
	struct fblk *b = nth(f, n);

	b->data[off] = b->shadow[off] = byte;
	look_again(b); /* damage is met when a block is read */
}

int fake_reload(struct fake *f)
{
	struct txns *t = of(f);

	inode_put(&f->ne, &f->i);
	return inode_get(&f->ne, &t->lock, 0, &f->i);
}

/* ---- walking --------------------------------------------------------------------------------- */

struct walker {
	struct txns *t;
	struct walk w;
	enum node_fork fork;
	uint64_t last;
	bool any;
};

static void walk_leaf(struct walker *k, const uint8_t *area, size_t size, uint64_t lo, uint64_t hi)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_leaf_slot *s = (const void *)(area + sizeof(*h));
	unsigned n = le16_get(h->items);
	size_t bodies = le16_get(h->dead);

	k->w.leaves++;
	k->w.empty_leaves += n == 0;
	for (unsigned i = 0; i < n; i++) {
		uint64_t key = le64_get(s[i].key);

		assert_true(key >= lo && key <= hi);
		assert_true(!k->any || key > k->last);
		k->any = true;
		k->last = key;
		k->w.items[k->fork]++;
		bodies += le16_get(s[i].len);
		assert_true(le16_get(s[i].off) >= le16_get(h->body_off));
		assert_true(le16_get(s[i].off) + le16_get(s[i].len) <= (int)size);
	}
	assert_int_equal(bodies, size - le16_get(h->body_off));
	assert_true(sizeof(*h) + n * sizeof(*s) <= le16_get(h->body_off));
}

static void walk_node(struct walker *k, const uint8_t *area, size_t size, int level, uint64_t lo,
		      uint64_t hi)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_inner_slot *s = (const void *)(area + sizeof(*h));
	unsigned n = le16_get(h->items);

	assert_true(level < 0 || le16_get(h->level) == level);
	if (le16_get(h->level) == 0) {
		walk_leaf(k, area, size, lo, hi);
		return;
	}
	assert_true(n > 0 && sizeof(*h) + n * sizeof(*s) <= size);
	assert_int_equal(le16_get(h->body_off), size);
	assert_int_equal(le16_get(h->dead), 0);
	assert_int_equal(le64_get(s[0].key), 0);
	for (unsigned i = 0; i < n; i++) {
		uint64_t clo = i ? le64_get(s[i].key) : lo;
		uint64_t chi = i + 1 < n ? le64_get(s[i + 1].key) - 1 : hi;
		const struct fblk *b = blk_of(k->t, le64_get(s[i].child));
		const struct lunfs_bt_pl *pl = (const void *)b->data;

		assert_true(clo <= chi && clo >= lo && chi <= hi);
		assert_true(b->live && b->in_use);
		assert_int_equal(le64_get(pl->hdr.guard_gen), k->t->f.i.generation);
		k->w.cells++;
		walk_node(k, pl->area, sizeof(pl->area), le16_get(h->level) - 1, clo, chi);
	}
}

static void walk_fork(struct walker *k, enum node_fork fork, const uint8_t *area, size_t size)
{
	k->fork = fork;
	k->any = false;
	k->w.depth[fork] = le16_get(((const struct lunfs_bt_head *)area)->level) + 1u;
	walk_node(k, area, size, -1, 0, UINT64_MAX);
}

struct walk fake_walk(struct fake *f)
{
	const struct lunfs_inode_pl *pl = (const void *)f->i.m->data;
	struct walker k = {.t = of(f)};
	struct inode got;

	assert_int_equal(inode_decode(&f->geo, pl, f->i.ino, &got), 0);
	assert_int_equal(got.data_format, f->i.data_format);
	assert_int_equal(got.xattr_format, f->i.xattr_format);
	assert_int_equal(got.blks, f->i.blks);
	assert_int_equal(got.size, f->i.size);
	if (f->i.data_format == LUNFS_FORK_TREE)
		walk_fork(&k, FORK_DATA, pl->data_fork, sizeof(pl->data_fork));
	if (f->i.xattr_format == LUNFS_FORK_TREE)
		walk_fork(&k, FORK_XATTR, pl->xattr_fork, sizeof(pl->xattr_fork));
	assert_int_equal(f->live_cells, k.w.cells + 1u);
	assert_int_equal(f->i.blks, (uint64_t)k.w.cells * CELL_BLKS + f->data_blks);
	return k.w;
}
