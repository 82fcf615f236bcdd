/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A walker over B+trees as FORMAT.md describes them: every node is checked before it is used, each
 * cell is claimed at most once, so a loop ends at the second claim. What is wrong with the tree
 * itself makes a job of its fork; its good items are visited all the same.
 */
#include "base/bitmap.h"
#include "fsck/trees.h"
#include <string.h>

#define LEVEL_MAX 7
#define AREA_BYTES sizeof(((struct lunfs_bt_pl *)0)->area)

struct node_range { /* keys allowed in a node: lo <= key <= hi */
	uint64_t lo, hi;
	int level; /* wanted; -1: the root says */
};

enum flaw { FLAW_NONE, FLAW_ORDER, FLAW_FORM };

static void walk_node(struct fsck *f, struct tree_visit *v, const uint8_t *area, size_t size,
		      struct node_range r, uint64_t where);

/* ---- a node by itself ------------------------------------------------------------------------ */

static bool head_ok(const struct lunfs_bt_head *h, size_t size, int level)
{
	size_t slot = le16_get(h->level) ? sizeof(struct lunfs_bt_inner_slot)
					 : sizeof(struct lunfs_bt_leaf_slot);
	size_t end = sizeof(*h) + le16_get(h->items) * slot;

	if (le16_get(h->level) > LEVEL_MAX || (level >= 0 && le16_get(h->level) != level))
		return false;
	if (le16_get(h->level) &&
	    (le16_get(h->items) == 0 || le16_get(h->body_off) != size || le16_get(h->dead)))
		return false;
	return end <= le16_get(h->body_off) && le16_get(h->body_off) <= size;
}

/* Bodies lie inside, do not overlap, and fill their space together with what is dead. */
static bool bodies_ok(const uint8_t *area, size_t size)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_leaf_slot *s = (const void *)(area + sizeof(*h));
	uint8_t taken[AREA_BYTES] = {0};
	size_t sum = le16_get(h->dead);

	for (unsigned i = 0; i < le16_get(h->items); i++) {
		size_t off = le16_get(s[i].off), len = le16_get(s[i].len);

		if (off < le16_get(h->body_off) || off + len > size || memchr(taken + off, 1, len))
			return false;
		memset(taken + off, 1, len);
		sum += len;
	}
	return sum == size - le16_get(h->body_off);
}

static uint64_t slot_key(const uint8_t *area, unsigned i)
{
	const struct lunfs_bt_head *h = (const void *)area;

	if (le16_get(h->level) == 0)
		return le64_get(((const struct lunfs_bt_leaf_slot *)(area + sizeof(*h)))[i].key);
	return le64_get(((const struct lunfs_bt_inner_slot *)(area + sizeof(*h)))[i].key);
}

static bool key_ok(const uint8_t *area, unsigned i, struct node_range r)
{
	bool leaf = le16_get(((const struct lunfs_bt_head *)area)->level) == 0;
	uint64_t key = slot_key(area, i);

	if (i == 0)
		return leaf ? key >= r.lo && key <= r.hi : key == 0;
	return key > slot_key(area, i - 1) && key <= r.hi && (leaf || key > r.lo) && key >= r.lo;
}

static enum flaw node_flaw(const uint8_t *area, size_t size, struct node_range r)
{
	const struct lunfs_bt_head *h = (const void *)area;

	if (!head_ok(h, size, r.level) || (le16_get(h->level) == 0 && !bodies_ok(area, size)))
		return FLAW_FORM;
	for (unsigned i = 0; i < le16_get(h->items); i++)
		if (!key_ok(area, i, r))
			return FLAW_ORDER;
	return FLAW_NONE;
}

int tree_single(const uint8_t *area, size_t size, uint64_t *key, void *body, size_t len)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_leaf_slot *s = (const void *)(area + sizeof(*h));
	struct node_range r = {.lo = 0, .hi = UINT64_MAX, .level = 0};

	if (le16_get(h->items) > 1 || node_flaw(area, size, r))
		return -1;
	if (le16_get(h->items) == 0)
		return 0;
	if (le16_get(s->len) != len)
		return -1;
	*key = slot_key(area, 0);
	memcpy(body, area + le16_get(s->off), len);
	return 1;
}

/* ---- what is found --------------------------------------------------------------------------- */

static void damaged(struct fsck *f, struct tree_visit *v, enum problem_code code, uint64_t where,
		    const char *what)
{
	bool fix = problem_item(&f->problems, code, where, v->xattr, "%s of inode %llu: %s %llu",
				v->what, ULL(v->fi->ino), what, ULL(where));

	v->damaged = v->lost = true;
	v->rebuild |= fix;
	v->kept |= !fix;
}

static void claim(struct fsck *f, struct tree_visit *v, uint64_t addr)
{
	uint32_t bit;
	struct fsck_group *fg = map_find(f, addr, &bit);

	bit_set(fg->cell_claimed, bit);
	v->counted += f->geo.cell_blks;
	cells_add(&v->cells, addr, false);
}

static bool own_head(const struct fsck *f, const struct tree_visit *v, uint64_t addr,
		     const void *payload)
{
	const struct lunfs_blk_hdr *h = payload;

	return le32_get(h->magic) == LUNFS_BLK_MAGIC && le16_get(h->type) == LUNFS_BLK_BTREE &&
	       !memcmp(h->vol_id, f->geo.vol_id, sizeof(h->vol_id)) && le64_get(h->addr) == addr &&
	       le64_get(h->guard) == v->fi->ino && le64_get(h->guard_gen) == v->fi->generation &&
	       le16_get(h->reserved0) == 0 && le32_get(h->reserved1) == 0;
}

/* Only the checksum is wrong, and the node is one that stands well in its place. */
static bool resealed(struct fsck *f, struct tree_visit *v, uint64_t addr, uint8_t *payload,
		     struct node_range r)
{
	if (!own_head(f, v, addr, payload) ||
	    node_flaw(((struct lunfs_bt_pl *)payload)->area, AREA_BYTES, r))
		return false;
	if (problem(&f->problems, PROBLEM_CHECKSUM, addr, "%s of inode %llu, node %llu", v->what,
		    ULL(v->fi->ino), ULL(addr)))
		write_cell(f, addr, payload, false);
	else if (fsck_repairs(f))
		v->damaged = v->kept = true;
	return true;
}

/* Read the child at @addr and make sure that it is this tree's. */
static bool claim_child(struct fsck *f, struct tree_visit *v, uint64_t addr, void *payload,
			struct node_range r)
{
	uint8_t sector[LUNFS_BLOCK_BYTES];
	uint32_t bit;
	struct fsck_group *fg = map_find(f, addr, &bit);

	if (!fg || !bit_get(fg->cell_used, bit) || is_place(f, addr)) {
		if (missed_cell(f, addr, v->fi->ino, v->fi->generation)) {
			v->damaged = true; /* counts say nothing */
			return false;
		}
		damaged(f, v, PROBLEM_TREE_NODE, addr, "no cell in use is at");
	} else if (bit_get(fg->cell_claimed, bit)) {
		damaged(f, v, PROBLEM_TREE_NODE, addr, "something else uses cell");
	} else if (read_cell(f, addr, sector, payload)) {
		damaged(f, v, PROBLEM_TREE_NODE, addr, "no way to read cell");
	} else if (blk_check(&f->geo, payload, LUNFS_BLK_BTREE, addr) ||
		   !own_head(f, v, addr, payload)) {
		if (resealed(f, v, addr, payload, r)) {
			claim(f, v, addr);
			return true;
		}
		damaged(f, v, PROBLEM_TREE_NODE, addr, "no node of it stands in cell");
	} else {
		claim(f, v, addr);
		return true;
	}
	return false;
}

bool tree_node(struct fsck *f, uint64_t addr, uint64_t ino, uint64_t generation, void *payload)
{
	const struct lunfs_blk_hdr *h = payload;
	uint8_t sector[LUNFS_BLOCK_BYTES];

	return peek_cell(f, addr, sector, payload) == 0 &&
	       blk_check(&f->geo, payload, LUNFS_BLK_BTREE, addr) == 0 &&
	       le64_get(h->guard) == ino && le64_get(h->guard_gen) == generation;
}

/* ---- the walk -------------------------------------------------------------------------------- */

/* Items that stand in order, whatever is wrong with others. */
static void walk_leaf(struct fsck *f, struct tree_visit *v, const uint8_t *area, size_t size,
		      struct node_range r)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_leaf_slot *s = (const void *)(area + sizeof(*h));

	for (unsigned i = 0; i < le16_get(h->items); i++) {
		size_t off = le16_get(s[i].off), len = le16_get(s[i].len);

		if (key_ok(area, i, r) && off >= le16_get(h->body_off) && off + len <= size &&
		    slot_key(area, i) >= v->next) {
			v->next = slot_key(area, i) + 1;
			v->item(f, v, slot_key(area, i), area + off, len);
		}
	}
}

static void walk_inner(struct fsck *f, struct tree_visit *v, const uint8_t *area,
		       struct node_range r)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_inner_slot *s = (const void *)(area + sizeof(*h));
	unsigned n = le16_get(h->items);

	for (unsigned i = 0; i < n; i++) {
		struct node_range sub = {.lo = i ? slot_key(area, i) : r.lo,
					 .hi = r.hi,
					 .level = le16_get(h->level) - 1};
		uint8_t payload[LUNFS_PAYLOAD_BYTES];

		if (i + 1 < n && key_ok(area, i + 1, r))
			sub.hi = slot_key(area, i + 1) - 1;
		if (!key_ok(area, i, r))
			sub.lo = r.lo;
		if (claim_child(f, v, le64_get(s[i].child), payload, sub))
			walk_node(f, v, ((struct lunfs_bt_pl *)payload)->area, AREA_BYTES, sub,
				  le64_get(s[i].child));
	}
}

static void walk_node(struct fsck *f, struct tree_visit *v, const uint8_t *area, size_t size,
		      struct node_range r, uint64_t where)
{
	const struct lunfs_bt_head *h = (const void *)area;
	enum flaw flaw = node_flaw(area, size, r);

	if (flaw == FLAW_FORM)
		damaged(f, v, PROBLEM_TREE, where, "node");
	else if (flaw == FLAW_ORDER)
		damaged(f, v, PROBLEM_TREE_ORDER, where, "node");
	if (!head_ok(h, size, r.level))
		return;
	if (le16_get(h->level) == 0)
		walk_leaf(f, v, area, size, r);
	else
		walk_inner(f, v, area, r);
}

void tree_walk(struct fsck *f, struct tree_visit *v, const uint8_t *area, size_t size)
{
	struct node_range r = {.lo = 0, .hi = UINT64_MAX, .level = -1};

	walk_node(f, v, area, size, r, v->fi->ino);
}

/* ---- cells of a tree that was walked --------------------------------------------------------- */

static void list_cells(struct fsck *f, const struct fsck_inode *fi, const uint8_t *area,
		       size_t size, struct cell_list *out)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_inner_slot *s = (const void *)(area + sizeof(*h));
	uint8_t payload[LUNFS_PAYLOAD_BYTES];
	int level = le16_get(h->level);

	if (level == 0 || !head_ok(h, size, level))
		return;
	for (unsigned i = 0; i < le16_get(h->items); i++) {
		const struct lunfs_bt_pl *pl = (const void *)payload;
		uint64_t addr = le64_get(s[i].child);

		/* No more than were counted, or nodes are shared. */
		if (out->n * f->geo.cell_blks >= fi->counted ||
		    !tree_node(f, addr, fi->ino, fi->generation, payload) ||
		    le16_get(((const struct lunfs_bt_head *)pl->area)->level) != level - 1)
			continue;
		cells_add(out, addr, false);
		list_cells(f, fi, pl->area, AREA_BYTES, out);
	}
}

void tree_cells(struct fsck *f, const struct fsck_inode *fi, const struct lunfs_inode_pl *pl,
		bool xattr, struct cell_list *out)
{
	if (xattr && pl->xattr_format == LUNFS_FORK_TREE)
		list_cells(f, fi, pl->xattr_fork, sizeof(pl->xattr_fork), out);
	else if (!xattr && pl->data_format == LUNFS_FORK_TREE)
		list_cells(f, fi, pl->data_fork, sizeof(pl->data_fork), out);
}
