/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walking trees that may be damaged: what makes sense of a node is used, the rest is passed over. A
 * child must have a lower level than its parent, so no walk is deeper than the root says, and the
 * number of nodes is bounded.
 */
#include "base/siphash.h"
#include "inspect/inspect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEVELS 8u

struct area {
	const uint8_t *at; /* the whole payload that it stands in */
	uint32_t off, size;
	uint64_t cell;
	uint64_t lo, hi; /* keys it may hold */
};

static int read_payload(const struct insp *in, uint64_t cell, uint8_t *buf)
{
	if (!cell_addr_ok(in->geo, cell))
		return -EUCLEAN;
	return insp_read(in, geo_payload_off(in->geo, cell), LUNFS_PAYLOAD_BYTES, buf);
}

static int walk_area(const struct insp *in, struct insp_walk *w, const struct area *a,
		     unsigned below);

static int walk_leaf(struct insp_walk *w, const struct area *a, unsigned items)
{
	const uint8_t *area = a->at + a->off;
	const struct lunfs_bt_leaf_slot *s = (const void *)(area + sizeof(struct lunfs_bt_head));

	for (unsigned i = 0; i < items; i++) {
		unsigned off = le16_get(s[i].off), len = le16_get(s[i].len);
		struct insp_item it = {
		    .key = le64_get(s[i].key), .cell = a->cell, .leaf_lo = a->lo, .leaf_hi = a->hi};
		int rc;

		if (it.key < w->lo || it.key > w->hi)
			continue;
		it.slot_off = (uint32_t)((const uint8_t *)&s[i] - a->at);
		if (off <= a->size && len <= a->size - off) {
			it.off = a->off + off;
			it.len = len;
			it.body = a->at + it.off;
		}
		rc = w->item ? w->item(w->ctx, &it) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

static int walk_child(const struct insp *in, struct insp_walk *w, struct area a, unsigned below)
{
	uint8_t *buf;
	int rc;

	if (w->nodes++ >= INSP_NODES_MAX)
		return -E2BIG;
	buf = malloc(LUNFS_PAYLOAD_BYTES);
	if (!buf)
		return -ENOMEM;
	a.at = buf;
	a.off = offsetof(struct lunfs_bt_pl, area);
	a.size = sizeof(((struct lunfs_bt_pl *)0)->area);
	rc = read_payload(in, a.cell, buf);
	if (rc == 0 && le16_get(((struct lunfs_blk_hdr *)buf)->type) == LUNFS_BLK_BTREE)
		rc = walk_area(in, w, &a, below);
	else {
		w->bad++;
		rc = 0;
	}
	free(buf);
	return rc;
}

static int walk_inner(const struct insp *in, struct insp_walk *w, const struct area *a,
		      unsigned level, unsigned items)
{
	const struct lunfs_bt_inner_slot *s =
	    (const void *)(a->at + a->off + sizeof(struct lunfs_bt_head));

	for (unsigned i = 0; i < items; i++) {
		uint64_t key = le64_get(s[i].key),
			 next = i + 1 < items ? le64_get(s[i + 1].key) : 0;
		struct area child = {.cell = le64_get(s[i].child),
				     .lo = i ? key : a->lo,
				     .hi = next ? next - 1 : a->hi};
		int rc;

		if ((next && next <= w->lo) || (i > 0 && key > w->hi))
			continue;
		rc = walk_child(in, w, child, level);
		if (rc)
			return rc;
	}
	return 0;
}

/* @below: the level must be less. */
static int walk_area(const struct insp *in, struct insp_walk *w, const struct area *a,
		     unsigned below)
{
	const struct lunfs_bt_head *h = (const void *)(a->at + a->off);
	unsigned level = le16_get(h->level), items = le16_get(h->items);
	size_t slot =
	    level ? sizeof(struct lunfs_bt_inner_slot) : sizeof(struct lunfs_bt_leaf_slot);
	int rc;

	if (level >= below || items > (a->size - sizeof(*h)) / slot) {
		w->bad++;
		return 0;
	}
	rc = w->node ? w->node(w->ctx, a->cell, level, items) : 0;
	if (rc)
		return rc;
	return level ? walk_inner(in, w, a, level, items) : walk_leaf(w, a, items);
}

int insp_walk(const struct insp *in, uint64_t ino, enum insp_fork fork, struct insp_walk *w)
{
	struct lunfs_inode_pl *pl = malloc(sizeof(*pl));
	struct area a = {.at = (const uint8_t *)pl, .cell = ino, .hi = UINT64_MAX};
	uint8_t format;
	int rc;

	if (!pl)
		return -ENOMEM;
	w->nodes = w->bad = 0;
	a.off = fork == INSP_DATA ? offsetof(struct lunfs_inode_pl, data_fork)
				  : offsetof(struct lunfs_inode_pl, xattr_fork);
	a.size = fork == INSP_DATA ? LUNFS_DATA_FORK_BYTES : LUNFS_XATTR_FORK_BYTES;
	rc = read_payload(in, ino, (uint8_t *)pl);
	format = fork == INSP_DATA ? pl->data_format : pl->xattr_format;
	if (rc == 0 && format == LUNFS_FORK_TREE)
		rc = walk_area(in, w, &a, LEVELS);
	free(pl);
	return rc;
}

/* ---- names ----------------------------------------------------------------------------------- */

uint64_t insp_dirent_key(const struct geo *g, const void *name, size_t len)
{
	uint64_t h = siphash24(g->hash_key, name, len) >> 8;

	return (h ? h : 1) << 7;
}

uint64_t insp_xattr_key(const struct geo *g, uint8_t ns, const void *name, size_t len)
{
	uint8_t buf[1 + LUNFS_NAME_MAX];

	buf[0] = ns;
	memcpy(buf + 1, name, len);
	return siphash24(g->hash_key, buf, 1 + len) >> 20 << 16;
}

struct name_search {
	const char *name;
	size_t len;
	struct insp_hit hit;
};

static int match_name(void *ctx, const struct insp_item *it)
{
	struct name_search *s = ctx;
	const struct lunfs_dirent *de = (const void *)it->body;

	if (it->len < offsetof(struct lunfs_dirent, name) ||
	    it->len - offsetof(struct lunfs_dirent, name) < s->len || de->name_len != s->len ||
	    memcmp(de->name, s->name, s->len) != 0)
		return 0;
	s->hit = (struct insp_hit){true, it->cell, it->key, it->slot_off, it->off, it->len};
	return 1;
}

int insp_dirent_find(const struct insp *in, uint64_t dir, const char *name, struct insp_hit *out)
{
	struct name_search s = {.name = name, .len = strlen(name)};
	struct insp_walk w = {.ctx = &s, .item = match_name, .hi = UINT64_MAX};
	int rc;

	if (s.len > LUNFS_NAME_MAX)
		return -ENOENT;
	w.lo = insp_dirent_key(in->geo, name, s.len);
	w.hi = w.lo | 127;
	rc = insp_walk(in, dir, INSP_DATA, &w);
	if (rc == 0) { /* not where it belongs: everywhere */
		w.lo = 0;
		w.hi = UINT64_MAX;
		rc = insp_walk(in, dir, INSP_DATA, &w);
	}
	if (rc == 1)
		*out = s.hit;
	return rc < 0 ? rc : s.hit.found ? 0 : -ENOENT;
}

/* ---- paths ----------------------------------------------------------------------------------- */

/* The part before the first '/': where the path begins. */
static int path_base(const struct insp *in, const char *text, uint64_t *ino)
{
	char *end;

	if (text[0] == '\0' || strcmp(text, "root") == 0) {
		*ino = in->geo->root_ino;
		return 0;
	}
	if (strncmp(text, "orphan:", 7) == 0) {
		unsigned long slot = strtoul(text + 7, &end, 0);

		if (*end || end == text + 7 || slot >= LUNFS_MAX_SLOTS ||
		    !in->geo->orphan_ino[slot])
			return -ENOENT;
		*ino = in->geo->orphan_ino[slot];
		return 0;
	}
	errno = 0;
	*ino = strtoull(text, &end, 0);
	return *end || end == text || errno || text[0] == '-' ? -EINVAL : 0;
}

static int entry_ino(const struct insp *in, const struct insp_hit *hit, uint64_t *ino)
{
	le64 v;
	int rc;

	if (hit->len < offsetof(struct lunfs_dirent, name))
		return -EUCLEAN;
	rc = insp_read(in, geo_payload_off(in->geo, hit->cell) + hit->off, sizeof(v), &v);
	if (rc == 0)
		*ino = le64_get(v);
	return rc;
}

int insp_path(const struct insp *in, const char *path, uint64_t *ino, char *why, size_t why_len)
{
	char *copy = strdup(path), *rest = copy, *name;
	uint64_t at = 0;
	int rc;

	if (!copy)
		return -ENOMEM;
	name = strsep(&rest, "/");
	rc = path_base(in, name, &at);
	if (rc)
		snprintf(why, why_len,
			 "'%s' is no inode: use a path from the root (/a/b), a number, root or "
			 "orphan:SLOT",
			 path);
	while (rc == 0 && (name = strsep(&rest, "/"))) {
		struct insp_hit hit = {0};

		if (!*name)
			continue;
		rc = insp_dirent_find(in, at, name, &hit);
		if (rc == 0)
			rc = entry_ino(in, &hit, &at);
		if (rc)
			snprintf(why, why_len, "'%s' in '%s': %s", name, path,
				 rc == -ENOENT ? "there is no such name" : strerror(-rc));
	}
	free(copy);
	if (rc == 0)
		*ino = at;
	return rc;
}
