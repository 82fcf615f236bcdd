/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing attributes. Privileges go first (priv.c), then comes a size, in transactions of its own
 * (trunc.c); the rest is one change. A stored access ACL follows the mode.
 */
#include "vol/vol_impl.h"
#include <stdlib.h>

struct setattr {
	struct nodeid id;
	const struct stat *st;
	unsigned set;
	bool sized, size_begun;
	struct vattr *out;
};

struct mode_acl {
	void *acl;
	size_t len;
};

/* The access ACL as it must be for @mode; acl NULL: none is stored. */
static int acl_for_mode(struct op *o, struct inode *i, uint32_t mode, struct mode_acl *ma)
{
	size_t len = 0;
	int rc;

	if (i->xattr_format == LUNFS_FORK_EMPTY || S_ISLNK(i->mode))
		return 0;
	rc = xattr_get(&o->v->ne, i, ACL_ACCESS_NAME, NULL, 0, &len);
	if (rc == -ENODATA || (rc == 0 && len == 0))
		return 0;
	if (rc)
		return rc;
	ma->acl = malloc(len);
	lunfs_assert(ma->acl);
	rc = xattr_get(&o->v->ne, i, ACL_ACCESS_NAME, ma->acl, len, &ma->len);
	return rc ? rc : acl_chmod(ma->acl, ma->len, mode);
}

static void set_owner_mode(struct inode *i, const struct setattr *a)
{
	if (a->set & VSET_MODE)
		i->mode = (i->mode & S_IFMT) | (a->st->st_mode & 07777);
	if (a->set & VSET_UID)
		i->uid = a->st->st_uid;
	if (a->set & VSET_GID)
		i->gid = a->st->st_gid;
}

static void set_times(struct volume *v, struct inode *i, const struct setattr *a)
{
	struct timespec now = vol_now(v);

	if (a->set & VSET_ATIME_NOW)
		i->atime = now;
	else if (a->set & VSET_ATIME)
		i->atime = a->st->st_atim;
	if (a->set & VSET_MTIME_NOW)
		i->mtime = now;
	else if (a->set & VSET_MTIME)
		i->mtime = a->st->st_mtim;
	if (a->set & VSET_CTIME)
		i->ctime = a->st->st_ctim;
	else
		inode_touch(v, i);
}

static int set_rest(struct op *o, const struct setattr *a, struct inode *i, struct mode_acl *ma)
{
	struct change ch;
	int rc = 0;

	change_init(&ch, o);
	change_credits(&ch, 1);
	if (ma->acl)
		rc = change_need_xattr(&ch, i, ACL_ACCESS_NAME, ma->len);
	if (rc == 0)
		rc = change_begin(&ch, i->ino, ALLOC_RESERVE_OK);
	if (rc == 0) {
		if (ma->acl)
			rc = xattr_set(&o->v->ne, &ch.nt, i, ACL_ACCESS_NAME, ma->acl, ma->len, 0);
		if (rc)
			change_broken(&ch, rc, "an access ACL");
		set_owner_mode(i, a);
		set_times(o->v, i, a);
		inode_update_times(ch.nt.h, i);
	}
	change_end(&ch);
	return rc;
}

static int set_size(struct op *o, struct setattr *a, struct inode *i)
{
	int rc;

	if (S_ISDIR(i->mode))
		return -EISDIR;
	if (!S_ISREG(i->mode) || a->st->st_size < 0)
		return -EINVAL;
	if ((uint64_t)a->st->st_size > VOL_FILE_MAX)
		return -EFBIG;
	rc = trunc_finish(o, i); /* what was begun here before, too */
	if (rc == 0 && !a->size_begun)
		rc = trunc_set_size(o, i, (uint64_t)a->st->st_size, &a->size_begun);
	if (a->size_begun)
		attr_fill(o->v, i, a->out);
	a->sized = rc == 0;
	return rc;
}

static int drop_privileges(struct op *o, struct inode *i, const struct setattr *a)
{
	bool suidgid = (a->set & VSET_KILL_SUIDGID) && !(a->set & VSET_MODE);

	if (a->sized || a->size_begun || /* that was before */
	    (!suidgid && !(a->set & (VSET_SIZE | VSET_UID | VSET_GID))))
		return 0;
	return priv_drop(o, i, suidgid);
}

static int setattr_body(struct op *o, void *arg)
{
	struct setattr *a = arg;
	struct mode_acl ma = {0};
	struct inode *i;
	int rc;

	rc = op_get(o, a->id, LOCK_EX, LOCAL_EXCL, &i);
	if (rc == 0)
		rc = drop_privileges(o, i, a);
	if (rc == 0 && (a->set & VSET_SIZE) && !a->sized)
		rc = set_size(o, a, i);
	if (rc == 0 && (a->set & VSET_MODE))
		rc = acl_for_mode(o, i, a->st->st_mode, &ma);
	if (rc == 0 && a->set != VSET_SIZE)
		rc = set_rest(o, a, i, &ma);
	if (rc == 0)
		attr_fill(o->v, i, a->out);
	free(ma.acl);
	return rc;
}

int vol_setattr(struct volume *v, const struct op_ctx *c, struct nodeid id, const struct stat *st,
		unsigned set, struct vattr *out)
{
	struct setattr a = {.id = id, .st = st, .set = set, .out = out};
	struct op o;
	int rc;

	op_init(&o, v, c);
	op_plan(&o, id.ino, LOCK_EX, LOCAL_EXCL);
	rc = op_run(&o, setattr_body, &a);
	if (rc && a.size_begun) /* the size is set; the worker gives up the rest */
		orphans_add(v->orphans, id);
	if (rc == -ESTALE && a.size_begun) /* it took effect, and the file was removed since */
		rc = 0;
	return rc;
}
