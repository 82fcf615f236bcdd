/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One node of a B+tree in its area: checking, finding, inserting, removing, splitting. Nothing in
 * here knows of cells or transactions.
 *
 * node_check() is the gate: after it every offset and length in the node stays inside the area and
 * all bodies together fit it. It does not look for bodies that overlap, so what moves bodies copies
 * them one by one from an image of the node, which is safe whatever they are.
 */
#include "base/log.h"
#include "node/btree.h"

#include <errno.h>
#include <string.h>

#define HEAD sizeof(struct lunfs_bt_head)
#define LSLOT sizeof(struct lunfs_bt_leaf_slot)
#define ISLOT sizeof(struct lunfs_bt_inner_slot)
#define LEAF_ITEMS_MAX (BT_AREA_BYTES / LSLOT)
#define INNER_ITEMS_MAX (BT_AREA_BYTES / ISLOT)

static struct lunfs_bt_head *head(uint8_t *area)
{
	return (struct lunfs_bt_head *)area;
}

static const struct lunfs_bt_head *chead(const uint8_t *area)
{
	return (const struct lunfs_bt_head *)area;
}

static struct lunfs_bt_leaf_slot *lslot(uint8_t *area, unsigned idx)
{
	return (struct lunfs_bt_leaf_slot *)(area + HEAD) + idx;
}

static const struct lunfs_bt_leaf_slot *clslot(const uint8_t *area, unsigned idx)
{
	return (const struct lunfs_bt_leaf_slot *)(area + HEAD) + idx;
}

static struct lunfs_bt_inner_slot *islot(uint8_t *area, unsigned idx)
{
	return (struct lunfs_bt_inner_slot *)(area + HEAD) + idx;
}

static const struct lunfs_bt_inner_slot *cislot(const uint8_t *area, unsigned idx)
{
	return (const struct lunfs_bt_inner_slot *)(area + HEAD) + idx;
}

static void set_items(uint8_t *area, size_t n)
{
	head(area)->items = le16_make((uint16_t)n);
}

/* ---- checking ----------------------------------------------------------------------- */

static int check_leaf(const uint8_t *area, size_t size, struct bt_range range)
{
	unsigned n = node_items(area), body_off = le16_get(chead(area)->body_off);
	size_t bodies = le16_get(chead(area)->dead);
	uint64_t least = range.lo;

	for (unsigned i = 0; i < n; i++) {
		const struct lunfs_bt_leaf_slot *s = clslot(area, i);
		uint64_t key = le64_get(s->key);
		size_t off = le16_get(s->off), len = le16_get(s->len);

		if (key < least || key > range.hi || (i && key == leaf_key(area, i - 1)))
			return -EUCLEAN;
		if (off < body_off || off + len > size)
			return -EUCLEAN;
		least = key;
		bodies += len;
	}
	return bodies == size - body_off ? 0 : -EUCLEAN;
}

static int check_inner(const struct geo *g, const uint8_t *area, size_t size, struct bt_range range)
{
	unsigned n = node_items(area);

	if (n == 0 || le16_get(chead(area)->body_off) != size || le16_get(chead(area)->dead))
		return -EUCLEAN;
	if (inner_key(area, 0) != 0)
		return -EUCLEAN;
	for (unsigned i = 0; i < n; i++) {
		uint64_t key = inner_key(area, i), child = inner_child(area, i);

		if (i && (key <= inner_key(area, i - 1) || key <= range.lo || key > range.hi))
			return -EUCLEAN;
		if (child < g->group0_blk || !cell_addr_ok(g, child))
			return -EUCLEAN;
	}
	return 0;
}

int node_check(const struct geo *g, const uint8_t *area, size_t size, int level,
	       struct bt_range range)
{
	unsigned have = node_level(area);
	size_t slot = have ? ISLOT : LSLOT;
	size_t end = HEAD + node_items(area) * slot;

	if (have > BT_LEVEL_MAX || (level >= 0 && have != (unsigned)level))
		return -EUCLEAN;
	if (end > le16_get(chead(area)->body_off) || le16_get(chead(area)->body_off) > size)
		return -EUCLEAN;
	return have ? check_inner(g, area, size, range) : check_leaf(area, size, range);
}

/* ---- looking ------------------------------------------------------------------------ */

unsigned node_level(const uint8_t *area)
{
	return le16_get(chead(area)->level);
}

unsigned node_items(const uint8_t *area)
{
	return le16_get(chead(area)->items);
}

uint64_t leaf_key(const uint8_t *area, unsigned idx)
{
	return le64_get(clslot(area, idx)->key);
}

const uint8_t *leaf_body(const uint8_t *area, unsigned idx, size_t *len)
{
	const struct lunfs_bt_leaf_slot *s = clslot(area, idx);

	*len = le16_get(s->len);
	return area + le16_get(s->off);
}

unsigned leaf_find(const uint8_t *area, uint64_t key)
{
	unsigned lo = 0, hi = node_items(area);

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (leaf_key(area, mid) < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

uint64_t inner_key(const uint8_t *area, unsigned idx)
{
	return le64_get(cislot(area, idx)->key);
}

uint64_t inner_child(const uint8_t *area, unsigned idx)
{
	return le64_get(cislot(area, idx)->child);
}

unsigned inner_find(const uint8_t *area, uint64_t key)
{
	unsigned lo = 1, hi = node_items(area); /* the first slot behind 0 with a key > @key */

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (inner_key(area, mid) <= key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo - 1;
}

/* ---- leaves ------------------------------------------------------------------------- */

struct leaf_list { /* all items of a leaf, bodies in an image of it or outside */
	uint8_t image[BT_AREA_BYTES];
	unsigned n;
	struct {
		uint64_t key;
		const uint8_t *body;
		size_t len;
	} it[LEAF_ITEMS_MAX + 1];
};

static void list_add(struct leaf_list *l, uint64_t key, const void *body, size_t len)
{
	l->it[l->n].key = key;
	l->it[l->n].body = body;
	l->it[l->n].len = len;
	l->n++;
}

static void list_take(struct leaf_list *l, const uint8_t *area, size_t size, unsigned from,
		      unsigned to)
{
	memcpy(l->image, area, size);
	for (unsigned i = from; i < to; i++) {
		size_t len;
		const uint8_t *body = leaf_body(l->image, i, &len);

		list_add(l, leaf_key(l->image, i), body, len);
	}
}

static void leaf_append(uint8_t *area, uint64_t key, const void *body, size_t len)
{
	unsigned n = node_items(area);
	size_t off = le16_get(head(area)->body_off) - len;

	memcpy(area + off, body, len);
	*lslot(area, n) = (struct lunfs_bt_leaf_slot){.key = le64_make(key),
						      .off = le16_make((uint16_t)off),
						      .len = le16_make((uint16_t)len)};
	head(area)->body_off = le16_make((uint16_t)off);
	set_items(area, n + 1);
}

static void list_put(const struct leaf_list *l, unsigned from, unsigned to, uint8_t *area,
		     size_t size)
{
	node_init(area, size, 0);
	for (unsigned i = from; i < to; i++)
		leaf_append(area, l->it[i].key, l->it[i].body, l->it[i].len);
}

void node_init(uint8_t *area, size_t size, unsigned level)
{
	memset(area, 0, size);
	head(area)->level = le16_make((uint16_t)level);
	head(area)->body_off = le16_make((uint16_t)size);
}

static size_t leaf_gap(const uint8_t *area)
{
	return le16_get(chead(area)->body_off) - (HEAD + node_items(area) * LSLOT);
}

bool leaf_fits(const uint8_t *area, size_t size, size_t body_len)
{
	(void)size;
	return leaf_gap(area) + le16_get(chead(area)->dead) >= LSLOT + body_len;
}

void leaf_insert(uint8_t *area, size_t size, unsigned idx, uint64_t key, const void *body,
		 size_t len)
{
	unsigned n = node_items(area);
	struct leaf_list l;

	lunfs_assert(leaf_fits(area, size, len) && idx <= n);
	if (leaf_gap(area) < LSLOT + len) {
		l.n = 0;
		list_take(&l, area, size, 0, n);
		list_put(&l, 0, n, area, size);
	}
	leaf_append(area, key, body, len);
	if (idx < n) {
		struct lunfs_bt_leaf_slot s = *lslot(area, n);

		memmove(lslot(area, idx + 1), lslot(area, idx), (n - idx) * LSLOT);
		*lslot(area, idx) = s;
	}
}

/* The body stays where it is until an insertion needs its room. */
void leaf_remove(uint8_t *area, size_t size, unsigned idx)
{
	unsigned n = node_items(area);
	struct lunfs_bt_head *h = head(area);

	lunfs_assert(idx < n);
	if (n == 1) {
		node_init(area, size, 0);
		return;
	}
	h->dead = le16_make((uint16_t)(le16_get(h->dead) + le16_get(lslot(area, idx)->len)));
	memmove(lslot(area, idx), lslot(area, idx + 1), (n - idx - 1) * LSLOT);
	memset(lslot(area, n - 1), 0, LSLOT);
	set_items(area, n - 1);
}

void leaf_set_key(uint8_t *area, unsigned idx, uint64_t key)
{
	lslot(area, idx)->key = le64_make(key);
}

void leaf_set_body(uint8_t *area, unsigned idx, const void *body, size_t len)
{
	struct lunfs_bt_leaf_slot *s = lslot(area, idx);

	lunfs_assert(le16_get(s->len) == len);
	memcpy(area + le16_get(s->off), body, len);
}

static size_t list_bytes(const struct leaf_list *l, unsigned from, unsigned to)
{
	size_t bytes = HEAD;

	for (unsigned i = from; i < to; i++)
		bytes += LSLOT + l->it[i].len;
	return bytes;
}

/* The cut that leaves both sides as equal as can be. */
static unsigned even_cut(const struct leaf_list *l)
{
	size_t total = list_bytes(l, 0, l->n), left = HEAD, best = SIZE_MAX;
	unsigned cut = 1;

	for (unsigned i = 1; i < l->n; i++) {
		size_t right, larger;

		left += LSLOT + l->it[i - 1].len;
		right = total - left + HEAD;
		larger = left > right ? left : right;
		if (larger < best) {
			best = larger;
			cut = i;
		}
	}
	return cut;
}

static unsigned leaf_cut(const struct leaf_list *l, size_t size, unsigned idx, enum bt_split how)
{
	if (how == BT_SPLIT_EVEN)
		return even_cut(l);
	if (idx == l->n - 1)
		return idx;
	if (how == BT_SPLIT_APPEND)
		return even_cut(l);
	return list_bytes(l, 0, idx + 1) <= size ? idx + 1 : idx;
}

uint64_t leaf_split(uint8_t *area, size_t size, uint8_t *right, unsigned idx, uint64_t key,
		    const void *body, size_t len, enum bt_split how)
{
	struct leaf_list l;
	unsigned cut, n = node_items(area);

	l.n = 0;
	list_take(&l, area, size, 0, idx);
	list_add(&l, key, body, len);
	for (unsigned i = idx; i < n; i++) {
		size_t blen;
		const uint8_t *b = leaf_body(l.image, i, &blen);

		list_add(&l, leaf_key(l.image, i), b, blen);
	}
	cut = leaf_cut(&l, size, idx, how);
	lunfs_assert(cut > 0 && cut < l.n && list_bytes(&l, 0, cut) <= size);
	lunfs_assert(list_bytes(&l, cut, l.n) <= BT_AREA_BYTES);
	list_put(&l, 0, cut, area, size);
	list_put(&l, cut, l.n, right, BT_AREA_BYTES);
	return l.it[cut].key;
}

/* ---- interior nodes ----------------------------------------------------------------- */

bool inner_fits(const uint8_t *area, size_t size)
{
	return HEAD + (node_items(area) + 1u) * ISLOT <= size;
}

void inner_insert(uint8_t *area, unsigned idx, uint64_t key, uint64_t child)
{
	unsigned n = node_items(area);

	lunfs_assert(idx <= n);
	memmove(islot(area, idx + 1), islot(area, idx), (n - idx) * ISLOT);
	*islot(area, idx) =
	    (struct lunfs_bt_inner_slot){.key = le64_make(key), .child = le64_make(child)};
	set_items(area, n + 1);
}

void inner_remove(uint8_t *area, unsigned idx)
{
	unsigned n = node_items(area);

	lunfs_assert(n > 1 && idx < n);
	memmove(islot(area, idx), islot(area, idx + 1), (n - idx - 1) * ISLOT);
	memset(islot(area, n - 1), 0, ISLOT);
	islot(area, 0)->key = le64_make(0);
	set_items(area, n - 1);
}

uint64_t inner_split(uint8_t *area, size_t size, uint8_t *right, unsigned idx, uint64_t key,
		     uint64_t child, enum bt_split how)
{
	struct lunfs_bt_inner_slot all[INNER_ITEMS_MAX + 1];
	unsigned n = node_items(area), level = node_level(area), cut;
	uint64_t sep;

	lunfs_assert(idx > 0 && idx <= n && n >= 2);
	memcpy(all, islot(area, 0), idx * ISLOT);
	all[idx] = (struct lunfs_bt_inner_slot){.key = le64_make(key), .child = le64_make(child)};
	memcpy(all + idx + 1, islot(area, idx), (n - idx) * ISLOT);
	cut = how != BT_SPLIT_EVEN && idx == n ? n : (n + 1) / 2;
	sep = le64_get(all[cut].key);
	all[cut].key = le64_make(0);
	node_init(area, size, level);
	memcpy(islot(area, 0), all, cut * ISLOT);
	set_items(area, cut);
	node_init(right, BT_AREA_BYTES, level);
	memcpy(islot(right, 0), all + cut, (n + 1 - cut) * ISLOT);
	set_items(right, n + 1 - cut);
	return sep;
}

void node_move(uint8_t *dst, size_t dst_size, const uint8_t *src, size_t src_size)
{
	unsigned n = node_items(src), level = node_level(src);
	struct leaf_list l;

	lunfs_assert(src_size <= dst_size && dst_size <= BT_AREA_BYTES);
	if (level == 0) {
		l.n = 0;
		list_take(&l, src, src_size, 0, n);
		list_put(&l, 0, n, dst, dst_size);
		return;
	}
	node_init(dst, dst_size, level);
	memcpy(islot(dst, 0), cislot(src, 0), n * ISLOT);
	set_items(dst, n);
}
