/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one B+tree of lunfs: u64 keys, leaf bodies of variable length, the root in a fork of an
 * inode, all other nodes in cells guarded by that inode.
 *
 * Reading: a path is a root-to-leaf walk that holds a reference to every node on it; each node was
 * checked when it was read (structure, level one below its parent's, keys inside the range that the
 * parent gives it). Leaves may be empty; where an item is wanted, empty ones are stepped over.
 *
 * Changing: everything is looked at through a path first; what is done then needs no I/O and cannot
 * fail. New cells come from nt->cells, cells given up go to nt->frees if it was prepared for them.
 */
#ifndef NODE_BTREE_H
#define NODE_BTREE_H

#include "node/node.h"

#define BT_LEVEL_MAX 7u
#define BT_DEPTH_MAX (BT_LEVEL_MAX + 1u)
#define BT_AREA_BYTES (sizeof(((struct lunfs_bt_pl *)0)->area))

/* ---- one node (bt_node.c): pure, in memory ------------------------------------------ */

struct bt_range { /* lo <= key <= hi */
	uint64_t lo, hi;
};

/*
 * Check the node in @area of @size bytes: everything that the functions below rely on. @level: the
 * level it must have, or -1: any up to BT_LEVEL_MAX. 0 or -EUCLEAN.
 */
int node_check(const struct geo *g, const uint8_t *area, size_t size, int level,
	       struct bt_range range);
void node_init(uint8_t *area, size_t size, unsigned level);
unsigned node_level(const uint8_t *area);
unsigned node_items(const uint8_t *area);
uint64_t leaf_key(const uint8_t *area, unsigned idx);
const uint8_t *leaf_body(const uint8_t *area, unsigned idx, size_t *len);
unsigned leaf_find(const uint8_t *area, uint64_t key); /* first item with a key >= @key */
bool leaf_fits(const uint8_t *area, size_t size, size_t body_len);
void leaf_insert(uint8_t *area, size_t size, unsigned idx, uint64_t key, const void *body,
		 size_t len);
void leaf_remove(uint8_t *area, size_t size, unsigned idx);
void leaf_set_key(uint8_t *area, unsigned idx, uint64_t key);
void leaf_set_body(uint8_t *area, unsigned idx, const void *body, size_t len); /* same length */

uint64_t inner_key(const uint8_t *area, unsigned idx);
uint64_t inner_child(const uint8_t *area, unsigned idx);
unsigned inner_find(const uint8_t *area, uint64_t key); /* the child whose range has @key */
bool inner_fits(const uint8_t *area, size_t size);
void inner_insert(uint8_t *area, unsigned idx, uint64_t key, uint64_t child);
void inner_remove(uint8_t *area, unsigned idx); /* at least one stays */

/* Where an overfull node is cut. */
enum bt_split {
	BT_SPLIT_EVEN,	 /* halves: keys in random order */
	BT_SPLIT_APPEND, /* behind the last item of a node: leave it full; else halves */
	BT_SPLIT_RUN,	 /* right behind the new item: many more with following keys will come */
};

/*
 * Insert an item into a full leaf by moving the upper part to @right (empty, BT_AREA_BYTES).
 * Returns the least key of @right.
 */
uint64_t leaf_split(uint8_t *area, size_t size, uint8_t *right, unsigned idx, uint64_t key,
		    const void *body, size_t len, enum bt_split how);
uint64_t inner_split(uint8_t *area, size_t size, uint8_t *right, unsigned idx, uint64_t key,
		     uint64_t child, enum bt_split how);
/* Copy the whole node in @src to the larger @dst. */
void node_move(uint8_t *dst, size_t dst_size, const uint8_t *src, size_t src_size);

/* ---- the tree (btree.c) ------------------------------------------------------------- */

struct bt {
	const struct node_env *ne;
	struct inode *i;
	enum node_fork fork;
	bool ahead; /* it is gone through: bt_next_leaf() reads several at once */
};

struct bt_step {
	struct mblk *m; /* NULL: the root */
	uint8_t *area;
	size_t size;
	unsigned idx; /* child taken; in the leaf: item, may be one behind the last */
	struct bt_range range;
};

struct bt_path {
	unsigned n; /* 0: nothing is held */
	struct bt_step s[BT_DEPTH_MAX];
};

/*
 * To the leaf for @key, leaf idx = first item with a key >= @key (maybe behind the last). -EUCLEAN,
 * -EIO: nothing is held.
 */
int bt_seek(const struct bt *bt, uint64_t key, struct bt_path *p);
int bt_seek_last(const struct bt *bt, struct bt_path *p); /* leaf idx behind the last item */
void bt_put(const struct bt *bt, struct bt_path *p);	  /* harmless if nothing is held */

/* The leaf at the end of the path. */
struct bt_step *bt_leaf(struct bt_path *p);
bool bt_at_item(struct bt_path *p);
uint64_t bt_key(struct bt_path *p);
const uint8_t *bt_body(struct bt_path *p, size_t *len);

/*
 * Neighbouring leaves: idx at the first item or behind the last one. -ENOENT: none; then and after
 * another error nothing is held.
 */
int bt_next_leaf(const struct bt *bt, struct bt_path *p);
int bt_prev_leaf(const struct bt *bt, struct bt_path *p);
/* Make the path point to an item: it or the next one, -ENOENT; the last one with a key <= @key. */
int bt_settle(const struct bt *bt, struct bt_path *p);
int bt_seek_floor(const struct bt *bt, uint64_t key, struct bt_path *p);

/*
 * Insert at @p, which comes from bt_seek(key) with nothing changed since. -EUCLEAN: tree too deep,
 * nothing was changed. Enough cells are reserved (asserted). The path is only good for bt_put().
 */
int bt_insert(const struct bt *bt, const struct node_txn *nt, struct bt_path *p, uint64_t key,
	      const void *body, size_t len, enum bt_split how);
/*
 * Remove the item at @p. A node that this empties is given up if nt->frees was prepared for it,
 * with the path then good for bt_put() only; else idx points to the item that followed in this
 * leaf.
 */
void bt_remove(const struct bt *bt, const struct node_txn *nt, struct bt_path *p);
/* Collect the cells that removing @n items from idx on empties in this leaf (and its parents). */
int bt_remove_prepare(const struct bt *bt, struct bt_path *p, unsigned n, struct free_res *frees);
/* Drop the leaf at @p and all nodes that its absence empties; nt->frees holds them. */
void bt_drop_leaf(const struct bt *bt, const struct node_txn *nt, struct bt_path *p);
/* How many nodes bt_drop_leaf() would give up; they are the last ones of the path. */
unsigned bt_drop_count(struct bt_path *p);
void bt_clear_root(const struct bt *bt, const struct node_txn *nt); /* fork becomes EMPTY */
/* Announce a change of the leaf's items in place (leaf_set_key, leaf_set_body). */
void bt_dirty_leaf(const struct bt *bt, const struct node_txn *nt, struct bt_path *p);

/* Depth of the tree: 1 = all in the root. From the root alone; -EUCLEAN. */
int bt_depth(const struct bt *bt, unsigned *depth);

#endif
