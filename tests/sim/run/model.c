/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reference model's tree: names, links, and what each operation must answer. */
#include "model_impl.h"

#include <dirent.h>
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define OK 0
#define GONE (-ESTALE)

bool model_no(struct model *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m->why, m->why_len, fmt, ap);
	va_end(ap);
	return false;
}

static const char *err(int rc)
{
	return rc ? strerror(-rc) : "success";
}

/* ---- nodes and names ------------------------------------------------------------------------- */

struct model *model_new(uint32_t objects, bool full)
{
	struct model *m = calloc(1, sizeof(*m));

	lunfs_assert(m);
	m->objects = objects;
	m->full = full;
	m->node_of = calloc(objects + 1, sizeof(*m->node_of));
	lunfs_assert(m->node_of);
	return m;
}

static void nodes_clear(struct model *m)
{
	for (uint32_t k = 0; k < m->n_nodes; k++) {
		free(m->node[k].ent);
		free(m->node[k].seg);
	}
	m->n_nodes = 0;
}

void model_free(struct model *m)
{
	nodes_clear(m);
	free(m->node);
	free(m->node_of);
	free(m);
}

static struct mnode *node_new(struct model *m, uint32_t mode)
{
	struct mnode *n;

	if (m->n_nodes == m->cap_nodes) {
		m->cap_nodes = m->cap_nodes ? 2 * m->cap_nodes : 64;
		m->node = realloc(m->node, m->cap_nodes * sizeof(*m->node));
		lunfs_assert(m->node);
	}
	n = &m->node[m->n_nodes++];
	memset(n, 0, sizeof(*n));
	n->type = mode & S_IFMT;
	n->nlink = S_ISDIR(mode) ? 2 : 1;
	return n;
}

static uint32_t number_of(const struct model *m, const struct mnode *n)
{
	return (uint32_t)(n - m->node);
}

/* Which inode an object number of the history means; NULL: none that was ever made. */
static struct mnode *node_at(struct model *m, uint32_t object)
{
	uint32_t k = m->node_of[object];

	return k ? &m->node[k - 1] : NULL;
}

void model_reset(struct model *m, uint32_t root, uint64_t root_ino)
{
	struct mnode *n;

	nodes_clear(m);
	memset(m->node_of, 0, (m->objects + 1) * sizeof(*m->node_of));
	n = node_new(m, S_IFDIR);
	n->ino = root_ino;
	n->bound = true;
	m->node_of[root] = 1;
}

static struct ment *ent_find(const struct mnode *dir, const char *name)
{
	for (uint32_t k = 0; k < dir->n_ent; k++)
		if (strcmp(dir->ent[k].name, name) == 0)
			return &dir->ent[k];
	return NULL;
}

static void ent_add(struct mnode *dir, const char *name, uint32_t node)
{
	struct ment *e;

	if (dir->n_ent == dir->cap_ent) {
		dir->cap_ent = dir->cap_ent ? 2 * dir->cap_ent : 8;
		dir->ent = realloc(dir->ent, dir->cap_ent * sizeof(*dir->ent));
		lunfs_assert(dir->ent);
	}
	e = &dir->ent[dir->n_ent++];
	memset(e, 0, sizeof(*e));
	memcpy(e->name, name, sizeof(e->name));
	e->node = node;
}

static void ent_remove(struct mnode *dir, struct ment *e)
{
	*e = dir->ent[--dir->n_ent];
}

static bool is_dir(const struct mnode *n)
{
	return n->type == S_IFDIR;
}

static bool is_open(const struct mnode *n)
{
	for (unsigned k = 0; k < SC_HOSTS_MAX; k++)
		if (n->opens[k])
			return true;
	return false;
}

/* An inode whose answer was the first to name it (its maker got none) takes that number. */
static bool is_node(struct model *m, struct mnode *n, uint32_t object, struct nodeid id)
{
	if (m->node_of[object] == 0 && !n->bound) {
		m->node_of[object] = number_of(m, n) + 1;
		n->ino = id.ino;
		n->bound = true;
	}
	return node_at(m, object) == n;
}

/* ---- what an operation finds ----------------------------------------------------------------- */

static bool is_gone(const struct mnode *n)
{
	return !n || n->dead;
}

/* Whoever names it by its handle may be told that it is gone; it is dead from then on. */
static bool may_go(const struct model *m, const struct hop *h, const struct mnode *n)
{
	return m->how == MODEL_ANSWERED && h->rc == GONE && n->nlink == 0 && !is_open(n);
}

/*
 * The inode that an operation names by its handle. GONE is the right answer for one that has no
 * name and is open nowhere, from the moment it was given up; until then it still works.
 */
static int handle(struct model *m, const struct hop *h, uint32_t object, struct mnode **out)
{
	struct mnode *n = node_at(m, object);

	*out = n;
	if (is_gone(n))
		return GONE;
	if (!may_go(m, h, n))
		return OK;
	n->dead = h->kind != HOP_OPEN; /* that says no to whatever has no name */
	return GONE;
}

/* Two of them. Where either may be the one that was gone, the answer proves nothing about both. */
static int handles(struct model *m, const struct hop *h, struct mnode **a, struct mnode **b)
{
	int rc;

	*a = node_at(m, h->o_id);
	*b = node_at(m, h->o_dir);
	if (is_gone(*a) || is_gone(*b))
		return GONE;
	if (*a != *b && may_go(m, h, *a) && may_go(m, h, *b))
		return GONE;
	rc = handle(m, h, h->o_id, a);
	return rc ? rc : handle(m, h, h->o_dir, b);
}

/* The answer @rc was right; for MODEL_DONE: it cannot have been done. */
static bool judge(struct model *m, const struct hop *h, int rc)
{
	if (m->how == MODEL_DONE)
		return rc == OK || model_no(m, "it cannot have been done: %s", err(rc));
	return h->rc == rc || model_no(m, "should have answered: %s", err(rc));
}

static bool attrs_fit(struct model *m, const struct hop *h, struct mnode *n)
{
	if (m->how != MODEL_ANSWERED)
		return true;
	if (!is_node(m, n, h->o_out, h->out))
		return model_no(m, "names the wrong inode, it should be %llu",
				(unsigned long long)n->ino);
	if ((h->mode & S_IFMT) != n->type)
		return model_no(m, "is of the wrong kind, it should be %o", n->type);
	if (h->kind == HOP_TRUNCATE) /* a large one goes in steps; these are those after the last */
		return true;
	if (h->nlink != n->nlink)
		return model_no(m, "should have %u links", n->nlink);
	if (n->type == S_IFREG && h->size != n->size && !n->muddled)
		return model_no(m, "should have %llu bytes", (unsigned long long)n->size);
	return true;
}

/* ---- looking --------------------------------------------------------------------------------- */

static bool do_lookup(struct model *m, const struct hop *h)
{
	struct mnode *dir;
	struct ment *e = NULL;
	int rc = handle(m, h, h->o_id, &dir);

	if (rc == OK && !is_dir(dir))
		rc = -ENOTDIR;
	if (rc == OK) {
		e = ent_find(dir, h->name);
		rc = e ? OK : -ENOENT;
	}
	if (!judge(m, h, rc))
		return false;
	return rc ? true : attrs_fit(m, h, &m->node[e->node]);
}

static bool do_getattr(struct model *m, const struct hop *h)
{
	struct mnode *n;
	int rc = handle(m, h, h->o_id, &n);

	return judge(m, h, rc) && (rc || attrs_fit(m, h, n));
}

static uint8_t dtype(const struct mnode *n)
{
	return (uint8_t)(n->type >> 12);
}

static bool list_fits(struct model *m, const struct hop *h, struct mnode *dir)
{
	const struct hop_entry *e = h->data;
	uint64_t want = dir->nlink ? dir->n_ent + 2 : 0;

	if (h->done != want)
		return model_no(m, "should list %llu entries", (unsigned long long)want);
	for (uint64_t k = 0; k < h->done; k++) {
		const struct ment *me;
		const struct mnode *n;

		if (strcmp(e[k].name, ".") == 0 || strcmp(e[k].name, "..") == 0) {
			n = e[k].name[1] ? &m->node[dir->parent] : dir;
			if (e[k].ino != n->ino && n->bound)
				return model_no(m, "'%s' should be inode %llu", e[k].name,
						(unsigned long long)n->ino);
			continue;
		}
		me = ent_find(dir, e[k].name);
		if (!me)
			return model_no(m, "lists '%s', which is not there", e[k].name);
		n = &m->node[me->node];
		if (dtype(n) != e[k].type || (n->bound && n->ino != e[k].ino))
			return model_no(m, "lists '%s' as inode %llu, it should be %llu", e[k].name,
					(unsigned long long)e[k].ino, (unsigned long long)n->ino);
	}
	return true;
}

static bool do_readdir(struct model *m, const struct hop *h)
{
	struct mnode *dir;
	int rc = handle(m, h, h->o_id, &dir);

	if (rc == OK && !is_dir(dir))
		rc = -ENOTDIR;
	return judge(m, h, rc) && (rc || list_fits(m, h, dir));
}

static bool do_readlink(struct model *m, const struct hop *h)
{
	struct mnode *n;
	char want[12];
	int rc = handle(m, h, h->o_id, &n);

	if (rc == OK && n->type != S_IFLNK)
		rc = -EINVAL;
	if (!judge(m, h, rc) || rc)
		return h->rc == rc;
	snprintf(want, sizeof(want), "t%u", n->made_by);
	return strcmp(want, h->name) == 0 || model_no(m, "should lead to '%s'", want);
}

/* ---- names that come ------------------------------------------------------------------------- */

static int may_grow(const struct mnode *dir, const char *name)
{
	if (!is_dir(dir))
		return -ENOTDIR;
	if (dir->nlink == 0)
		return -ENOENT;
	return ent_find(dir, name) ? -EEXIST : OK;
}

static uint32_t mode_of(enum hop_kind k)
{
	return k == HOP_MKDIR ? S_IFDIR : k == HOP_SYMLINK ? S_IFLNK : S_IFREG;
}

static bool do_make(struct model *m, const struct hop *h)
{
	struct mnode *dir, *n;
	uint32_t at;
	int rc = handle(m, h, h->o_id, &dir);

	if (rc == OK)
		rc = may_grow(dir, h->name);
	if (!judge(m, h, rc) || rc)
		return h->rc == rc;
	at = number_of(m, dir);
	if (m->how == MODEL_ANSWERED && node_at(m, h->o_out))
		return model_no(m, "made an inode that exists already");
	n = node_new(m, mode_of(h->kind));
	dir = &m->node[at];
	n->parent = at;
	n->made_by = h->index;
	if (h->kind == HOP_CREATE && m->how == MODEL_ANSWERED)
		n->opens[h->host]++;
	ent_add(dir, h->name, number_of(m, n));
	dir->nlink += is_dir(n);
	return attrs_fit(m, h, n);
}

static bool do_link(struct model *m, const struct hop *h)
{
	struct mnode *dir, *n;
	int rc = handles(m, h, &n, &dir);

	if (rc == OK && is_dir(n))
		rc = -EPERM;
	if (rc == OK)
		rc = may_grow(dir, h->name);
	if (rc == OK && n->nlink == 0)
		rc = -ENOENT;
	if (!judge(m, h, rc) || rc)
		return h->rc == rc;
	ent_add(dir, h->name, number_of(m, n));
	n->nlink++;
	return attrs_fit(m, h, n);
}

/* ---- names that go --------------------------------------------------------------------------- */

static bool do_remove(struct model *m, const struct hop *h)
{
	struct mnode *dir, *n = NULL;
	struct ment *e = NULL;
	int rc = handle(m, h, h->o_id, &dir);

	if (rc == OK && !is_dir(dir))
		rc = -ENOTDIR;
	if (rc == OK) {
		e = ent_find(dir, h->name);
		rc = e ? OK : -ENOENT;
	}
	if (rc == OK) {
		n = &m->node[e->node];
		if (h->kind == HOP_UNLINK)
			rc = is_dir(n) ? -EISDIR : OK;
		else
			rc = !is_dir(n) ? -ENOTDIR : n->n_ent ? -ENOTEMPTY : OK;
	}
	if (!judge(m, h, rc) || rc)
		return h->rc == rc;
	ent_remove(dir, e);
	n->nlink = is_dir(n) ? 0 : n->nlink - 1;
	dir->nlink -= is_dir(n);
	return true;
}

/* Is @n above @below, or the same? */
static bool is_above(const struct model *m, const struct mnode *n, const struct mnode *below)
{
	for (;;) {
		if (below == n)
			return true;
		if (below == m->node) /* the root */
			return false;
		below = &m->node[below->parent];
	}
}

struct renaming {
	struct mnode *dir, *newdir, *src, *tgt;
	struct ment *se, *te;
};

static int rename_find(struct model *m, const struct hop *h, struct renaming *r)
{
	int rc = handles(m, h, &r->dir, &r->newdir);

	if (rc)
		return rc;
	if (!is_dir(r->dir) || !is_dir(r->newdir))
		return -ENOTDIR;
	r->se = ent_find(r->dir, h->name);
	if (!r->se)
		return -ENOENT;
	if (r->newdir->nlink == 0)
		return -ENOENT;
	r->te = ent_find(r->newdir, h->name2);
	if (!r->te && (h->flags & RENAME_EXCHANGE))
		return -ENOENT;
	if (r->te && (h->flags & RENAME_NOREPLACE))
		return -EEXIST;
	r->src = &m->node[r->se->node];
	r->tgt = r->te ? &m->node[r->te->node] : NULL;
	return OK;
}

static int rename_may(struct model *m, const struct hop *h, const struct renaming *r)
{
	bool exchange = h->flags & RENAME_EXCHANGE;

	if (r->dir != r->newdir) {
		if (is_dir(r->src) && is_above(m, r->src, r->newdir))
			return -EINVAL;
		if (exchange && is_dir(r->tgt) && is_above(m, r->tgt, r->dir))
			return -EINVAL;
	}
	if (r->src == r->tgt || exchange || !r->tgt)
		return OK;
	if (is_dir(r->src) && !is_dir(r->tgt))
		return -ENOTDIR;
	if (!is_dir(r->src) && is_dir(r->tgt))
		return -EISDIR;
	return is_dir(r->tgt) && r->tgt->n_ent ? -ENOTEMPTY : OK;
}

static void move(struct model *m, struct mnode *n, struct mnode *from, struct mnode *to)
{
	if (!is_dir(n) || from == to)
		return;
	n->parent = number_of(m, to);
	from->nlink--;
	to->nlink++;
}

static void rename_do(struct model *m, const struct hop *h, struct renaming *r)
{
	uint32_t src = r->se->node;

	if (h->flags & RENAME_EXCHANGE) {
		r->se->node = r->te->node;
		r->te->node = src;
		move(m, r->tgt, r->newdir, r->dir);
	} else {
		if (r->tgt) {
			r->te->node = src;
			r->tgt->nlink = is_dir(r->tgt) ? 0 : r->tgt->nlink - 1;
			r->newdir->nlink -= is_dir(r->tgt);
		} else {
			ent_add(r->newdir, h->name2, src);
		}
		ent_remove(r->dir, ent_find(r->dir, h->name));
	}
	move(m, r->src, r->dir, r->newdir);
}

static bool do_rename(struct model *m, const struct hop *h)
{
	struct renaming r = {0};
	int rc = rename_find(m, h, &r);

	if (rc == OK)
		rc = rename_may(m, h, &r);
	if (!judge(m, h, rc) || rc)
		return h->rc == rc;
	if (r.src != r.tgt)
		rename_do(m, h, &r);
	return true;
}

/* ---- open and close -------------------------------------------------------------------------- */

static bool do_open(struct model *m, const struct hop *h)
{
	struct mnode *n;
	int rc = handle(m, h, h->o_id, &n);

	/* A file without a name is opened again only where it is open already. */
	if (rc == OK && n->nlink == 0 && n->opens[h->host] == 0)
		rc = GONE;
	if (!judge(m, h, rc) || rc)
		return h->rc == rc;
	n->opens[h->host]++;
	return true;
}

static bool do_release(struct model *m, const struct hop *h)
{
	struct mnode *n = node_at(m, h->o_id);

	if (n && n->opens[h->host])
		n->opens[h->host]--;
	return true;
}

void model_host_gone(struct model *m, unsigned host)
{
	for (uint32_t k = 0; k < m->n_nodes; k++) {
		m->node[k].opens[host] = 0;
		model_bytes_host_gone(&m->node[k], host);
	}
}

/* ---- attributes ------------------------------------------------------------------------------ */

static unsigned xattr_index(const struct hop *h)
{
	return h->name[5] == 'y';
}

static bool do_setxattr(struct model *m, const struct hop *h)
{
	struct mnode *n;
	struct mxattr *x = NULL;
	int rc = handle(m, h, h->o_id, &n);

	if (rc == OK) {
		x = &n->xattr[xattr_index(h)];
		if ((h->flags & XATTR_CREATE) && x->tag)
			rc = -EEXIST;
		else if (((h->flags & XATTR_REPLACE) || h->kind == HOP_RMXATTR) && !x->tag)
			rc = -ENODATA;
	}
	if (!judge(m, h, rc) || rc)
		return h->rc == rc;
	x->tag = h->kind == HOP_RMXATTR ? 0 : h->index + 1;
	x->len = h->len;
	return true;
}

static bool do_getxattr(struct model *m, const struct hop *h)
{
	struct mnode *n;
	const struct mxattr *x = NULL;
	int rc = handle(m, h, h->o_id, &n);

	if (rc == OK) {
		x = &n->xattr[xattr_index(h)];
		rc = x->tag ? OK : -ENODATA;
	}
	if (!judge(m, h, rc) || rc)
		return h->rc == rc;
	if (h->done != x->len || (x->len && !pattern_is(h->data, x->tag, 0, (size_t)x->len)))
		return model_no(m, "should be the %llu bytes of operation %u",
				(unsigned long long)x->len, x->tag - 1);
	return true;
}

static bool do_fsync(struct model *m, const struct hop *h)
{
	struct mnode *n;

	return judge(m, h, handle(m, h, h->o_id, &n));
}

/* ---- all of them ----------------------------------------------------------------------------- */

static bool do_file(struct model *m, const struct hop *h)
{
	struct mnode *n;
	int rc = handle(m, h, h->o_id, &n);

	if (rc == OK && n->type != S_IFREG)
		rc = is_dir(n) ? -EISDIR : h->kind == HOP_FALLOCATE ? -ENODEV : -EINVAL;
	if (!judge(m, h, rc) || rc)
		return h->rc == rc;
	if (h->kind == HOP_TRUNCATE)
		return model_truncate(m, h, n) && attrs_fit(m, h, n);
	return h->kind == HOP_WRITE  ? model_write(m, h, n)
	       : h->kind == HOP_READ ? model_read(m, h, n)
				     : model_fallocate(m, h, n);
}

static bool (*const table[HOP_KINDS_N])(struct model *m, const struct hop *h) = {
    [HOP_TOUCH] = do_getattr,	  [HOP_LOOKUP] = do_lookup,	[HOP_GETATTR] = do_getattr,
    [HOP_READDIR] = do_readdir,	  [HOP_READLINK] = do_readlink, [HOP_CREATE] = do_make,
    [HOP_MKNOD] = do_make,	  [HOP_MKDIR] = do_make,	[HOP_SYMLINK] = do_make,
    [HOP_LINK] = do_link,	  [HOP_UNLINK] = do_remove,	[HOP_RMDIR] = do_remove,
    [HOP_RENAME] = do_rename,	  [HOP_WRITE] = do_file,	[HOP_READ] = do_file,
    [HOP_TRUNCATE] = do_file,	  [HOP_FALLOCATE] = do_file,	[HOP_SETXATTR] = do_setxattr,
    [HOP_GETXATTR] = do_getxattr, [HOP_RMXATTR] = do_setxattr,	[HOP_OPEN] = do_open,
    [HOP_RELEASE] = do_release,	  [HOP_FSYNC] = do_fsync,
};

bool hop_changes(const struct hop *h)
{
	switch (h->kind) {
	case HOP_CREATE:
	case HOP_MKNOD:
	case HOP_MKDIR:
	case HOP_SYMLINK:
	case HOP_LINK:
	case HOP_UNLINK:
	case HOP_RMDIR:
	case HOP_RENAME:
	case HOP_WRITE:
	case HOP_TRUNCATE:
	case HOP_FALLOCATE:
	case HOP_SETXATTR:
	case HOP_RMXATTR:
		return true;
	default:
		return false;
	}
}

uint64_t model_size(const struct model *m, const struct hop *h)
{
	uint32_t k = m->node_of[h->o_id];

	return k && m->node[k - 1].type == S_IFREG ? m->node[k - 1].size : 0;
}

/*
 * A file without a name that nobody has open is being given up, step by step: what a handle that
 * was kept without opening it still finds there is nobody's business.
 */
static bool is_dying(struct model *m, const struct hop *h)
{
	const struct mnode *n = node_at(m, h->o_id);

	if (!n || n->dead || n->type != S_IFREG || h->rc == GONE)
		return false;
	if (!n->muddled && (n->nlink || is_open(n)))
		return false;
	switch (h->kind) {
	case HOP_GETATTR:
	case HOP_READ:
	case HOP_WRITE:
	case HOP_TRUNCATE:
	case HOP_FALLOCATE:
	case HOP_SETXATTR:
	case HOP_GETXATTR:
	case HOP_RMXATTR:
		return true;
	default:
		return false;
	}
}

/* Nothing was done; or, of what goes in steps, the first ones. */
static bool no_space(struct model *m, const struct hop *h)
{
	struct mnode *n = node_at(m, h->o_id);

	if (!m->full || h->rc != -ENOSPC || !hop_changes(h))
		return false;
	if (n && n->type == S_IFREG && !n->dead) {
		model_bytes_lost(m, h, n);
		n->muddled |= h->changes > 0;
	}
	return true;
}

bool model_apply(struct model *m, const struct hop *h, enum model_how how,
		 const struct model_peers *peers, char *why, size_t why_len)
{
	m->how = how;
	m->peers = peers;
	m->why = why;
	m->why_len = why_len;
	if (how == MODEL_LOST || how == MODEL_IN_PART) {
		struct mnode *n = node_at(m, h->o_id);

		if (n && n->type == S_IFREG && !n->dead) {
			model_bytes_lost(m, h, n);
			n->muddled |= how == MODEL_IN_PART;
		}
		return true;
	}
	if (is_dying(m, h) || (how == MODEL_ANSWERED && no_space(m, h)))
		return true;
	return table[h->kind] ? table[h->kind](m, h) : true;
}
