/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes: a tree of their own (format.h, struct lunfs_xattr). A value stands in parts
 * of 1024 bytes under following keys. A new value is written over the old one part by part; parts
 * too many are removed, parts that lack are inserted. All leaves of the old value are held before
 * the first change.
 */
#include "base/siphash.h"
#include "node/node_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BASE_KEYS 0x10000u /* keys of one hash */
#define PARTS_MAX (LUNFS_XATTR_VALUE_MAX / LUNFS_XATTR_PART_BYTES)
#define COLLISIONS 256u

static const char *const prefixes[] = {
    [LUNFS_XATTR_USER] = "user.",
    [LUNFS_XATTR_TRUSTED] = "trusted.",
    [LUNFS_XATTR_SECURITY] = "security.",
    [LUNFS_XATTR_SYSTEM] = "system.",
};

struct xname {
	uint8_t ns;
	size_t len;
	const char *name; /* without the prefix */
};

static int parse_name(const char *full, struct xname *out)
{
	for (uint8_t ns = LUNFS_XATTR_USER; ns <= LUNFS_XATTR_SYSTEM; ns++) {
		size_t n = strlen(prefixes[ns]);

		if (strncmp(full, prefixes[ns], n) != 0)
			continue;
		if (ns == LUNFS_XATTR_SYSTEM && strcmp(full, ACL_ACCESS_NAME) != 0 &&
		    strcmp(full, ACL_DEFAULT_NAME) != 0)
			return -EOPNOTSUPP;
		*out = (struct xname){.ns = ns, .name = full + n};
		out->len = strnlen(out->name, LUNFS_NAME_MAX + 1);
		if (out->len > LUNFS_NAME_MAX)
			return -ERANGE;
		return out->len ? 0 : -EINVAL;
	}
	return -EOPNOTSUPP;
}

static uint64_t name_base(const struct bt *bt, const struct xname *x)
{
	uint8_t buf[1 + LUNFS_NAME_MAX];

	buf[0] = x->ns;
	memcpy(buf + 1, x->name, x->len);
	return siphash24(bt->ne->env->geo->hash_key, buf, 1 + x->len) >> 20 << 16;
}

static unsigned parts_of(size_t len_bytes)
{
	size_t n = (len_bytes + LUNFS_XATTR_PART_BYTES - 1) / LUNFS_XATTR_PART_BYTES;

	return n ? (unsigned)n : 1;
}

static int damaged(const struct bt *bt, uint64_t key)
{
	log_err("xattr-damaged",
		"inode %llu: the extended attribute under key %llu is not a valid one; run "
		"fsck.lunfs",
		ULL(bt->i->ino), ULL(key));
	return -EUCLEAN;
}

static int part_at(const struct bt *bt, struct bt_path *p, const struct lunfs_xattr **out)
{
	size_t len;
	const struct lunfs_xattr *x = (const void *)bt_body(p, &len);
	unsigned part = bt_key(p) & 0xff;

	if (len < sizeof(*x) || x->ns < LUNFS_XATTR_USER || x->ns > LUNFS_XATTR_SYSTEM ||
	    (part == 0) != (x->name_len != 0) || le16_get(x->part_len) > LUNFS_XATTR_PART_BYTES ||
	    le32_get(x->value_len) > LUNFS_XATTR_VALUE_MAX ||
	    len != sizeof(*x) + x->name_len + le16_get(x->part_len) ||
	    memchr(x->data, 0, x->name_len))
		return damaged(bt, bt_key(p));
	*out = x;
	return 0;
}

/*
 * Path to part 0 of @xn. -ENOENT: nothing is held, and *key (may be NULL) is where a new one goes,
 * UINT64_MAX if there is no room left among the names of this hash.
 */
static int find(const struct bt *bt, const struct xname *xn, struct bt_path *p, uint64_t *key)
{
	uint64_t base = name_base(bt, xn), n = 0;
	const struct lunfs_xattr *x;
	int rc = bt_seek(bt, base, p);

	for (; !rc; bt_leaf(p)->idx++) {
		rc = bt_settle(bt, p);
		if (rc || bt_key(p) - base >= BASE_KEYS)
			break;
		n += (bt_key(p) - base) >> 8 == n;
		rc = part_at(bt, p, &x);
		if (rc)
			break;
		if (x->ns == xn->ns && x->name_len == xn->len &&
		    memcmp(x->data, xn->name, xn->len) == 0)
			return 0;
	}
	bt_put(bt, p);
	if (key)
		*key = n < COLLISIONS ? base | n << 8 : UINT64_MAX;
	return rc ? rc : -ENOENT;
}

/* ---- reading ------------------------------------------------------------------------ */

static int copy_value(const struct bt *bt, struct bt_path *p, uint8_t *buf, size_t total)
{
	uint64_t key = bt_key(p);
	size_t have = 0;
	int rc = 0;

	for (unsigned part = 0; !rc && (part == 0 || have < total); part++) {
		const struct lunfs_xattr *x;
		size_t n;

		rc = bt_settle(bt, p);
		if (rc)
			break;
		rc = part_at(bt, p, &x);
		if (rc)
			break;
		n = le16_get(x->part_len);
		if (bt_key(p) != key + part || part >= COLLISIONS || n > total - have ||
		    le32_get(x->value_len) != total || (n == 0 && total))
			return damaged(bt, key);
		memcpy(buf + have, x->data + x->name_len, n);
		have += n;
		bt_leaf(p)->idx++;
	}
	return rc == -ENOENT ? damaged(bt, key) : rc;
}

int xattr_get(const struct node_env *ne, struct inode *i, const char *name, void *buf, size_t size,
	      size_t *len)
{
	struct bt bt = {.ne = ne, .i = i, .fork = FORK_XATTR};
	const struct lunfs_xattr *x;
	struct bt_path p;
	struct xname xn;
	size_t total;
	int rc = parse_name(name, &xn);

	if (!rc)
		rc = find(&bt, &xn, &p, NULL);
	if (rc)
		return rc == -ENOENT ? -ENODATA : rc;
	rc = part_at(&bt, &p, &x);
	if (rc)
		goto out_put;
	total = le32_get(x->value_len);
	if (size && size < total)
		rc = -ERANGE;
	else if (size)
		rc = copy_value(&bt, &p, buf, total);
	if (!rc)
		*len = total;
out_put:
	bt_put(&bt, &p);
	return rc;
}

int xattr_list(const struct node_env *ne, struct inode *i, bool trusted, char *buf, size_t size,
	       size_t *len)
{
	struct bt bt = {.ne = ne, .i = i, .fork = FORK_XATTR};
	const struct lunfs_xattr *x;
	struct bt_path p;
	size_t have = 0;
	int rc = bt_seek(&bt, 0, &p);

	for (; !rc; bt_leaf(&p)->idx++) {
		size_t pre;

		rc = bt_settle(&bt, &p);
		if (!rc)
			rc = part_at(&bt, &p, &x);
		if (rc)
			break;
		if (!x->name_len || (x->ns == LUNFS_XATTR_TRUSTED && !trusted))
			continue;
		pre = strlen(prefixes[x->ns]);
		if (size && have + pre + x->name_len + 1u > size) {
			rc = -ERANGE;
			break;
		}
		if (size) {
			memcpy(buf + have, prefixes[x->ns], pre);
			memcpy(buf + have + pre, x->data, x->name_len);
			buf[have + pre + x->name_len] = 0;
		}
		have += pre + x->name_len + 1u;
	}
	bt_put(&bt, &p);
	if (rc != -ENOENT)
		return rc;
	*len = have;
	return 0;
}

/* ---- capabilities ------------------------------------------------------------------- */

bool xattr_no_caps(const struct inode *i)
{
	return i->xattr_format == LUNFS_FORK_EMPTY || atomic_load(&i->m->no_caps);
}

/* In a tree that is damaged nobody finds any, so they are no reason to refuse a write. */
int xattr_has_caps(const struct node_env *ne, struct inode *i, bool *has)
{
	size_t len;
	int rc = xattr_no_caps(i) ? -ENODATA : xattr_get(ne, i, XATTR_CAPS_NAME, NULL, 0, &len);

	if (rc && rc != -ENODATA && rc != -EUCLEAN)
		return rc;
	*has = rc == 0;
	if (rc)
		atomic_store(&i->m->no_caps, true);
	return 0;
}

/* ---- changing ----------------------------------------------------------------------- */

/* An attribute's place with references to all nodes on the way to each of its parts. */
struct xheld {
	uint64_t key; /* of part 0 */
	bool exists;
	unsigned parts;			    /* that are there */
	struct bt_path path[PARTS_MAX + 1]; /* one a part that is there or will be, one behind */
	unsigned paths;
};

static void xheld_free(const struct bt *bt, struct xheld *x)
{
	if (!x)
		return;
	while (x->paths)
		bt_put(bt, &x->path[--x->paths]);
	free(x);
}

/* Path to @key: is there an item with exactly this key? */
static int hold_key(const struct bt *bt, struct xheld *x, uint64_t key, bool *found)
{
	struct bt_path *p = &x->path[x->paths];
	int rc = bt_seek(bt, key, p);

	if (rc)
		return rc;
	x->paths++;
	*found = bt_at_item(p) && bt_key(p) == key;
	return 0;
}

/* Part @k is there. What a new value needs counts on all but the last to be full. */
static int check_part(const struct bt *bt, struct xheld *x, unsigned k, bool *full)
{
	const struct lunfs_xattr *part;
	int rc = part_at(bt, &x->path[k], &part);

	if (!rc && !*full)
		rc = damaged(bt, x->key + k);
	if (!rc)
		*full = le16_get(part->part_len) == LUNFS_XATTR_PART_BYTES;
	return rc;
}

static int hold_parts(const struct bt *bt, struct xheld *x, unsigned wanted)
{
	bool more = true, full = true;
	int rc = 0;

	for (unsigned k = 0; !rc && k < PARTS_MAX && (more || k < wanted); k++) {
		bool found;

		rc = hold_key(bt, x, x->key + k, &found);
		if (rc)
			break;
		more = more && found;
		x->parts += more;
		if (more)
			rc = check_part(bt, x, k, &full);
	}
	return !rc && x->exists && x->parts == 0 ? damaged(bt, x->key) : rc;
}

/* @wanted: how many parts it will have. */
static int xheld_get(const struct bt *bt, const struct xname *xn, unsigned wanted,
		     struct xheld **out)
{
	struct xheld *x = calloc(1, sizeof(*x));
	struct bt_path p;
	int rc;

	if (!x)
		return -ENOMEM;
	rc = find(bt, xn, &p, &x->key);
	if (rc == 0) {
		x->exists = true;
		x->key = bt_key(&p);
		bt_put(bt, &p);
	}
	if (rc == -ENOENT)
		rc = x->key == UINT64_MAX ? -ENOSPC : 0;
	if (!rc)
		rc = hold_parts(bt, x, wanted);
	if (rc)
		xheld_free(bt, x);
	else
		*out = x;
	return rc;
}

static unsigned parts_kept(size_t keep_bytes)
{
	return keep_bytes == XATTR_KEEP_NOTHING ? 0 : parts_of(keep_bytes);
}

/* Nodes on the paths, each once: keys rise, so a node that is left does not come again. */
static unsigned count_nodes(const struct xheld *x)
{
	unsigned n = 0;

	for (unsigned k = 0; k < x->paths; k++)
		for (unsigned d = 0; d < x->path[k].n; d++) {
			const struct mblk *m = x->path[k].s[d].m;

			n += m && (k == 0 || x->path[k - 1].n <= d || x->path[k - 1].s[d].m != m);
		}
	return n;
}

int xattr_need(const struct node_env *ne, struct inode *i, const char *name, size_t keep_bytes,
	       struct node_need *need)
{
	struct bt bt = {.ne = ne, .i = i, .fork = FORK_XATTR};
	unsigned parts = parts_kept(keep_bytes);
	struct xheld *x;
	struct xname xn;
	int rc = parse_name(name, &xn);

	if (!rc && parts > PARTS_MAX)
		rc = -E2BIG;
	if (!rc)
		rc = xheld_get(&bt, &xn, parts, &x);
	if (rc)
		return rc;
	rc = fork_need(ne, i, FORK_XATTR, parts > x->parts ? parts : x->parts, need);
	if (!parts)
		need->cells = 0;
	need->credits = 1 + count_nodes(x) + need->cells;
	xheld_free(&bt, x);
	return rc;
}

static size_t make_part(uint8_t *buf, const struct xname *xn, unsigned part, const uint8_t *value,
			size_t len_bytes)
{
	struct lunfs_xattr *x = (struct lunfs_xattr *)buf;
	size_t off = (size_t)part * LUNFS_XATTR_PART_BYTES, n = len_bytes - off;
	size_t name_len = part ? 0 : xn->len;

	if (n > LUNFS_XATTR_PART_BYTES)
		n = LUNFS_XATTR_PART_BYTES;
	x->ns = xn->ns;
	x->name_len = (uint8_t)name_len;
	x->part_len = le16_make((uint16_t)n);
	x->value_len = le32_make((uint32_t)len_bytes);
	memcpy(x->data, xn->name, name_len);
	if (n)
		memcpy(x->data + name_len, value + off, n);
	return sizeof(*x) + name_len + n;
}

static int put_part(const struct bt *bt, const struct node_txn *nt, uint64_t key,
		    const uint8_t *body, size_t len, enum bt_split how)
{
	struct bt_path p;
	size_t old;
	int rc = bt_seek(bt, key, &p);

	if (rc)
		return rc;
	if (bt_at_item(&p) && bt_key(&p) == key) {
		struct bt_step *leaf = bt_leaf(&p);

		bt_dirty_leaf(bt, nt, &p);
		bt_body(&p, &old);
		if (old == len) {
			leaf_set_body(leaf->area, leaf->idx, body, len);
			goto out_put;
		}
		leaf_remove(leaf->area, leaf->size, leaf->idx);
	}
	rc = bt_insert(bt, nt, &p, key, body, len, how);
out_put:
	bt_put(bt, &p);
	return rc;
}

static int drop_parts(const struct bt *bt, const struct node_txn *nt, const struct xheld *x,
		      unsigned from)
{
	int rc = 0;

	for (unsigned k = x->parts; k > from && !rc; k--) {
		struct bt_path p;

		rc = bt_seek(bt, x->key + k - 1, &p);
		if (rc)
			break;
		bt_remove(bt, nt, &p);
		bt_put(bt, &p);
	}
	return rc;
}

int xattr_set(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
	      const char *name, const void *value, size_t len_bytes, int flags)
{
	struct bt bt = {.ne = ne, .i = i, .fork = FORK_XATTR};
	uint8_t buf[sizeof(struct lunfs_xattr) + LUNFS_NAME_MAX + LUNFS_XATTR_PART_BYTES];
	unsigned parts = parts_of(len_bytes);
	struct xheld *x;
	struct xname xn;
	int rc = parse_name(name, &xn);

	if (!rc && len_bytes > LUNFS_XATTR_VALUE_MAX)
		rc = -E2BIG;
	if (!rc)
		rc = xheld_get(&bt, &xn, parts, &x);
	if (rc)
		return rc;
	if (x->exists && flags & XATTR_MUST_CREATE)
		rc = -EEXIST;
	else if (!x->exists && flags & XATTR_MUST_EXIST)
		rc = -ENODATA;
	if (rc)
		goto out_free;
	atomic_store(&i->m->no_caps, false);
	rc = drop_parts(&bt, nt, x, parts);
	for (unsigned k = 0; k < parts && !rc; k++) {
		size_t n = make_part(buf, &xn, k, value, len_bytes);

		rc =
		    put_part(&bt, nt, x->key + k, buf, n, parts > 1 ? BT_SPLIT_RUN : BT_SPLIT_EVEN);
	}
	rc = half_done(nt, rc);
	if (!rc)
		inode_update(nt->h, i);
out_free:
	xheld_free(&bt, x);
	return rc;
}

int xattr_free_prepare(const struct node_env *ne, struct inode *i, const char *name,
		       size_t keep_bytes, struct free_res *frees)
{
	unsigned keep = parts_kept(keep_bytes);
	struct bt bt = {.ne = ne, .i = i, .fork = FORK_XATTR};
	unsigned in_leaf = 0;
	struct xheld *x;
	struct xname xn;
	int rc = parse_name(name, &xn);

	if (!rc)
		rc = xheld_get(&bt, &xn, 0, &x);
	if (rc)
		return rc;
	for (unsigned k = keep; k < x->parts && !rc; k++) {
		struct bt_path *p = &x->path[k];

		in_leaf++;
		if (k + 1 < x->parts && bt_leaf(p)->area == bt_leaf(&x->path[k + 1])->area)
			continue;
		rc = bt_remove_prepare(&bt, p, in_leaf, frees);
		in_leaf = 0;
	}
	xheld_free(&bt, x);
	return rc;
}

int xattr_remove(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
		 const char *name)
{
	struct bt bt = {.ne = ne, .i = i, .fork = FORK_XATTR};
	struct xheld *x;
	struct xname xn;
	int rc = parse_name(name, &xn);

	if (!rc)
		rc = xheld_get(&bt, &xn, 0, &x);
	if (rc)
		return rc;
	if (!x->exists) {
		rc = -ENODATA;
	} else {
		rc = half_done(nt, drop_parts(&bt, nt, x, 0));
		if (!rc)
			inode_update(nt->h, i);
	}
	xheld_free(&bt, x);
	return rc;
}
