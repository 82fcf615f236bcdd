/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents of a file: which blocks stand where. Neighbours that go on in both files and device are
 * kept as one item; across leaves only where no leaf is emptied by it. An extent may reach past the
 * key range of its leaf (its key does not), so whoever looks for a block looks for the last key
 * below it, in an earlier leaf if need be.
 */
#include "node/node_impl.h"

#include <errno.h>

/* So many removals in one transaction may empty a leaf that each of them alone does not. */
#define LAST_ITEMS 8u

static struct bt ext_tree(const struct node_env *ne, struct inode *i)
{
	return (struct bt){.ne = ne, .i = i, .fork = FORK_DATA};
}

static uint64_t end_of(const struct ext *e)
{
	return e->lblk + e->len;
}

static int ext_at(const struct bt *bt, struct bt_path *p, struct ext *out)
{
	size_t len;
	const struct lunfs_extent *x = (const void *)bt_body(p, &len);
	const struct bt_step *leaf = bt_leaf(p);
	uint64_t key = bt_key(p);
	struct ext e;

	if (len != sizeof(*x))
		goto out_damaged;
	e = (struct ext){.lblk = key,
			 .blk = le64_get(x->blk),
			 .len = le32_get(x->len),
			 .flags = le32_get(x->flags)};
	if (!blk_range_ok(bt->ne->env->geo, e.blk, e.len) || e.flags & ~LUNFS_EXT_UNWRITTEN ||
	    end_of(&e) < key)
		goto out_damaged;
	if (leaf->idx + 1 < node_items(leaf->area) &&
	    leaf_key(leaf->area, leaf->idx + 1) < end_of(&e))
		goto out_damaged;
	*out = e;
	return 0;
out_damaged:
	log_err("extent-damaged",
		"inode %llu: the extent at block %llu of the file is not a valid one; run "
		"fsck.lunfs",
		ULL(bt->i->ino), ULL(key));
	return -EUCLEAN;
}

static struct lunfs_extent encode(const struct ext *e)
{
	return (struct lunfs_extent){.blk = le64_make(e->blk),
				     .len = le32_make((uint32_t)e->len),
				     .flags = le32_make(e->flags)};
}

static void cut(struct ext *e, uint64_t from, uint64_t to)
{
	e->blk += from - e->lblk;
	e->lblk = from;
	e->len = to - from;
}

/* The extent with the greatest key <= @lblk, and its path. -ENOENT. */
static int floor_ext(const struct bt *bt, uint64_t lblk, struct bt_path *p, struct ext *out)
{
	int rc = bt_seek_floor(bt, lblk, p);

	if (!rc)
		rc = ext_at(bt, p, out);
	if (rc)
		bt_put(bt, p);
	return rc;
}

/* The extent with the least key >= @lblk, and its path. -ENOENT. */
static int next_ext(const struct bt *bt, uint64_t lblk, struct bt_path *p, struct ext *out)
{
	int rc = bt_seek(bt, lblk, p);

	if (!rc)
		rc = bt_settle(bt, p);
	if (!rc)
		rc = ext_at(bt, p, out);
	if (rc)
		bt_put(bt, p);
	return rc;
}

int ext_map(const struct node_env *ne, struct inode *i, uint64_t lblk, struct ext *out)
{
	struct bt bt = ext_tree(ne, i);
	struct bt_path p;
	struct ext e;
	int rc = floor_ext(&bt, lblk, &p, &e);

	if (!rc) {
		bt_put(&bt, &p);
		if (lblk < end_of(&e)) {
			cut(&e, lblk, end_of(&e));
			*out = e;
			return 0;
		}
	} else if (rc != -ENOENT) {
		return rc;
	}
	rc = next_ext(&bt, lblk, &p, &e);
	if (rc && rc != -ENOENT)
		return rc;
	*out = (struct ext){.lblk = lblk, .len = (rc ? UINT64_MAX : e.lblk) - lblk};
	if (!rc)
		bt_put(&bt, &p);
	return 0;
}

int ext_before(const struct node_env *ne, struct inode *i, uint64_t lblk, struct ext *out)
{
	struct bt bt = ext_tree(ne, i);
	struct bt_path p;
	int rc = floor_ext(&bt, lblk, &p, out);

	if (!rc)
		bt_put(&bt, &p);
	return rc;
}

/* Room for @n more in the leaf of @lblk, which is that of @end, too. */
static int leaf_has_room(const struct bt *bt, uint64_t lblk, uint64_t end, unsigned n, bool *room)
{
	size_t each = sizeof(struct lunfs_bt_leaf_slot) + sizeof(struct lunfs_extent);
	struct bt_path p;
	struct bt_step *leaf;
	int rc = bt_seek(bt, lblk, &p);

	if (rc)
		return rc;
	leaf = bt_leaf(&p);
	*room = end <= leaf->range.hi &&
		leaf_fits(leaf->area, leaf->size, n * each - sizeof(struct lunfs_bt_leaf_slot));
	bt_put(bt, &p);
	return 0;
}

/*
 * What of an extent lies behind @end goes to the leaf of @end, which it may reach into from an
 * earlier one. That is read now, and not when the change has begun.
 */
static int rest_is_here(const struct bt *bt, uint64_t end)
{
	struct bt_path p;
	struct ext e;
	int rc = floor_ext(bt, end - 1, &p, &e);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	bt_put(bt, &p);
	if (end >= end_of(&e))
		return 0;
	rc = bt_seek(bt, end, &p);
	if (!rc)
		bt_put(bt, &p);
	return rc;
}

int ext_need(const struct node_env *ne, struct inode *i, uint64_t lblk, uint64_t len,
	     unsigned changes, struct node_need *need)
{
	struct bt bt = ext_tree(ne, i);
	struct node_need all = {0, 0};
	bool room = false;
	int rc = fork_need(ne, i, FORK_DATA, changes, &all);

	if (!rc && changes && i->data_format == LUNFS_FORK_TREE) {
		rc = leaf_has_room(&bt, lblk, lblk + len, changes, &room);
		if (!rc && !room)
			rc = rest_is_here(&bt, lblk + len);
	}
	if (rc)
		return rc;
	if (room) {
		all.credits -= all.cells;
		all.cells = 0;
	}
	*need = all;
	return 0;
}

/* ---- changing ----------------------------------------------------------------------- */

static bool goes_on(const struct geo *g, const struct ext *a, const struct ext *b)
{
	return end_of(a) == b->lblk && a->blk + a->len == b->blk && a->flags == b->flags &&
	       a->len + b->len <= UINT32_MAX && geo_group_of(g, a->blk) == geo_group_of(g, b->blk);
}

static bool same_leaf(struct bt_path *a, struct bt_path *b)
{
	return bt_leaf(a)->area == bt_leaf(b)->area;
}

static void set_ext(const struct bt *bt, const struct node_txn *nt, struct bt_path *p, unsigned idx,
		    const struct ext *e)
{
	struct lunfs_extent x = encode(e);

	bt_dirty_leaf(bt, nt, p);
	leaf_set_key(bt_leaf(p)->area, idx, e->lblk);
	leaf_set_body(bt_leaf(p)->area, idx, &x, sizeof(x));
}

static int put_ext(const struct bt *bt, const struct node_txn *nt, struct bt_path *p,
		   const struct ext *e)
{
	struct lunfs_extent x = encode(e);

	return bt_insert(bt, nt, p, e->lblk, &x, sizeof(x), BT_SPLIT_APPEND);
}

/* What an insertion finds round its place. A path with n = 0: there is no such extent. */
struct around {
	struct bt_path here, prev, next;
	struct ext pe, ne;
};

static void around_put(const struct bt *bt, struct around *a)
{
	bt_put(bt, &a->here);
	bt_put(bt, &a->prev);
	bt_put(bt, &a->next);
}

static int look_around(const struct bt *bt, const struct ext *e, struct around *a)
{
	int rc;

	a->here.n = a->prev.n = a->next.n = 0;
	rc = bt_seek(bt, e->lblk, &a->here);
	if (!rc)
		rc = floor_ext(bt, e->lblk, &a->prev, &a->pe);
	if (!rc || rc == -ENOENT)
		rc = next_ext(bt, e->lblk, &a->next, &a->ne);
	if (rc == -ENOENT)
		rc = 0;
	if (!rc &&
	    ((a->prev.n && end_of(&a->pe) > e->lblk) || (a->next.n && a->ne.lblk < end_of(e)))) {
		log_err("extent-overlap",
			"inode %llu: blocks %llu to %llu of the file are mapped already; run "
			"fsck.lunfs",
			ULL(bt->i->ino), ULL(e->lblk), ULL(end_of(e) - 1));
		rc = -EUCLEAN;
	}
	if (rc)
		around_put(bt, a);
	return rc;
}

static int insert_merged(const struct bt *bt, const struct node_txn *nt, struct around *a,
			 const struct ext *e)
{
	const struct geo *g = bt->ne->env->geo;
	struct ext m = *e;
	bool left = a->prev.n && goes_on(g, &a->pe, &m), right;

	if (left) {
		m = a->pe;
		m.len += e->len;
	}
	right = a->next.n && same_leaf(&a->next, &a->here) && goes_on(g, &m, &a->ne) &&
		(!left || node_items(bt_leaf(&a->next)->area) > 1);
	if (right)
		m.len += a->ne.len;
	if (!left && !right)
		return put_ext(bt, nt, &a->here, &m);
	if (left)
		set_ext(bt, nt, &a->prev, bt_leaf(&a->prev)->idx, &m);
	else
		set_ext(bt, nt, &a->next, bt_leaf(&a->next)->idx, &m);
	if (left && right)
		bt_remove(bt, nt, &a->next);
	return 0;
}

int ext_insert(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
	       const struct ext *e)
{
	struct bt bt = ext_tree(ne, i);
	struct around a;
	int rc;

	lunfs_assert(blk_range_ok(ne->env->geo, e->blk, e->len) && end_of(e) > e->lblk);
	lunfs_assert(i->data_format != LUNFS_FORK_INLINE);
	rc = look_around(&bt, e, &a);
	if (rc)
		return rc;
	rc = insert_merged(&bt, nt, &a, e);
	around_put(&bt, &a);
	if (rc)
		return rc;
	i->blks += e->len;
	inode_update(nt->h, i);
	return 0;
}

/*
 * One extent that is changed in part. held[] keeps all nodes in core that the pieces go to, so that
 * nothing needs to be read once the change has begun.
 */
struct part {
	struct bt_path p, held[2];
	struct ext whole;
	struct ext piece[3]; /* what shall stand in its place */
	unsigned n;
};

static void part_put(const struct bt *bt, struct part *t)
{
	bt_put(bt, &t->p);
	bt_put(bt, &t->held[0]);
	bt_put(bt, &t->held[1]);
}

static int part_get(const struct bt *bt, uint64_t lblk, uint64_t len, struct part *t)
{
	int rc;

	t->n = t->held[0].n = t->held[1].n = 0;
	rc = floor_ext(bt, lblk, &t->p, &t->whole);
	if (rc)
		return rc == -ENOENT ? -EINVAL : rc;
	if (len == 0 || lblk + len < lblk || lblk + len > end_of(&t->whole))
		rc = -EINVAL;
	if (!rc)
		rc = bt_seek(bt, lblk, &t->held[0]);
	if (!rc && lblk + len < end_of(&t->whole))
		rc = bt_seek(bt, lblk + len, &t->held[1]);
	if (rc)
		part_put(bt, t);
	return rc;
}

static void add_piece(struct part *t, uint64_t from, uint64_t to, uint32_t flags)
{
	struct ext *e = &t->piece[t->n];

	if (from == to)
		return;
	*e = t->whole;
	cut(e, from, to);
	e->flags = flags;
	t->n++;
}

static int insert_piece(const struct bt *bt, const struct node_txn *nt, const struct ext *e)
{
	struct bt_path p;
	int rc = bt_seek(bt, e->lblk, &p);

	if (rc)
		return rc;
	rc = put_ext(bt, nt, &p, e);
	bt_put(bt, &p);
	return rc;
}

/* Must the item leave its leaf, whatever becomes of it? */
static bool leaves_leaf(struct part *t)
{
	return t->n == 0 || t->piece[0].lblk > bt_leaf(&t->p)->range.hi;
}

static int replace(const struct bt *bt, const struct node_txn *nt, struct part *t)
{
	struct bt_path p;
	int rc = 0;

	if (t->n == 0) {
		bt_remove(bt, nt, &t->p);
		return 0;
	}
	if (leaves_leaf(t)) {
		for (unsigned k = 0; k < t->n && !rc; k++)
			rc = insert_piece(bt, nt, &t->piece[k]);
		if (!rc)
			rc = bt_seek(bt, t->whole.lblk, &p);
		if (rc)
			return rc;
		bt_remove(bt, nt, &p);
		bt_put(bt, &p);
		return 0;
	}
	set_ext(bt, nt, &t->p, bt_leaf(&t->p)->idx, &t->piece[0]);
	for (unsigned k = 1; k < t->n && !rc; k++)
		rc = insert_piece(bt, nt, &t->piece[k]);
	return rc;
}

/* ---- written and unwritten ---------------------------------------------------------- */

/* The extents next to the one that changes, as far as the changed piece touches them. */
struct beside {
	struct bt_path prev;
	struct ext pe, ne;
	bool has_next; /* in the same leaf */
};

/* One that cannot be read stays as it is. */
static void look_beside(const struct bt *bt, struct part *t, uint32_t flags, struct beside *b)
{
	struct bt_step *leaf = bt_leaf(&t->p);
	struct bt_path next = t->p;

	b->prev.n = 0;
	b->has_next = t->piece[t->n - 1].flags == flags && leaf->idx + 1 < node_items(leaf->area);
	if (b->has_next) {
		bt_leaf(&next)->idx++;
		b->has_next = ext_at(bt, &next, &b->ne) == 0;
	}
	if (t->piece[0].flags == flags && t->whole.lblk)
		floor_ext(bt, t->whole.lblk - 1, &b->prev, &b->pe);
}

/* The last piece swallows the extent behind it. */
static void join_right(const struct bt *bt, const struct node_txn *nt, struct part *t,
		       const struct beside *b)
{
	struct bt_step *leaf = bt_leaf(&t->p);
	struct ext *last = &t->piece[t->n - 1];

	if (!b->has_next || !goes_on(bt->ne->env->geo, last, &b->ne))
		return;
	last->len += b->ne.len;
	bt_dirty_leaf(bt, nt, &t->p);
	leaf_remove(leaf->area, leaf->size, leaf->idx + 1);
}

/* The first piece joins the extent before it, unless its own leaf would be left empty. */
static void join_left(const struct bt *bt, const struct node_txn *nt, struct part *t,
		      struct beside *b)
{
	if (!b->prev.n || !goes_on(bt->ne->env->geo, &b->pe, &t->piece[0]))
		return;
	if (!same_leaf(&b->prev, &t->p) && node_items(bt_leaf(&t->p)->area) == 1)
		return;
	b->pe.len += t->piece[0].len;
	set_ext(bt, nt, &b->prev, bt_leaf(&b->prev)->idx, &b->pe);
	t->n--;
	for (unsigned k = 0; k < t->n; k++)
		t->piece[k] = t->piece[k + 1];
}

static int change_flags(const struct bt *bt, const struct node_txn *nt, struct part *t,
			uint32_t flags)
{
	struct beside b;

	look_beside(bt, t, flags, &b);
	join_right(bt, nt, t, &b);
	join_left(bt, nt, t, &b);
	bt_put(bt, &b.prev);
	return half_done(nt, replace(bt, nt, t));
}

int ext_set_written(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
		    uint64_t lblk, uint64_t len, bool written)
{
	struct bt bt = ext_tree(ne, i);
	uint32_t flags = written ? 0 : LUNFS_EXT_UNWRITTEN;
	struct part t;
	int rc = part_get(&bt, lblk, len, &t);

	if (rc)
		return rc;
	if (t.whole.flags != flags) {
		add_piece(&t, t.whole.lblk, lblk, t.whole.flags);
		add_piece(&t, lblk, lblk + len, flags);
		add_piece(&t, lblk + len, end_of(&t.whole), t.whole.flags);
		rc = change_flags(&bt, nt, &t, flags);
	}
	part_put(&bt, &t);
	if (!rc)
		inode_update(nt->h, i);
	return rc;
}

/* ---- removing ----------------------------------------------------------------------- */

static int part_to_remove(const struct bt *bt, uint64_t lblk, uint64_t len, struct part *t)
{
	int rc = part_get(bt, lblk, len, t);

	if (rc)
		return rc;
	add_piece(t, t->whole.lblk, lblk, t->whole.flags);
	add_piece(t, lblk + len, end_of(&t->whole), t->whole.flags);
	return 0;
}

int ext_remove_prepare(const struct node_env *ne, struct inode *i, uint64_t lblk, uint64_t len,
		       struct free_res *frees)
{
	struct bt bt = ext_tree(ne, i);
	struct part t;
	int rc = part_to_remove(&bt, lblk, len, &t);

	if (rc)
		return rc;
	if (leaves_leaf(&t))
		rc = bt_remove_prepare(&bt, &t.p, LAST_ITEMS, frees);
	part_put(&bt, &t);
	/* If an emptied tree node cannot be given up now, it stays. */
	return rc == -EIO ? rc : 0;
}

int ext_remove(const struct node_env *ne, const struct node_txn *nt, struct inode *i, uint64_t lblk,
	       uint64_t len)
{
	struct bt bt = ext_tree(ne, i);
	struct part t;
	int rc = part_to_remove(&bt, lblk, len, &t);

	if (rc)
		return rc;
	rc = half_done(nt, replace(&bt, nt, &t));
	part_put(&bt, &t);
	if (rc)
		return rc;
	i->blks -= len < i->blks ? len : i->blks;
	inode_update(nt->h, i);
	return 0;
}
