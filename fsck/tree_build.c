/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Items of trees in memory: gathered from nodes of whatever kind, sorted, and written as a new tree
 * of full leaves. Nothing is written before there are cells enough for all of it.
 */
#include "base/log.h"
#include "fsck/trees.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AREA_BYTES sizeof(((struct lunfs_bt_pl *)0)->area)
#define HEAD sizeof(struct lunfs_bt_head)
#define LSLOT sizeof(struct lunfs_bt_leaf_slot)
#define ISLOT sizeof(struct lunfs_bt_inner_slot)

/* ---- lists ----------------------------------------------------------------------------------- */

void *room_for_one(void *array, size_t n, size_t *room, size_t size)
{
	if (n < *room)
		return array;
	*room = *room ? *room * 2 : 16;
	array = reallocarray(array, *room, size);
	lunfs_assert(array);
	return array;
}

void items_add(struct items *l, uint64_t key, const void *body, size_t len, bool found)
{
	if (l->used + len >= l->size) { /* there is an arena for an item without a body, too */
		l->size = (l->size + len) * 2 + 64;
		l->arena = realloc(l->arena, l->size);
		lunfs_assert(l->arena);
	}
	l->it = room_for_one(l->it, l->n, &l->room, sizeof(*l->it));
	l->it[l->n++] =
	    (struct item){.key = key, .off = l->used, .len = (uint16_t)len, .found = found};
	if (len)
		memcpy(l->arena + l->used, body, len);
	l->used += len;
}

uint8_t *items_body(const struct items *l, size_t i)
{
	return l->arena + l->it[i].off;
}

static int by_key(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	if (x->found != y->found)
		return x->found - y->found;
	return x->off < y->off ? -1 : x->off > y->off;
}

void items_sort(struct items *l)
{
	if (l->n)
		qsort(l->it, l->n, sizeof(*l->it), by_key);
}

void items_squeeze(struct items *l)
{
	size_t n = 0;

	items_sort(l);
	for (size_t i = 0; i < l->n; i++)
		if (!l->it[i].drop && (n == 0 || l->it[i].key != l->it[n - 1].key))
			l->it[n++] = l->it[i];
	l->n = n;
}

void items_free(struct items *l)
{
	free(l->it);
	free(l->arena);
	*l = (struct items){0};
}

void cells_add(struct cell_list *l, uint64_t addr, bool found)
{
	l->c = room_for_one(l->c, l->n, &l->room, sizeof(*l->c));
	l->c[l->n++] = (struct owned_cell){addr, found};
}

/* ---- gathering ------------------------------------------------------------------------------- */

/* What can be made out of a leaf, even of a damaged one. */
static void gather_area(const uint8_t *area, size_t size, bool found, struct items *l)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_leaf_slot *s = (const void *)(area + HEAD);
	size_t max = (size - HEAD) / LSLOT;

	if (le16_get(h->level))
		return;
	for (unsigned i = 0; i < le16_get(h->items) && i < max; i++) {
		size_t off = le16_get(s[i].off), len = le16_get(s[i].len);

		if (off >= HEAD + (i + 1) * LSLOT && off + len <= size)
			items_add(l, le64_get(s[i].key), area + off, len, found);
	}
}

int tree_gather(struct fsck *f, const struct lunfs_inode_pl *pl, bool xattr,
		const struct cell_list *own, struct items *l)
{
	uint64_t ino = le64_get(pl->hdr.addr), gen = le64_get(pl->generation);
	uint8_t payload[LUNFS_PAYLOAD_BYTES];

	if (xattr && pl->xattr_format == LUNFS_FORK_TREE)
		gather_area(pl->xattr_fork, sizeof(pl->xattr_fork), false, l);
	if (!xattr && pl->data_format == LUNFS_FORK_TREE)
		gather_area(pl->data_fork, sizeof(pl->data_fork), false, l);
	for (size_t i = 0; i < own->n; i++)
		if (tree_node(f, own->c[i].addr, ino, gen, payload))
			gather_area(((struct lunfs_bt_pl *)payload)->area, AREA_BYTES,
				    own->c[i].found, l);
	items_sort(l);
	return 0;
}

/* ---- building -------------------------------------------------------------------------------- */

struct build {
	struct fsck *f;
	uint64_t ino, generation;
	uint64_t *cell; /* for the nodes, in the order in which they are made */
	size_t made;
};

struct entry { /* a node that was made, for the level above */
	uint64_t key, child;
};

static void put_head(uint8_t *area, size_t size, unsigned level, size_t items, size_t body_off)
{
	struct lunfs_bt_head *h = (void *)area;

	(void)size;
	h->level = le16_make((uint16_t)level);
	h->items = le16_make((uint16_t)items);
	h->body_off = le16_make((uint16_t)body_off);
}

/* How many items from @from on fit in a leaf of @size bytes. */
static size_t leaf_takes(const struct items *l, size_t from, size_t size)
{
	size_t have = HEAD, i = from;

	while (i < l->n && have + LSLOT + l->it[i].len <= size)
		have += LSLOT + l->it[i++].len;
	return i - from;
}

static void put_leaf(uint8_t *area, size_t size, const struct items *l, size_t from, size_t n)
{
	struct lunfs_bt_leaf_slot *s = (void *)(area + HEAD);
	size_t off = size;

	memset(area, 0, size);
	for (size_t i = 0; i < n; i++) {
		const struct item *it = &l->it[from + i];

		off -= it->len;
		memcpy(area + off, items_body(l, from + i), it->len);
		s[i] = (struct lunfs_bt_leaf_slot){.key = le64_make(it->key),
						   .off = le16_make((uint16_t)off),
						   .len = le16_make(it->len)};
	}
	put_head(area, size, 0, n, off);
}

static void put_inner(uint8_t *area, size_t size, unsigned level, const struct entry *e, size_t n)
{
	struct lunfs_bt_inner_slot *s = (void *)(area + HEAD);

	memset(area, 0, size);
	for (size_t i = 0; i < n; i++)
		s[i] = (struct lunfs_bt_inner_slot){.key = le64_make(i ? e[i].key : 0),
						    .child = le64_make(e[i].child)};
	put_head(area, size, level, n, size);
}

static int put_cell(struct build *b, struct lunfs_bt_pl *pl, uint64_t *addr)
{
	*addr = b->cell[b->made++];
	blk_init(&b->f->geo, pl, LUNFS_BLK_BTREE, *addr, 0, b->ino, b->generation);
	return write_cell(b->f, *addr, pl, false);
}

#define INNER_MAX ((AREA_BYTES - HEAD) / ISLOT)

static size_t leaves_of(const struct items *l)
{
	size_t n = 0;

	for (size_t at = 0; at < l->n; n++)
		at += leaf_takes(l, at, AREA_BYTES);
	return n;
}

/* Nodes besides the root, which has room for @top children. */
static size_t nodes_needed(const struct items *l, size_t size)
{
	size_t top = (size - HEAD) / ISLOT, level, all;

	if (leaf_takes(l, 0, size) == l->n)
		return 0;
	level = all = leaves_of(l);
	while (level > top) {
		level = (level + INNER_MAX - 1) / INNER_MAX;
		all += level;
	}
	return all;
}

static int make_leaves(struct build *b, const struct items *l, struct entry *e, size_t *n)
{
	struct lunfs_bt_pl pl;
	int rc = 0;

	*n = 0;
	for (size_t at = 0; at < l->n && rc == 0; (*n)++) {
		size_t some = leaf_takes(l, at, AREA_BYTES);

		put_leaf(pl.area, AREA_BYTES, l, at, some);
		e[*n].key = l->it[at].key;
		rc = put_cell(b, &pl, &e[*n].child);
		at += some;
	}
	return rc;
}

/* One level of interior nodes over the @n below; they take their place in @e. */
static int make_level(struct build *b, unsigned level, struct entry *e, size_t *n)
{
	struct lunfs_bt_pl pl;
	size_t made = 0;
	int rc = 0;

	for (size_t at = 0; at < *n && rc == 0; made++) {
		size_t some = *n - at < INNER_MAX ? *n - at : INNER_MAX;

		put_inner(pl.area, AREA_BYTES, level, e + at, some);
		e[made].key = e[at].key;
		rc = put_cell(b, &pl, &e[made].child);
		at += some;
	}
	*n = made;
	return rc;
}

static int make_tree(struct build *b, const struct items *l, uint8_t *root, size_t size)
{
	struct entry *e = calloc(leaves_of(l) + 1, sizeof(*e));
	unsigned level = 1;
	size_t n;
	int rc;

	lunfs_assert(e);
	rc = make_leaves(b, l, e, &n);
	for (; rc == 0 && n > (size - HEAD) / ISLOT; level++)
		rc = make_level(b, level, e, &n);
	if (rc == 0)
		put_inner(root, size, level, e, n);
	free(e);
	return rc;
}

/* Own cells first. All or none. */
static int get_cells(struct fsck *f, const struct cell_list *own, size_t need, uint64_t *cell)
{
	size_t n = 0;
	int rc = 0;

	for (; n < need && n < own->n; n++)
		cell[n] = own->c[n].addr;
	for (; n < need && rc == 0; n += rc == 0)
		rc = take_cell(f, &cell[n]);
	while (rc && n > own->n)
		drop_cell(f, cell[--n]);
	return rc;
}

static int by_addr(const void *a, const void *b)
{
	const struct owned_cell *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* In order and each once: nothing must be written twice. */
static struct cell_list own_cells(const struct cell_list *own)
{
	struct cell_list l = {0};

	for (size_t i = 0; i < own->n; i++)
		cells_add(&l, own->c[i].addr, own->c[i].found);
	if (l.n)
		qsort(l.c, l.n, sizeof(*l.c), by_addr);
	for (size_t i = 0, all = l.n, n = 0; i < all; i++) {
		if (n == 0 || l.c[i].addr != l.c[n - 1].addr)
			l.c[n++] = l.c[i];
		l.n = n;
	}
	return l;
}

static void set_format(struct lunfs_inode_pl *pl, bool xattr, uint8_t format)
{
	if (xattr)
		pl->xattr_format = format;
	else
		pl->data_format = format;
}

int tree_build(struct fsck *f, struct lunfs_inode_pl *pl, bool xattr, const struct items *l,
	       const struct cell_list *own, size_t *cells)
{
	uint8_t *root = xattr ? pl->xattr_fork : pl->data_fork;
	size_t size = xattr ? sizeof(pl->xattr_fork) : sizeof(pl->data_fork);
	size_t need = nodes_needed(l, size);
	struct build b = {
	    .f = f, .ino = le64_get(pl->hdr.addr), .generation = le64_get(pl->generation)};
	struct cell_list mine = own_cells(own);
	int rc;

	b.cell = calloc(need + 1, sizeof(*b.cell));
	lunfs_assert(b.cell);
	rc = get_cells(f, &mine, need, b.cell);
	if (rc == 0) {
		set_format(pl, xattr, l->n ? LUNFS_FORK_TREE : LUNFS_FORK_EMPTY);
		memset(root, 0, size);
		if (need)
			rc = make_tree(&b, l, root, size);
		else if (l->n)
			put_leaf(root, size, l, 0, l->n);
		for (size_t i = need; i < mine.n; i++)
			drop_cell(f, mine.c[i].addr);
		*cells = need;
	}
	free(b.cell);
	free(mine.c);
	return rc;
}
