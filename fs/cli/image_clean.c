/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What belongs to the user in a payload, and how it is taken out. What is not recognised is taken
 * out too.
 */
#include "base/crc.h"
#include "base/geo.h"
#include "cli/image.h"

#include <stdlib.h>
#include <string.h>

#define CRC_OFF offsetof(struct lunfs_blk_hdr, crc)

/* ---- seals ----------------------------------------------------------------------------------- */

static void seal_as_before(void *buf, size_t len, size_t crc_off, bool was_ok)
{
	crc_seal(buf, len, crc_off);
	if (!was_ok)
		((uint8_t *)buf)[crc_off] ^= 0xff;
}

/* ---- items ----------------------------------------------------------------------------------- */

static bool is_dirent(const struct image *im, uint64_t key, const uint8_t *body, size_t len)
{
	const struct lunfs_dirent *de = (const void *)body;
	const size_t head = offsetof(struct lunfs_dirent, name);

	return len > head && len - head == de->name_len &&
	       insp_dirent_key(&im->geo, de->name, de->name_len) == (key & ~127ull);
}

static bool is_xattr(uint64_t key, const uint8_t *body, size_t len)
{
	const struct lunfs_xattr *x = (const void *)body;

	return len >= sizeof(*x) &&
	       len - sizeof(*x) == (size_t)x->name_len + le16_get(x->part_len) &&
	       x->ns >= LUNFS_XATTR_USER && x->ns <= LUNFS_XATTR_SYSTEM &&
	       (x->name_len == 0) == ((key & 0xff) != 0);
}

static bool is_extent(const struct image *im, const uint8_t *body, size_t len)
{
	const struct lunfs_extent *e = (const void *)body;

	return len == sizeof(*e) && blk_range_ok(&im->geo, le64_get(e->blk), le32_get(e->len));
}

static void hide_target(uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (at[i] != '/')
			at[i] = 'x';
}

/* @mode: of the inode whose tree it is. */
static void clean_item(const struct image *im, uint32_t mode, uint64_t key, uint8_t *body,
		       size_t len)
{
	struct lunfs_xattr *x = (void *)body;

	if (is_dirent(im, key, body, len) || is_extent(im, body, len))
		return;
	if (is_xattr(key, body, len) && !S_ISLNK(mode)) {
		if (x->ns != LUNFS_XATTR_SYSTEM)
			memset(x->data + x->name_len, 0, le16_get(x->part_len));
		return;
	}
	if (is_xattr(key, body, len) && key > 0xffff) { /* a link has few pieces: 0, 1, 2, 3 */
		if (x->ns != LUNFS_XATTR_SYSTEM)
			memset(x->data + x->name_len, 0, le16_get(x->part_len));
	} else if (S_ISLNK(mode)) {
		if (im->scramble)
			hide_target(body, len);
	} else if (S_ISDIR(mode) && len > offsetof(struct lunfs_dirent, name)) {
		return; /* an entry in a wrong place: scrambled like the others */
	} else if (len != sizeof(struct lunfs_extent)) {
		memset(body, 0, len);
	}
}

static void clean_node(const struct image *im, uint32_t mode, uint8_t *area, size_t size)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_leaf_slot *s = (const void *)(area + sizeof(*h));
	size_t n = le16_get(h->items), floor;

	if (le16_get(h->level))
		return; /* keys and addresses */
	if (n > (size - sizeof(*h)) / sizeof(*s)) {
		memset(area + sizeof(*h), 0, size - sizeof(*h));
		return;
	}
	floor = sizeof(*h) + n * sizeof(*s);
	for (size_t i = 0; i < n; i++) {
		size_t off = le16_get(s[i].off), len = le16_get(s[i].len);

		if (off >= floor && off <= size && len <= size - off)
			clean_item(im, mode, le64_get(s[i].key), area + off, len);
	}
}

/* Bytes of a leaf that no item refers to are what was there before: names, values. */
static void clear_gaps(uint8_t *area, size_t size)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_leaf_slot *s = (const void *)(area + sizeof(*h));
	size_t n = le16_get(h->items), end = sizeof(*h);
	bool keep[LUNFS_PAYLOAD_BYTES] = {false};

	if (le16_get(h->level))
		end += n * sizeof(struct lunfs_bt_inner_slot);
	else
		end += n * sizeof(*s);
	if (end > size) /* no node has that many: nothing in here is known for what it is */
		n = 0, end = sizeof(*h);
	memset(keep, true, end);
	for (size_t i = 0; !le16_get(h->level) && i < n; i++) {
		size_t off = le16_get(s[i].off), len = le16_get(s[i].len);

		if (off <= size && len <= size - off)
			memset(keep + off, true, len);
	}
	for (size_t i = 0; i < size; i++)
		if (!keep[i])
			area[i] = 0;
}

/* ---- payloads -------------------------------------------------------------------------------- */

static void clean_fork(const struct image *im, uint8_t format, uint32_t mode, uint8_t *fork,
		       size_t size)
{
	if (format == LUNFS_FORK_TREE) {
		clean_node(im, mode, fork, size);
		clear_gaps(fork, size);
	} else if (format == LUNFS_FORK_INLINE && S_ISLNK(mode)) {
		if (im->scramble)
			hide_target(fork, strnlen((const char *)fork, size));
	} else {
		memset(fork, 0, size);
	}
}

/* A directory whose tree is to be trusted is scrambled as a whole, others node by node. */
static void clean_inode(struct image *im, uint64_t cell, bool trusted, struct lunfs_inode_pl *pl)
{
	uint32_t mode = le32_get(pl->mode);

	im->inodes += trusted;
	clean_fork(im, pl->data_format, mode, pl->data_fork, sizeof(pl->data_fork));
	/* Attributes only: a link's pieces never stand there. */
	clean_fork(im, pl->xattr_format, S_IFREG, pl->xattr_fork, sizeof(pl->xattr_fork));
	if (S_ISDIR(mode) && !(le32_get(pl->flags) & LUNFS_INODE_ORPHAN_DIR))
		image_add(trusted ? &im->dirs : &im->leaves, cell);
}

static uint32_t mode_of_guard(struct image *im, const struct lunfs_blk_hdr *h)
{
	uint64_t guard = le64_get(h->guard);
	struct lunfs_inode_pl *pl;
	uint32_t mode = 0;

	if (guard && guard == im->last_guard)
		return im->last_mode;
	pl = malloc(sizeof(*pl));
	if (pl && cell_addr_ok(&im->geo, guard) &&
	    insp_read(&im->from, geo_payload_off(&im->geo, guard), sizeof(*pl), pl) == 0 &&
	    le16_get(pl->hdr.type) == LUNFS_BLK_INODE)
		mode = le32_get(pl->mode);
	free(pl);
	im->last_guard = guard;
	im->last_mode = mode;
	return mode;
}

static void clean_btree(struct image *im, uint64_t cell, struct lunfs_bt_pl *pl)
{
	im->nodes++;
	clean_node(im, mode_of_guard(im, &pl->hdr), pl->area, sizeof(pl->area));
	clear_gaps(pl->area, sizeof(pl->area));
	image_add(&im->leaves, cell);
}

void image_clean(struct image *im, uint64_t cell, bool used, uint8_t *payload)
{
	const struct lunfs_blk_hdr *h = (const void *)payload;
	bool was_ok = crc_ok(payload, LUNFS_PAYLOAD_BYTES, CRC_OFF);

	if (mem_is_zero(payload, LUNFS_PAYLOAD_BYTES))
		return;
	if (used)
		im->cells_used++;
	else
		im->cells_unused++;
	im->damaged += used && !was_ok;
	if (le16_get(h->type) == LUNFS_BLK_INODE)
		clean_inode(im, cell, used && was_ok, (void *)payload);
	else if (le16_get(h->type) == LUNFS_BLK_BTREE)
		clean_btree(im, cell, (void *)payload);
	else if (le16_get(h->type) < LUNFS_BLK_ANCHOR || le16_get(h->type) > LUNFS_BLK_CHUNK)
		memset(payload + sizeof(*h), 0, LUNFS_PAYLOAD_BYTES - sizeof(*h));
	seal_as_before(payload, LUNFS_PAYLOAD_BYTES, CRC_OFF, was_ok);
}

/* ---- records --------------------------------------------------------------------------------- */

void image_clean_slot(struct image *im, unsigned slot, uint8_t *rec)
{
	struct lunfs_slot_rec *r = (void *)rec;
	bool was_ok = crc_ok(r, sizeof(*r), offsetof(struct lunfs_ats_hdr, crc));
	char name[16];

	im->live_hosts += was_ok && le16_get(r->state) == LUNFS_SLOT_LIVE;
	if (!im->scramble || mem_is_zero(r->hostname, sizeof(r->hostname)))
		return;
	snprintf(name, sizeof(name), "host%u", slot);
	memset(r->hostname, 0, sizeof(r->hostname));
	memcpy(r->hostname, name, strlen(name));
	memset(r->machine_id, 0, sizeof(r->machine_id));
	seal_as_before(r, sizeof(*r), offsetof(struct lunfs_ats_hdr, crc), was_ok);
}

void image_clean_super(struct image *im, uint8_t *buf)
{
	struct lunfs_sb *sb = (void *)buf;
	bool was_ok = crc_ok(sb, sizeof(*sb), offsetof(struct lunfs_sb, crc));

	if (memcmp(sb->magic, LUNFS_SB_MAGIC, sizeof(sb->magic)) != 0)
		return;
	sb->incompat = le64_make(le64_get(sb->incompat) | LUNFS_INCOMPAT_IMAGE);
	if (im->scramble)
		memset(sb->label, 0, sizeof(sb->label));
	seal_as_before(sb, sizeof(*sb), offsetof(struct lunfs_sb, crc), was_ok);
}
