/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes: every value is whole, every name stands once and under its hash, access
 * control lists make sense. An attribute is judged as a whole, when its last part was seen.
 */
#include "base/log.h"
#include "base/siphash.h"
#include "fsck/trees.h"
#include <stdlib.h>
#include <string.h>

#define SAME_HASH_MAX 256u
#define ACL_PREFIX (sizeof("system.") - 1)

struct attr {	      /* one, put together */
	uint64_t key; /* of its first part */
	uint8_t ns, name_len;
	uint8_t name[LUNFS_NAME_MAX];
	uint32_t value_len, have;
	unsigned parts;
	bool bad, found;
	uint8_t *value; /* LUNFS_XATTR_VALUE_MAX bytes */
};

/* ---- one part, one attribute ----------------------------------------------------------------- */

static bool form_ok(const struct lunfs_xattr *x, size_t len, unsigned part)
{
	if (len < sizeof(*x) || x->ns < LUNFS_XATTR_USER || x->ns > LUNFS_XATTR_SYSTEM)
		return false;
	if ((part == 0) != (x->name_len != 0) || le16_get(x->part_len) > LUNFS_XATTR_PART_BYTES)
		return false;
	return len == sizeof(*x) + x->name_len + le16_get(x->part_len) &&
	       le32_get(x->value_len) <= LUNFS_XATTR_VALUE_MAX && !memchr(x->data, 0, x->name_len);
}

static uint64_t name_hash(const struct fsck *f, uint8_t ns, const uint8_t *name, size_t len)
{
	uint8_t buf[1 + LUNFS_NAME_MAX];

	buf[0] = ns;
	memcpy(buf + 1, name, len);
	return siphash24(f->geo.hash_key, buf, 1 + len) >> 20;
}

static void begin(struct attr *a, uint64_t key, const struct lunfs_xattr *x)
{
	a->key = key;
	a->ns = x->ns;
	a->name_len = x->name_len;
	memcpy(a->name, x->data, x->name_len);
	a->value_len = le32_get(x->value_len);
	a->have = a->parts = 0;
	a->bad = a->found = false;
}

/* False: it is no part that can follow. */
static bool add_part(struct attr *a, uint64_t key, const uint8_t *body, size_t len)
{
	const struct lunfs_xattr *x = (const void *)body;
	unsigned part = key & 0xff;
	size_t n;

	if (!form_ok(x, len, part))
		return false;
	if (part == 0)
		begin(a, key, x);
	else if (a->parts == 0 || key != a->key + a->parts ||
		 le32_get(x->value_len) != a->value_len || x->ns != a->ns)
		return false;
	n = le16_get(x->part_len);
	if (n > a->value_len - a->have || (part && n == 0))
		return false;
	memcpy(a->value + a->have, x->data + x->name_len, n);
	a->have += (uint32_t)n;
	a->parts++;
	return true;
}

static bool whole(const struct attr *a)
{
	return a->parts && a->have == a->value_len;
}

static bool is_acl(const struct attr *a)
{
	static const char *const names[] = {ACL_ACCESS_NAME, ACL_DEFAULT_NAME};

	for (int i = 0; i < 2; i++)
		if (a->name_len == strlen(names[i] + ACL_PREFIX) &&
		    !memcmp(a->name, names[i] + ACL_PREFIX, a->name_len))
			return true;
	return false;
}

static bool acl_bad(const struct fsck_inode *fi, const struct attr *a)
{
	bool def = a->name_len == strlen(ACL_DEFAULT_NAME) - ACL_PREFIX;

	return a->ns == LUNFS_XATTR_SYSTEM && (!is_acl(a) || acl_check(a->value, a->value_len) ||
					       (def && !S_ISDIR(fi->mode)) || S_ISLNK(fi->mode));
}

/* ---- looking --------------------------------------------------------------------------------- */

struct xattr_ctx {
	struct attr a;
	uint64_t hash; /* of the names in seen[] */
	unsigned n;
	struct {
		uint8_t ns, len, name[LUNFS_NAME_MAX];
	} seen[SAME_HASH_MAX];
};

static bool seen_before(struct xattr_ctx *c, uint64_t hash)
{
	const struct attr *a = &c->a;

	if (hash != c->hash)
		c->n = 0;
	c->hash = hash;
	for (unsigned i = 0; i < c->n; i++)
		if (c->seen[i].ns == a->ns && c->seen[i].len == a->name_len &&
		    !memcmp(c->seen[i].name, a->name, a->name_len))
			return true;
	if (c->n < SAME_HASH_MAX) {
		c->seen[c->n].ns = a->ns;
		c->seen[c->n].len = a->name_len;
		memcpy(c->seen[c->n++].name, a->name, a->name_len);
	}
	return false;
}

static void judge(struct fsck *f, struct tree_visit *v)
{
	struct xattr_ctx *c = v->ctx;
	struct attr *a = &c->a;
	uint64_t ino = v->fi->ino, hash;

	if (a->parts == 0 || a->bad)
		return;
	if (!whole(a)) {
		v->rebuild |= problem_item(&f->problems, PROBLEM_XATTR, ino, a->key,
					   "inode %llu: '%.*s' has %u of %u bytes", ULL(ino),
					   a->name_len, a->name, a->have, a->value_len);
		return;
	}
	hash = name_hash(f, a->ns, a->name, a->name_len);
	if (acl_bad(v->fi, a))
		v->rebuild |= problem_item(&f->problems, PROBLEM_ACL, ino, a->key,
					   "inode %llu: '%.*s'", ULL(ino), a->name_len, a->name);
	else if (a->key >> 16 != hash)
		v->rebuild |= problem_item(&f->problems, PROBLEM_XATTR_HASH, ino, a->key,
					   "inode %llu: '%.*s' cannot be found by its name",
					   ULL(ino), a->name_len, a->name);
	else if (seen_before(c, hash))
		v->rebuild |= problem_item(&f->problems, PROBLEM_XATTR_TWICE, ino, a->key,
					   "inode %llu: '%.*s'", ULL(ino), a->name_len, a->name);
}

static void visit_xattr(struct fsck *f, struct tree_visit *v, uint64_t key, const uint8_t *body,
			size_t len)
{
	struct xattr_ctx *c = v->ctx;

	if ((key & 0xff) == 0) {
		judge(f, v);
		c->a.parts = 0;
	}
	if (add_part(&c->a, key, body, len))
		return;
	c->a.bad = true;
	v->rebuild |= problem_item(&f->problems, PROBLEM_XATTR, v->fi->ino, key,
				   "inode %llu, key %llu", ULL(v->fi->ino), ULL(key));
}

/* What is being given up step by step need not be whole. */
static void visit_dying(struct fsck *f, struct tree_visit *v, uint64_t key, const uint8_t *body,
			size_t len)
{
	if (!form_ok((const void *)body, len, key & 0xff))
		v->rebuild |= problem_item(&f->problems, PROBLEM_XATTR, v->fi->ino, key,
					   "inode %llu, key %llu", ULL(v->fi->ino), ULL(key));
}

void check_xattrs(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl)
{
	bool dying = fsck_dying(fi);
	struct tree_visit v = {.fi = fi,
			       .what = "attribute tree",
			       .xattr = true,
			       .item = dying ? visit_dying : visit_xattr};
	struct xattr_ctx *c;

	if (pl->xattr_format != LUNFS_FORK_TREE)
		return;
	v.ctx = c = calloc(1, sizeof(*c));
	lunfs_assert(c);
	c->a.value = malloc(LUNFS_XATTR_VALUE_MAX);
	lunfs_assert(c->a.value);
	tree_walk(f, &v, pl->xattr_fork, sizeof(pl->xattr_fork));
	if (!dying)
		judge(f, &v);
	fi->counted += v.counted;
	fi->damaged |= v.damaged && !v.rebuild;
	if (v.rebuild)
		job_add(f, &v);
	free(v.cells.c);
	free(c->a.value);
	free(c);
}

/* ---- putting right --------------------------------------------------------------------------- */

static bool left(const struct fsck *f, enum problem_code code, const struct fsck_inode *fi,
		 const struct attr *a)
{
	return !a->found && problem_left(&f->problems, code, fi->ino, a->key);
}

/* Is there an attribute of this name at [base, base + 65536) in @out? *free_n: least unused. */
static bool taken(const struct items *out, uint64_t base, const struct attr *a, unsigned *free_n)
{
	bool used[SAME_HASH_MAX] = {false};
	bool same = false;

	for (size_t i = 0; i < out->n; i++) {
		const struct lunfs_xattr *x = (const void *)items_body(out, i);
		uint64_t key = out->it[i].key;

		if (key >> 16 != base >> 16 || key & 0xff)
			continue;
		used[key >> 8 & 0xff] = true;
		same |= out->it[i].len >= sizeof(*x) && x->ns == a->ns &&
			x->name_len == a->name_len && !memcmp(x->data, a->name, a->name_len);
	}
	for (*free_n = 0; *free_n < SAME_HASH_MAX && used[*free_n];)
		(*free_n)++;
	return same;
}

static bool has_key(const struct items *l, uint64_t key)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->it[i].key == key)
			return true;
	return false;
}

static void copy_parts(const struct items *l, size_t from, size_t n, struct items *out,
		       uint64_t key)
{
	for (size_t i = 0; i < n; i++)
		items_add(out, key + i, items_body(l, from + i), l->it[from + i].len, false);
}

/* The attribute whose @n parts begin at @from. Found ones are looked at for the first time here. */
static void fix_attr(struct fsck *f, struct fsck_inode *fi, const struct items *l, size_t from,
		     size_t n, const struct attr *a, struct items *out)
{
	uint64_t hash = name_hash(f, a->ns, a->name, a->name_len), key = a->key;
	unsigned free_n;
	bool same;

	if (acl_bad(fi, a) && !left(f, PROBLEM_ACL, fi, a))
		return;
	if (key >> 16 != hash && left(f, PROBLEM_XATTR_HASH, fi, a))
		hash = key >> 16;
	/* One that comes from elsewhere is put beside its namesake, and told of in the next round.
	 */
	same = taken(out, hash << 16, a, &free_n) && key >> 16 == hash;
	if ((same && !left(f, PROBLEM_XATTR_TWICE, fi, a)) || free_n == SAME_HASH_MAX)
		return;
	if (key >> 16 != hash || has_key(out, key))
		key = hash << 16 | free_n << 8;
	copy_parts(l, from, n, out, key);
}

/* The attribute that begins at @from. Number of items that are it. */
static size_t take_attr(struct attr *a, const struct items *l, size_t from)
{
	size_t n = 0;

	a->parts = 0;
	for (; from + n < l->n && (n == 0 || (l->it[from + n].key & 0xff)); n++) {
		const struct item *it = &l->it[from + n];

		if (!add_part(a, it->key, items_body(l, from + n), it->len))
			break;
		a->found |= it->found;
	}
	return n;
}

static void keep_what_is_left(struct fsck *f, struct fsck_inode *fi, const struct items *l,
			      size_t from, size_t n, struct items *out)
{
	for (size_t k = from; k < from + n; k++)
		if (!l->it[k].found &&
		    problem_left(&f->problems, PROBLEM_XATTR, fi->ino, l->it[from].key))
			items_add(out, l->it[k].key, items_body(l, k), l->it[k].len, false);
}

/* Those that stand where they should come first: one that is moved makes way for its namesake. */
void xattrs_fix(struct fsck *f, struct fsck_inode *fi, struct items *l)
{
	struct attr a = {.value = malloc(LUNFS_XATTR_VALUE_MAX)};
	struct items out = {0};

	lunfs_assert(a.value);
	items_squeeze(l);
	for (int moves = 0; moves <= 1; moves++)
		for (size_t i = 0, n; i < l->n; i += n ? n : 1) {
			n = take_attr(&a, l, i);
			if (n == 0 || !whole(&a)) {
				if (!moves)
					keep_what_is_left(f, fi, l, i, n ? n : 1, &out);
				continue;
			}
			if ((a.key >> 16 != name_hash(f, a.ns, a.name, a.name_len)) == moves)
				fix_attr(f, fi, l, i, n, &a, &out);
		}
	free(a.value);
	items_free(l);
	*l = out;
	items_squeeze(l);
}
