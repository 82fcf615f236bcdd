/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paths through a tree, and the changes that reach across its nodes. Invariants:
 *
 * - A node is used only after node_check() with the level and range that its parent gives it, so a
 *   walk goes down at every step and a loop cannot be followed. Once is enough for as long as it
 *   stays in memory and its range is the same: changes made here keep it right.
 * - A change that reached its first mblk_dirty() ends well: it needs no block that its path does
 * not hold and no cell that is not reserved.
 * - inode.blks counts cell_blks for every cell of a tree.
 */
#include "node/node_impl.h"

#include <errno.h>
#include <string.h>

#define NODES_AHEAD 16u

/* What stands in for the root while the fork holds no tree. */
static const uint8_t no_tree[sizeof(struct lunfs_bt_head)];

static const struct geo *geo_of(const struct bt *bt)
{
	return bt->ne->env->geo;
}

static uint32_t cell_blks(const struct bt *bt)
{
	return geo_of(bt)->cell_blks;
}

static bool has_tree(const struct bt *bt)
{
	return *fork_format(bt->i, bt->fork) == LUNFS_FORK_TREE;
}

static int damaged(const struct bt *bt, uint64_t addr)
{
	log_err("tree-damaged",
		"inode %llu: the %s tree cannot be read at block %llu, its node is not what its "
		"parent says; run fsck.lunfs",
		ULL(bt->i->ino), bt->fork == FORK_DATA ? "data" : "xattr", ULL(addr));
	return -EUCLEAN;
}

/* ---- paths -------------------------------------------------------------------------- */

struct bt_step *bt_leaf(struct bt_path *p)
{
	return &p->s[p->n - 1];
}

bool bt_at_item(struct bt_path *p)
{
	return bt_leaf(p)->idx < node_items(bt_leaf(p)->area);
}

uint64_t bt_key(struct bt_path *p)
{
	return leaf_key(bt_leaf(p)->area, bt_leaf(p)->idx);
}

const uint8_t *bt_body(struct bt_path *p, size_t *len)
{
	return leaf_body(bt_leaf(p)->area, bt_leaf(p)->idx, len);
}

static void pop(const struct bt *bt, struct bt_path *p)
{
	struct bt_step *s = &p->s[--p->n];

	if (s->m)
		mblk_put(bt->ne->txns, s->m);
}

void bt_put(const struct bt *bt, struct bt_path *p)
{
	while (p->n)
		pop(bt, p);
}

static int check_step(const struct bt *bt, const struct bt_step *s, int level,
		      struct mblk_seen *seen)
{
	int rc;

	if (atomic_load_explicit(&seen->set, memory_order_acquire) &&
	    atomic_load_explicit(&seen->lo, memory_order_relaxed) == s->range.lo &&
	    atomic_load_explicit(&seen->hi, memory_order_relaxed) == s->range.hi)
		return level >= 0 && node_level(s->area) != (unsigned)level ? -EUCLEAN : 0;
	rc = node_check(geo_of(bt), s->area, s->size, level, s->range);
	if (rc)
		return rc;
	atomic_store_explicit(&seen->lo, s->range.lo, memory_order_relaxed);
	atomic_store_explicit(&seen->hi, s->range.hi, memory_order_relaxed);
	atomic_store_explicit(&seen->set, true, memory_order_release);
	return 0;
}

static int push_root(const struct bt *bt, struct bt_path *p)
{
	struct bt_step *s = &p->s[0];

	*s = (struct bt_step){.area = fork_area(bt->i, bt->fork),
			      .size = fork_bytes(bt->fork),
			      .range = {.lo = 0, .hi = UINT64_MAX}};
	p->n = 1;
	if (!has_tree(bt)) {
		s->area = (uint8_t *)no_tree;
		return 0;
	}
	if (check_step(bt, s, -1, &bt->i->m->seen[bt->fork])) {
		p->n = 0;
		return damaged(bt, bt->i->ino);
	}
	return 0;
}

static int get_node(const struct bt *bt, uint64_t addr, struct mblk **out)
{
	const struct lunfs_blk_hdr *h;
	struct mblk *m;
	int rc;

	if (addr == bt->i->ino)
		return damaged(bt, addr);
	rc = mblk_get(bt->ne->txns, bt->i->m->guard, addr, LUNFS_BLK_BTREE, &m);
	if (rc == -ESTALE)
		return damaged(bt, addr);
	if (rc)
		return rc;
	h = (const void *)m->data;
	if (le64_get(h->guard) != bt->i->ino || le64_get(h->guard_gen) != bt->i->generation) {
		mblk_put(bt->ne->txns, m);
		return damaged(bt, addr);
	}
	*out = m;
	return 0;
}

/* Step down to child @idx of the path's last node. On an error the path is as before. */
static int push_child(const struct bt *bt, struct bt_path *p, unsigned idx)
{
	struct bt_step *up = &p->s[p->n - 1], *s = &p->s[p->n];
	uint64_t addr = inner_child(up->area, idx);
	struct bt_range range = up->range;
	struct mblk *m;
	int rc;

	if (idx)
		range.lo = inner_key(up->area, idx);
	if (idx + 1 < node_items(up->area))
		range.hi = inner_key(up->area, idx + 1) - 1;
	rc = get_node(bt, addr, &m);
	if (rc)
		return rc;
	*s = (struct bt_step){.m = m,
			      .area = ((struct lunfs_bt_pl *)m->data)->area,
			      .size = BT_AREA_BYTES,
			      .range = range};
	if (check_step(bt, s, (int)node_level(up->area) - 1, &m->seen[0])) {
		mblk_put(bt->ne->txns, m);
		return damaged(bt, addr);
	}
	up->idx = idx;
	p->n++;
	return 0;
}

/* From the path's last node to the leaf for @key. */
static int descend(const struct bt *bt, struct bt_path *p, uint64_t key)
{
	struct bt_step *s = &p->s[p->n - 1];

	while (node_level(s->area) > 0) {
		int rc = push_child(bt, p, inner_find(s->area, key));

		if (rc) {
			bt_put(bt, p);
			return rc;
		}
		s = &p->s[p->n - 1];
	}
	return 0;
}

int bt_seek(const struct bt *bt, uint64_t key, struct bt_path *p)
{
	int rc = push_root(bt, p);

	if (!rc)
		rc = descend(bt, p, key);
	if (!rc)
		bt_leaf(p)->idx = leaf_find(bt_leaf(p)->area, key);
	return rc;
}

int bt_seek_last(const struct bt *bt, struct bt_path *p)
{
	int rc = push_root(bt, p);

	if (!rc)
		rc = descend(bt, p, UINT64_MAX);
	if (!rc)
		bt_leaf(p)->idx = node_items(bt_leaf(p)->area);
	return rc;
}

/* The children of the path's last node from @idx on, if the first of them is not here. */
static void read_ahead(const struct bt *bt, const struct bt_path *p, unsigned idx)
{
	const struct bt_step *s = &p->s[p->n - 1];
	uint64_t addr[NODES_AHEAD];
	size_t n = 0;

	for (unsigned k = idx; n < NODES_AHEAD && k < node_items(s->area); k++)
		addr[n++] = inner_child(s->area, k);
	mblk_read_ahead(bt->ne->txns, bt->i->m->guard, addr, n);
}

/* Up to the first node that has a child @by (1 or -1) further, and to that child. */
static int step_aside(const struct bt *bt, struct bt_path *p, int by)
{
	int rc;

	for (pop(bt, p); p->n; pop(bt, p)) {
		struct bt_step *s = &p->s[p->n - 1];

		if (by < 0 ? s->idx == 0 : s->idx + 1 >= node_items(s->area))
			continue;
		if (bt->ahead && by > 0)
			read_ahead(bt, p, s->idx + 1);
		rc = push_child(bt, p, by < 0 ? s->idx - 1 : s->idx + 1);
		if (rc)
			bt_put(bt, p);
		return rc;
	}
	return -ENOENT;
}

int bt_next_leaf(const struct bt *bt, struct bt_path *p)
{
	int rc = step_aside(bt, p, 1);

	return rc ? rc : descend(bt, p, 0);
}

int bt_prev_leaf(const struct bt *bt, struct bt_path *p)
{
	int rc = step_aside(bt, p, -1);

	if (!rc)
		rc = descend(bt, p, UINT64_MAX);
	if (!rc)
		bt_leaf(p)->idx = node_items(bt_leaf(p)->area);
	return rc;
}

int bt_settle(const struct bt *bt, struct bt_path *p)
{
	int rc = 0;

	while (!rc && !bt_at_item(p))
		rc = bt_next_leaf(bt, p);
	return rc;
}

int bt_seek_floor(const struct bt *bt, uint64_t key, struct bt_path *p)
{
	int rc = bt_seek(bt, key, p);

	if (rc || (bt_at_item(p) && bt_key(p) == key))
		return rc;
	while (!rc && bt_leaf(p)->idx == 0)
		rc = bt_prev_leaf(bt, p);
	if (!rc)
		bt_leaf(p)->idx--;
	return rc;
}

int bt_depth(const struct bt *bt, unsigned *depth)
{
	struct bt_path p;
	int rc = push_root(bt, &p);

	if (!rc)
		*depth = node_level(p.s[0].area) + 1;
	return rc;
}

/* ---- inserting ---------------------------------------------------------------------- */

static void dirty(const struct bt *bt, const struct node_txn *nt, struct bt_step *s)
{
	mblk_dirty(nt->h, s->m ? s->m : bt->i->m);
}

void bt_dirty_leaf(const struct bt *bt, const struct node_txn *nt, struct bt_path *p)
{
	dirty(bt, nt, bt_leaf(p));
}

static struct mblk *new_node(const struct bt *bt, const struct node_txn *nt, unsigned level)
{
	struct cell c = cell_take(nt->h, bt->ne->alloc, nt->cells);
	struct mblk *m =
	    mblk_new(nt->h, bt->i->m->guard, c.addr, LUNFS_BLK_BTREE, c.version, bt->i->generation);

	node_init(((struct lunfs_bt_pl *)m->data)->area, BT_AREA_BYTES, level);
	bt->i->blks += cell_blks(bt);
	return m;
}

static bool step_fits(struct bt_step *s, size_t len)
{
	return node_level(s->area) ? inner_fits(s->area, s->size)
				   : leaf_fits(s->area, s->size, len);
}

/* How many cells an insertion at @p takes: a node a full level from the leaf up. */
static unsigned cells_needed(struct bt_path *p, size_t len)
{
	unsigned n = 0;

	while (n < p->n && !step_fits(&p->s[p->n - 1 - n], len))
		n++;
	return n;
}

/* The root's content moves to a cell of its own, which becomes the path's second step. */
static void grow_root(const struct bt *bt, const struct node_txn *nt, struct bt_path *p)
{
	struct bt_step *root = &p->s[0], *s = &p->s[1];
	unsigned level = node_level(root->area);
	struct mblk *m = new_node(bt, nt, level);

	lunfs_assert(p->n < BT_DEPTH_MAX && level < BT_LEVEL_MAX);
	memmove(s + 1, s, (p->n - 1) * sizeof(*s));
	p->n++;
	*s = *root;
	s->m = m;
	s->area = ((struct lunfs_bt_pl *)m->data)->area;
	s->size = BT_AREA_BYTES;
	node_move(s->area, s->size, root->area, root->size);
	node_init(root->area, root->size, level + 1);
	inner_insert(root->area, 0, 0, m->addr);
	root->idx = 0;
}

static void insert_child(const struct bt *bt, const struct node_txn *nt, struct bt_path *p,
			 unsigned at, uint64_t key, uint64_t child, enum bt_split how)
{
	for (;;) {
		struct bt_step *s = &p->s[at];
		struct mblk *right;

		dirty(bt, nt, s);
		if (at == 0 && !inner_fits(s->area, s->size)) {
			grow_root(bt, nt, p);
			s = &p->s[++at];
		}
		if (inner_fits(s->area, s->size)) {
			inner_insert(s->area, s->idx + 1, key, child);
			return;
		}
		right = new_node(bt, nt, node_level(s->area));
		key = inner_split(s->area, s->size, ((struct lunfs_bt_pl *)right->data)->area,
				  s->idx + 1, key, child, how);
		child = right->addr;
		mblk_put(bt->ne->txns, right);
		at--;
	}
}

/* An empty or fresh fork becomes an empty leaf. */
static void make_root(const struct bt *bt, const struct node_txn *nt, struct bt_path *p)
{
	mblk_dirty(nt->h, bt->i->m);
	if (has_tree(bt))
		return;
	lunfs_assert(*fork_format(bt->i, bt->fork) == LUNFS_FORK_EMPTY && p->n == 1);
	*fork_format(bt->i, bt->fork) = LUNFS_FORK_TREE;
	p->s[0].area = fork_area(bt->i, bt->fork);
	p->s[0].idx = 0;
	node_init(p->s[0].area, p->s[0].size, 0);
}

int bt_insert(const struct bt *bt, const struct node_txn *nt, struct bt_path *p, uint64_t key,
	      const void *body, size_t len, enum bt_split how)
{
	unsigned need;
	struct bt_step *s;
	struct mblk *right;

	if (node_level(p->s[0].area) >= BT_LEVEL_MAX)
		return damaged(bt, bt->i->ino);
	make_root(bt, nt, p);
	need = cells_needed(p, len);
	lunfs_assert(need == 0 || (nt->cells && nt->cells->n - nt->cells->taken >= need));
	dirty(bt, nt, bt_leaf(p));
	if (p->n == 1 && need)
		grow_root(bt, nt, p);
	s = bt_leaf(p);
	if (leaf_fits(s->area, s->size, len)) {
		leaf_insert(s->area, s->size, s->idx, key, body, len);
		return 0;
	}
	right = new_node(bt, nt, 0);
	key = leaf_split(s->area, s->size, ((struct lunfs_bt_pl *)right->data)->area, s->idx, key,
			 body, len, how);
	insert_child(bt, nt, p, p->n - 2, key, right->addr, how);
	mblk_put(bt->ne->txns, right);
	return 0;
}

/* ---- removing ----------------------------------------------------------------------- */

unsigned bt_drop_count(struct bt_path *p)
{
	unsigned n = 0;

	if (p->n < 2)
		return 0;
	do
		n++;
	while (n + 1 < p->n && node_items(p->s[p->n - 1 - n].area) == 1);
	return n;
}

/* Is the chunk of this cell's window, the only one there can be, among what was prepared? */
static bool is_prepared(const struct bt *bt, const struct free_res *r, uint64_t cell)
{
	const struct geo *g = geo_of(bt);
	uint64_t group = geo_group_of(g, cell), base = geo_group_blk(g, group);
	uint64_t window_blks = (uint64_t)LUNFS_CHUNK_CELLS * g->cell_blks;
	uint64_t window = (cell - base) / window_blks;

	for (unsigned k = 0; r && k < r->n; k++) {
		uint64_t a = r->addr[k];

		if (a != geo_group_header(g, group) && a >= base &&
		    (a - base) / window_blks == window)
			return true;
	}
	return false;
}

static bool can_drop(const struct bt *bt, const struct node_txn *nt, struct bt_path *p)
{
	unsigned n = bt_drop_count(p);

	for (unsigned k = 0; k < n; k++)
		if (!is_prepared(bt, nt->frees, p->s[p->n - 1 - k].m->addr))
			return false;
	return n > 0;
}

static void give_up(const struct bt *bt, const struct node_txn *nt, struct bt_step *s)
{
	uint64_t addr = s->m->addr, version = mblk_forget(nt->h, s->m);

	s->m = NULL;
	cell_free(nt->h, bt->ne->alloc, nt->frees, addr);
	cell_free_version(bt->ne->alloc, nt->frees, addr, version);
	bt->i->blks -= cell_blks(bt) < bt->i->blks ? cell_blks(bt) : bt->i->blks;
}

void bt_clear_root(const struct bt *bt, const struct node_txn *nt)
{
	mblk_dirty(nt->h, bt->i->m);
	memset(fork_area(bt->i, bt->fork), 0, fork_bytes(bt->fork));
	*fork_format(bt->i, bt->fork) = LUNFS_FORK_EMPTY;
}

void bt_drop_leaf(const struct bt *bt, const struct node_txn *nt, struct bt_path *p)
{
	unsigned n = bt_drop_count(p);
	struct bt_step *s;

	lunfs_assert(n > 0);
	for (; n; n--)
		give_up(bt, nt, &p->s[--p->n]);
	s = &p->s[p->n - 1];
	if (node_items(s->area) == 1) {
		bt_clear_root(bt, nt);
		return;
	}
	dirty(bt, nt, s);
	inner_remove(s->area, s->idx);
}

void bt_remove(const struct bt *bt, const struct node_txn *nt, struct bt_path *p)
{
	struct bt_step *s = bt_leaf(p);

	lunfs_assert(bt_at_item(p));
	if (node_items(s->area) == 1 && can_drop(bt, nt, p)) {
		bt_drop_leaf(bt, nt, p);
		return;
	}
	dirty(bt, nt, s);
	leaf_remove(s->area, s->size, s->idx);
	if (p->n == 1 && node_items(s->area) == 0)
		bt_clear_root(bt, nt);
}

int bt_remove_prepare(const struct bt *bt, struct bt_path *p, unsigned n, struct free_res *frees)
{
	unsigned drop = bt_drop_count(p);
	int rc = 0;

	if (node_items(bt_leaf(p)->area) > n)
		return 0;
	for (unsigned k = 0; k < drop && !rc; k++)
		rc = cell_free_prepare(bt->ne->alloc, frees, p->s[p->n - 1 - k].m->addr);
	return rc;
}
