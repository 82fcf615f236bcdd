/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A walker over B+trees as FORMAT.md describes them: every node is checked before it is used, each
 * cell is claimed at most once, so a loop ends at the second claim.
 */
#include "base/bitmap.h"
#include "fsck/fsck.h"
#include <string.h>

#define DEPTH_MAX 12u

struct node_range { /* keys allowed in a node: lo <= key <= hi */
	uint64_t lo, hi;
	int level; /* wanted; -1: the root says */
};

static void walk_node(struct fsck *f, struct tree_visit *v, const uint8_t *area, size_t size,
		      struct node_range r, uint64_t where);

static bool head_ok(const struct lunfs_bt_head *h, size_t size, int level)
{
	size_t slot = le16_get(h->level) ? sizeof(struct lunfs_bt_inner_slot)
					 : sizeof(struct lunfs_bt_leaf_slot);
	size_t end = sizeof(*h) + le16_get(h->items) * slot;

	if (le16_get(h->level) > DEPTH_MAX || (level >= 0 && le16_get(h->level) != level))
		return false;
	if (le16_get(h->level) && le16_get(h->items) == 0)
		return false;
	return end <= le16_get(h->body_off) && le16_get(h->body_off) <= size;
}

static bool key_ok(struct fsck *f, struct tree_visit *v, struct node_range *r, uint64_t key,
		   bool first, uint64_t last, uint64_t where)
{
	if (key >= r->lo && key <= r->hi && (first || key > last))
		return true;
	problem(&f->problems, PROBLEM_TREE_ORDER, where, "%s of inode %llu, key %llu in node %llu",
		v->what, (unsigned long long)v->fi->ino, (unsigned long long)key,
		(unsigned long long)where);
	return false;
}

static void walk_leaf(struct fsck *f, struct tree_visit *v, const uint8_t *area, size_t size,
		      struct node_range r, uint64_t where)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_leaf_slot *s = (const void *)(area + sizeof(*h));
	uint64_t last = 0;

	for (unsigned i = 0; i < le16_get(h->items); i++) {
		uint64_t key = le64_get(s[i].key);
		size_t off = le16_get(s[i].off), len = le16_get(s[i].len);

		if (!key_ok(f, v, &r, key, i == 0, last, where))
			return;
		last = key;
		if (off < le16_get(h->body_off) || off + len > size) {
			problem(&f->problems, PROBLEM_TREE, where, "%s of inode %llu, item %u",
				v->what, (unsigned long long)v->fi->ino, i);
			return;
		}
		v->item(f, v, key, area + off, len);
	}
}

/* Read the child at @addr and make sure that it is this tree's. */
static bool claim_child(struct fsck *f, struct tree_visit *v, uint64_t addr, void *payload)
{
	const struct lunfs_blk_hdr *h = payload;
	uint8_t sector[512];
	uint32_t bit;
	struct fsck_group *fg = map_find(f, addr, &bit);

	if (!fg || !bit_get(fg->cell_used, bit) || bit_get(fg->cell_claimed, bit)) {
		problem(&f->problems, PROBLEM_TREE_NODE, addr,
			"%s of inode %llu refers to cell %llu, which is %s", v->what,
			(unsigned long long)v->fi->ino, (unsigned long long)addr,
			fg && bit_get(fg->cell_used, bit) ? "used elsewhere too" : "not in use");
		return false;
	}
	if (read_cell(f, addr, sector, payload))
		return false;
	if (blk_check(&f->geo, payload, LUNFS_BLK_BTREE, addr) ||
	    le64_get(h->guard) != v->fi->ino || le64_get(h->guard_gen) != v->fi->generation) {
		problem(&f->problems, PROBLEM_TREE_NODE, addr,
			"%s of inode %llu refers to cell %llu, which is not its node", v->what,
			(unsigned long long)v->fi->ino, (unsigned long long)addr);
		return false;
	}
	bit_set(fg->cell_claimed, bit);
	v->fi->counted += f->geo.cell_blks;
	return true;
}

static void walk_inner(struct fsck *f, struct tree_visit *v, const uint8_t *area,
		       struct node_range r, uint64_t where)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_inner_slot *s = (const void *)(area + sizeof(*h));
	unsigned n = le16_get(h->items);
	uint64_t last = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t key = le64_get(s[i].key);
		struct node_range sub = {.lo = key, .hi = r.hi, .level = le16_get(h->level) - 1};
		uint8_t payload[LUNFS_PAYLOAD_BYTES];

		if (i == 0 && key <= r.lo)
			sub.lo = r.lo; /* slot 0 stands for everything below slot 1 */
		else if (!key_ok(f, v, &r, key, i == 0, last, where))
			return;
		last = key;
		if (i + 1 < n && le64_get(s[i + 1].key) > 0)
			sub.hi = le64_get(s[i + 1].key) - 1;
		if (claim_child(f, v, le64_get(s[i].child), payload))
			walk_node(f, v, ((struct lunfs_bt_pl *)payload)->area,
				  sizeof(((struct lunfs_bt_pl *)payload)->area), sub,
				  le64_get(s[i].child));
	}
}

static void walk_node(struct fsck *f, struct tree_visit *v, const uint8_t *area, size_t size,
		      struct node_range r, uint64_t where)
{
	const struct lunfs_bt_head *h = (const void *)area;

	if (!head_ok(h, size, r.level)) {
		problem(&f->problems, PROBLEM_TREE, where, "%s of inode %llu, node %llu", v->what,
			(unsigned long long)v->fi->ino, (unsigned long long)where);
		return;
	}
	if (le16_get(h->level) == 0)
		walk_leaf(f, v, area, size, r, where);
	else
		walk_inner(f, v, area, r, where);
}

void tree_walk(struct fsck *f, struct tree_visit *v, const uint8_t *area, size_t size)
{
	struct node_range r = {.lo = 0, .hi = UINT64_MAX, .level = -1};

	walk_node(f, v, area, size, r, v->fi->ino);
}
