/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New names for the copy. A name's key is a hash of it, and entries stand in the order of their
 * keys; so that the tree keeps its shape, each entry must get a name whose key falls between those
 * of its neighbours.
 *
 * Each leaf has a range of keys, by the nodes above it. It is cut into as many windows as the leaf
 * has entries, and each entry takes a name that hashes into its window: then all are in order,
 * whatever is chosen. Names of one length are drawn at random for the whole directory, and each
 * that falls into the window of an entry of that length which has none is taken. A directory of n
 * names of c different lengths takes about 16 n c draws. Short names get wider windows, since there
 * are few of them.
 *
 * An entry that finds none after all, or whose key was wrong before, gets a name that does not
 * fit its key: the check of names reports it, as it may have before.
 */
#include "base/crc.h"
#include "cli/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DRAWS_PER_NAME 32u
#define DRAWS_MIN 4096u
#define DRAWS_MAX (1ull << 31)
#define KEY_MIN 128u
#define KEY_MAX ((1ull << 63) - 1)
#define NAME_OFF offsetof(struct lunfs_dirent, name)

struct entry {
	uint64_t cell, key;
	uint64_t from, to; /* its window; to: behind it */
	uint32_t slot_off, off;
	uint32_t leaf; /* index of its leaf */
	uint8_t len;
	bool wrong, served;
	uint8_t name[LUNFS_NAME_MAX];
};

struct leaf {
	uint64_t lo, hi;
	size_t first, n;
};

struct dir {
	struct image *im;
	struct entry *e;
	size_t n, room;
	struct leaf *leaf;
	size_t leaves, leaf_room;
	uint64_t last_key;
};

static uint64_t draw(struct image *im)
{
	uint64_t x = im->seed += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* Readable names for a directory of @n entries, if there are enough of that length. */
static bool use_letters(size_t n, unsigned len)
{
	return len > 6 || (uint64_t)n * 2 * DRAWS_PER_NAME <= 1ull << 5 * len;
}

/* How many names of this length there are, up to many. */
static double names_of(size_t n, unsigned len)
{
	double base = use_letters(n, len) ? 32.0 : 253.0, all = 1;

	for (unsigned i = 0; i < len && i < 8; i++)
		all *= base;
	return all;
}

/* Letters, or any bytes where there would be too few names. */
static void make_name(struct image *im, uint8_t *out, unsigned len, bool nice)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
	uint64_t bits = 0;

	do {
		for (unsigned i = 0; i < len; i++) {
			if (i % 8 == 0)
				bits = draw(im);
			out[i] = nice ? (uint8_t)letters[bits & 31] : (uint8_t)(bits & 0xff);
			if (out[i] == '/' || out[i] == '\0')
				out[i] = '_';
			bits >>= 8;
		}
	} while (out[0] == '.' && (len == 1 || (len == 2 && out[1] == '.')));
}

static void *grow(void *v, size_t *room, size_t one)
{
	*room = *room ? 2 * *room : 64;
	v = realloc(v, *room * one);
	if (!v)
		abort();
	return v;
}

/* ---- collecting ------------------------------------------------------------------------------ */

static struct leaf *leaf_of(struct dir *d, const struct insp_item *it)
{
	struct leaf *l = d->leaves ? &d->leaf[d->leaves - 1] : NULL;

	if (l && d->n && d->e[d->n - 1].cell == it->cell && l->first + l->n == d->n)
		return l;
	if (d->leaves == d->leaf_room)
		d->leaf = grow(d->leaf, &d->leaf_room, sizeof(*d->leaf));
	l = &d->leaf[d->leaves++];
	*l = (struct leaf){.lo = it->leaf_lo > KEY_MIN ? it->leaf_lo : KEY_MIN,
			   .hi = it->leaf_hi < KEY_MAX ? it->leaf_hi : KEY_MAX,
			   .first = d->n};
	return l;
}

static int collect(void *ctx, const struct insp_item *it)
{
	struct dir *d = ctx;
	const struct lunfs_dirent *de = (const void *)it->body;
	struct entry *e;
	struct leaf *l;

	if (it->len <= NAME_OFF || it->len - NAME_OFF != de->name_len)
		return 0;
	l = leaf_of(d, it);
	if (d->n == d->room)
		d->e = grow(d->e, &d->room, sizeof(*d->e));
	e = &d->e[d->n++];
	*e = (struct entry){.cell = it->cell,
			    .key = it->key,
			    .slot_off = it->slot_off,
			    .off = it->off,
			    .leaf = (uint32_t)(l - d->leaf),
			    .len = de->name_len};
	memcpy(e->name, de->name, e->len);
	l->n++;
	e->wrong = insp_dirent_key(&d->im->geo, e->name, e->len) != (e->key & ~127ull) ||
		   e->key < l->lo || e->key > l->hi || e->key <= d->last_key;
	d->last_key = e->key;
	return 0;
}

/* ---- windows --------------------------------------------------------------------------------- */

static double weight(const struct dir *d, const struct entry *e)
{
	double w = DRAWS_PER_NAME / 2 * (double)d->n / names_of(d->n, e->len);

	return w > 1 ? w : 1;
}

static void cut_leaf(struct dir *d, const struct leaf *l)
{
	double sum = 0, at = 0, width = (double)(l->hi - l->lo);
	uint64_t from = l->lo;

	for (size_t i = 0; i < l->n; i++)
		sum += weight(d, &d->e[l->first + i]);
	for (size_t i = 0; i < l->n; i++) {
		struct entry *e = &d->e[l->first + i];

		at += weight(d, e);
		e->from = from;
		e->to = i + 1 == l->n ? l->hi : l->lo + (uint64_t)(width * (at / sum));
		if (e->to < from || e->to > l->hi)
			e->to = from;
		from = e->to;
	}
}

/* The entry whose window has @key: leaves and entries are in order. NULL: none. */
static struct entry *entry_at(struct dir *d, uint64_t key)
{
	size_t lo = 0, hi = d->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (d->e[mid].to <= key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < d->n && key >= d->e[lo].from && key < d->e[lo].to ? &d->e[lo] : NULL;
}

/* ---- drawing --------------------------------------------------------------------------------- */

static void serve_length(struct dir *d, unsigned len, size_t wanted)
{
	uint64_t draws = (uint64_t)d->n * DRAWS_PER_NAME + DRAWS_MIN;
	uint8_t name[LUNFS_NAME_MAX];
	bool nice = use_letters(d->n, len);

	if (draws > DRAWS_MAX)
		draws = DRAWS_MAX;
	while (wanted && draws--) {
		struct entry *e;
		uint64_t key;

		make_name(d->im, name, len, nice);
		key = insp_dirent_key(&d->im->geo, name, len);
		e = entry_at(d, key);
		if (!e || e->served || e->wrong || e->len != len)
			continue;
		memcpy(e->name, name, len);
		e->key = key;
		e->served = true;
		wanted--;
	}
}

static void choose_names(struct dir *d)
{
	size_t of[LUNFS_NAME_MAX + 1] = {0};

	for (size_t i = 0; i < d->leaves; i++)
		cut_leaf(d, &d->leaf[i]);
	for (size_t i = 0; i < d->n; i++)
		of[d->e[i].len] += !d->e[i].wrong;
	for (unsigned len = 1; len <= LUNFS_NAME_MAX; len++)
		serve_length(d, len, of[len]);
	for (size_t i = 0; i < d->n; i++) {
		struct entry *e = &d->e[i];

		if (e->served)
			continue;
		make_name(d->im, e->name, e->len, true);
		if (!e->wrong) /* in order at least */
			e->key = e->from + (e->to - e->from) / 2;
		d->im->names_misplaced += !e->wrong;
	}
}

/* ---- writing --------------------------------------------------------------------------------- */

static int put_payload(struct image *im, uint64_t cell, uint8_t *payload, bool was_ok)
{
	blk_seal(payload);
	if (!was_ok)
		payload[offsetof(struct lunfs_blk_hdr, crc)] ^= 0xff;
	return insp_write(&im->to, geo_payload_off(&im->geo, cell), LUNFS_PAYLOAD_BYTES, payload);
}

static int get_payload(struct image *im, uint64_t cell, uint8_t *payload, bool *ok)
{
	int rc = insp_read(&im->to, geo_payload_off(&im->geo, cell), LUNFS_PAYLOAD_BYTES, payload);

	*ok = rc == 0 && crc_ok(payload, LUNFS_PAYLOAD_BYTES, offsetof(struct lunfs_blk_hdr, crc));
	return rc;
}

static int write_names(struct dir *d)
{
	uint8_t payload[LUNFS_PAYLOAD_BYTES];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < d->n;) {
		uint64_t cell = d->e[i].cell;
		bool ok;

		rc = get_payload(d->im, cell, payload, &ok);
		for (; rc == 0 && i < d->n && d->e[i].cell == cell; i++) {
			struct lunfs_bt_leaf_slot *s = (void *)(payload + d->e[i].slot_off);
			struct lunfs_dirent *de = (void *)(payload + d->e[i].off);

			s->key = le64_make(d->e[i].key);
			memcpy(de->name, d->e[i].name, d->e[i].len);
			d->im->names++;
		}
		if (rc == 0)
			rc = put_payload(d->im, cell, payload, ok);
	}
	return rc;
}

/* ---- all ------------------------------------------------------------------------------------- */

static int scramble_dir(struct image *im, uint64_t ino, struct image_list *done)
{
	struct dir d = {.im = im};
	struct insp_walk w = {.ctx = &d, .item = collect, .hi = UINT64_MAX};
	int rc = insp_walk(&im->to, ino, INSP_DATA, &w);

	if (rc == 0 || rc == -E2BIG) {
		choose_names(&d);
		rc = write_names(&d);
	}
	for (size_t i = 0; i < d.n; i++)
		if (i == 0 || d.e[i].cell != d.e[i - 1].cell)
			image_add(done, d.e[i].cell);
	free(d.e);
	free(d.leaf);
	return rc;
}

/* A node that no directory led to: its names change, its keys stay. */
static int scramble_node(struct image *im, uint64_t cell)
{
	uint8_t payload[LUNFS_PAYLOAD_BYTES], *area;
	const struct lunfs_bt_leaf_slot *s;
	const struct lunfs_bt_head *h;
	size_t size;
	bool ok;
	int rc = get_payload(im, cell, payload, &ok);

	if (rc)
		return rc;
	if (le16_get(((struct lunfs_blk_hdr *)payload)->type) == LUNFS_BLK_INODE) {
		area = ((struct lunfs_inode_pl *)payload)->data_fork;
		size = LUNFS_DATA_FORK_BYTES;
	} else {
		area = ((struct lunfs_bt_pl *)payload)->area;
		size = sizeof(((struct lunfs_bt_pl *)0)->area);
	}
	h = (const void *)area;
	s = (const void *)(area + sizeof(*h));
	if (le16_get(h->level) || le16_get(h->items) > (size - sizeof(*h)) / sizeof(*s))
		return 0;
	for (unsigned i = 0; i < le16_get(h->items); i++) {
		size_t off = le16_get(s[i].off), len = le16_get(s[i].len);
		struct lunfs_dirent *de = (void *)(area + off);

		if (off > size || len > size - off || len <= NAME_OFF ||
		    len - NAME_OFF != de->name_len)
			continue;
		make_name(im, de->name, de->name_len, true);
		im->names++;
	}
	return put_payload(im, cell, payload, ok);
}

static int by_addr(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int image_scramble(struct image *im)
{
	struct image_list done = {0};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < im->dirs.n; i++) {
		image_say(im, "directories", i, im->dirs.n);
		rc = scramble_dir(im, im->dirs.v[i], &done);
	}
	if (done.n)
		qsort(done.v, done.n, sizeof(*done.v), by_addr);
	for (size_t i = 0; rc == 0 && i < im->leaves.n; i++)
		if (!done.n || !bsearch(&im->leaves.v[i], done.v, done.n, sizeof(*done.v), by_addr))
			rc = scramble_node(im, im->leaves.v[i]);
	free(done.v);
	return rc;
}
