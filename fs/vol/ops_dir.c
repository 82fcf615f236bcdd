/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listing directories. Cookies: 0 is ".", 1 is "..", from DIR_COOKIE_MIN on positions in hash
 * order. Attributes are added only for inodes whose lock this host holds already, or that nobody is
 * in the way of, and then all at once; so a listing takes nothing away from other hosts.
 */
#include "vol/vol_impl.h"
#include <dirent.h>
#include <stdlib.h>

#define LIST_BATCH 64u

struct listing {
	struct nodeid dir;
	uint64_t cookie;
	enum vol_attrs attrs;
	struct vdirent *out;
	size_t max, n;
	struct dir_entry *de; /* LIST_BATCH of them */
};

static void add_dot(struct listing *a, const char *name, uint64_t ino, uint64_t generation)
{
	struct vdirent *vd = &a->out[a->n++];

	memset(vd, 0, sizeof(*vd));
	vd->de.ino = ino;
	vd->de.generation = generation;
	vd->de.type = DT_DIR;
	vd->de.name_len = (uint8_t)strlen(name);
	memcpy(vd->de.name, name, strlen(name) + 1);
	vd->de.cookie = a->cookie++;
	vd->next = a->cookie;
}

static void add_attr(struct op *o, struct vdirent *vd)
{
	struct volume *v = o->v;
	struct inode i;
	struct lock *l;

	if (vd->de.ino == 0 || !blk_range_ok(&v->geo, vd->de.ino, v->geo.cell_blks))
		return;
	if (lock_pin(v->locks, vd->de.ino, LOCK_SH, LOCAL_SHARED, LOCK_TRY | LOCK_CACHED, NULL,
		     &l) != 0)
		return;
	if (inode_get(&v->ne, l, vd->de.generation, &i) == 0) {
		attr_fill(v, &i, &vd->attr);
		vd->has_attr = true;
		inode_put(&v->ne, &i);
	}
	lock_unpin(v->locks, l, LOCAL_SHARED);
}

static int list_names(struct op *o, struct listing *a, struct inode *dir)
{
	while (a->n < a->max) {
		size_t want = a->max - a->n < LIST_BATCH ? a->max - a->n : LIST_BATCH, got = 0;
		uint64_t from = a->cookie < DIR_COOKIE_MIN ? DIR_COOKIE_MIN : a->cookie;
		int rc = dir_list(&o->v->ne, dir, from, a->de, want, &got);

		if (rc && rc != -ENOENT)
			return rc;
		if (got == 0)
			break;
		for (size_t k = 0; k < got; k++) {
			struct vdirent *vd = &a->out[a->n++];

			vd->de = a->de[k];
			vd->has_attr = false;
			vd->next = a->cookie = vd->de.cookie + 1;
		}
	}
	return 0;
}

/* To the entries from the @first on. */
static void add_attrs(struct op *o, struct listing *a, size_t first)
{
	uint64_t *ino = calloc(a->n + 1, sizeof(*ino));
	size_t n = 0;

	lunfs_assert(ino);
	for (size_t k = first; a->attrs == VATTRS_FREE && k < a->n; k++)
		if (lock_held(o->v->locks, a->out[k].de.ino) == LOCK_NONE)
			ino[n++] = a->out[k].de.ino;
	ahead_take(o->v, ino, n, LOCK_SH);
	for (size_t k = first; k < a->n; k++)
		add_attr(o, &a->out[k]);
	free(ino);
}

static int list_body(struct op *o, void *arg)
{
	struct listing *a = arg;
	uint64_t from = a->cookie;
	struct inode *dir;
	size_t dots;
	int rc;

	rc = op_get(o, a->dir, LOCK_SH, LOCAL_SHARED, &dir);
	if (rc)
		return rc;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	a->n = 0;
	if (dir->nlink == 0)
		return 0;
	if (a->cookie == 0 && a->n < a->max)
		add_dot(a, ".", dir->ino, dir->generation);
	if (a->cookie == 1 && a->n < a->max)
		add_dot(a, "..", dir->parent, 0);
	dots = a->n;
	rc = list_names(o, a, dir);
	if (rc)
		a->cookie = from;
	else if (a->attrs != VATTRS_NONE)
		add_attrs(o, a, dots);
	return rc;
}

int vol_readdir(struct volume *v, const struct op_ctx *c, struct nodeid dir, uint64_t cookie,
		enum vol_attrs attrs, struct vdirent *out, size_t max, size_t *n)
{
	struct listing a = {.dir = dir, .cookie = cookie, .attrs = attrs, .out = out, .max = max};
	struct op o;
	int rc;

	a.de = calloc(LIST_BATCH, sizeof(*a.de));
	lunfs_assert(a.de);
	op_init(&o, v, c);
	o.reading = true;
	if (cookie == 0)
		ahead_listed(v->aheads, dir);
	rc = op_run(&o, list_body, &a);
	free(a.de);
	*n = rc ? 0 : a.n;
	return rc;
}
