/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes, and POSIX ACLs as far as they change the mode. */
#include "vol/vol_impl.h"
#include <sys/xattr.h>

struct xa {
	struct nodeid id;
	const char *name;
	void *buf;	   /* get, list */
	const void *value; /* set; NULL: remove */
	size_t size;
	size_t *len;
	int flags;
};

static int get_body(struct op *o, void *arg)
{
	struct xa *a = arg;
	struct inode *i;
	int rc = op_get(o, a->id, LOCK_SH, LOCAL_SHARED, &i);

	if (rc)
		return rc;
	return a->name ? xattr_get(&o->v->ne, i, a->name, a->buf, a->size, a->len)
		       : xattr_list(&o->v->ne, i, o->c->uid == 0, a->buf, a->size, a->len);
}

int vol_getxattr(struct volume *v, const struct op_ctx *c, struct nodeid id, const char *name,
		 void *buf, size_t size, size_t *len)
{
	struct xa a = {.id = id, .name = name, .buf = buf, .size = size, .len = len};
	struct op o;

	op_init(&o, v, c);
	o.reading = true;
	return op_run(&o, get_body, &a);
}

int vol_listxattr(struct volume *v, const struct op_ctx *c, struct nodeid id, char *buf,
		  size_t size, size_t *len)
{
	struct xa a = {.id = id, .buf = buf, .size = size, .len = len};
	struct op o;

	op_init(&o, v, c);
	o.reading = true;
	return op_run(&o, get_body, &a);
}

/* ---- ACLs ------------------------------------------------------------------------------------ */

/* As posix_acl_update_mode() of Linux: who is not in the file's group takes its set-group-id bit.
 */
static bool may_keep_sgid(const struct op_ctx *c, const struct inode *i)
{
	bool yes = c->uid == 0 || c->keeps_sgid || c->gid == i->gid;

	for (unsigned k = 0; k < c->n_groups && !yes; k++)
		yes = c->groups[k] == i->gid;
	return yes;
}

/*
 * What storing this ACL means: the mode that goes with it, and whether there is anything to store:
 * an empty ACL, or one that says no more than the mode, is removed instead.
 */
static int judge_acl(const struct op_ctx *c, const struct xa *a, const struct inode *i,
		     uint32_t *mode, bool *store)
{
	bool access = strcmp(a->name, ACL_ACCESS_NAME) == 0, minimal = false;
	int rc;

	*store = a->value != NULL;
	if (!access && strcmp(a->name, ACL_DEFAULT_NAME) != 0)
		return 0;
	if (S_ISLNK(i->mode))
		return -EOPNOTSUPP;
	if (!a->value)
		return 0;
	rc = acl_check(a->value, a->size);
	if (rc)
		return rc;
	if (!access) {
		*store = a->size > 4; /* more than the head of an ACL */
		return *store && !S_ISDIR(i->mode) ? -EACCES : 0;
	}
	if (a->size <= 4) {
		*store = false;
		return 0;
	}
	rc = acl_to_mode(a->value, a->size, mode, &minimal);
	if (!may_keep_sgid(c, i))
		*mode &= ~(uint32_t)S_ISGID;
	*store = !minimal;
	return rc;
}

/* ---- change ---------------------------------------------------------------------------------- */

static int exists(struct op *o, struct inode *i, const char *name, bool *found)
{
	size_t len;
	int rc = xattr_get(&o->v->ne, i, name, NULL, 0, &len);

	*found = rc == 0;
	return rc == -ENODATA ? 0 : rc;
}

static int write_xattr(struct change *ch, const struct xa *a, struct inode *i, uint32_t mode,
		       bool store, bool found)
{
	const struct node_env *ne = &ch->o->v->ne;
	int rc = 0;

	if (store)
		rc = xattr_set(ne, &ch->nt, i, a->name, a->value, a->size, 0);
	else if (found)
		rc = xattr_remove(ne, &ch->nt, i, a->name);
	if (rc)
		return change_broken(ch, rc, "extended attributes");
	i->mode = mode;
	inode_touch(ch->o->v, i);
	inode_update(ch->nt.h, i);
	return 0;
}

static int change_xattr(struct op *o, const struct xa *a, struct inode *i, uint32_t mode,
			bool store, bool found)
{
	size_t keep = store ? a->size : XATTR_KEEP_NOTHING;
	struct change ch;
	int rc = 0;

	change_init(&ch, o);
	change_credits(&ch, 1);
	if (store || found)
		rc = change_need_xattr(&ch, i, a->name, keep);
	/* If the lock to give an emptied tree node up is not to be had, the node stays. */
	if (rc == 0 && found && xattr_free_prepare(&o->v->ne, i, a->name, keep, &ch.frees) == -EIO)
		rc = -EIO;
	if (rc == 0)
		rc = change_begin(&ch, i->ino, store ? 0 : ALLOC_RESERVE_OK);
	if (rc == 0)
		rc = write_xattr(&ch, a, i, mode, store, found);
	change_end(&ch);
	return rc;
}

static int set_body(struct op *o, void *arg)
{
	struct xa *a = arg;
	bool store, found;
	struct inode *i;
	uint32_t mode;
	int rc;

	rc = op_get(o, a->id, LOCK_EX, LOCAL_EXCL, &i);
	if (rc)
		return rc;
	mode = i->mode;
	rc = judge_acl(o->c, a, i, &mode, &store);
	if (rc == 0)
		rc = exists(o, i, a->name, &found);
	if (rc)
		return rc;
	if ((a->flags & XATTR_CREATE) && found)
		return -EEXIST;
	if ((a->flags & XATTR_REPLACE) && !found)
		return -ENODATA;
	if (!store && !found && mode == i->mode) /* an ACL that the mode says already, or no ACL */
		return 0;
	return change_xattr(o, a, i, mode, store, found);
}

static int set(struct volume *v, const struct op_ctx *c, struct xa *a)
{
	struct op o;

	op_init(&o, v, c);
	op_plan(&o, a->id.ino, LOCK_EX, LOCAL_EXCL);
	return op_run(&o, set_body, a);
}

int vol_setxattr(struct volume *v, const struct op_ctx *c, struct nodeid id, const char *name,
		 const void *value, size_t len_bytes, int flags)
{
	struct xa a = {
	    .id = id, .name = name, .value = value ? value : "", .size = len_bytes, .flags = flags};

	return set(v, c, &a);
}

int vol_removexattr(struct volume *v, const struct op_ctx *c, struct nodeid id, const char *name)
{
	struct xa a = {.id = id, .name = name, .flags = XATTR_REPLACE};

	/* Removing an ACL that is not there succeeds, as on other file systems. */
	if (strcmp(name, ACL_ACCESS_NAME) == 0 || strcmp(name, ACL_DEFAULT_NAME) == 0)
		a.flags = 0;

	return set(v, c, &a);
}
