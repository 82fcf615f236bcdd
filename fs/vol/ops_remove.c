/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that go: unlink and rmdir. An inode that loses its last name is given up in the same
 * transaction, or becomes an orphan in it (giveup.c).
 */
#include "vol/vol_impl.h"

struct removal {
	struct nodeid dir;
	const char *name;
	bool rmdir;
	struct nodeid gone; /* out: an orphan by this; or ino 0 */
};

static int may_remove(const struct removal *a, const struct inode *i)
{
	if (!a->rmdir)
		return S_ISDIR(i->mode) ? -EISDIR : 0;
	if (!S_ISDIR(i->mode))
		return -ENOTDIR;
	return i->size ? -ENOTEMPTY : 0;
}

static int drop_link(struct change *ch, struct inode *i)
{
	i->nlink--;
	inode_touch(ch->o->v, i);
	inode_update(ch->nt.h, i);
	return 0;
}

/* @p NULL: it is not the last name. */
static int write_removal(struct change *ch, struct removal *a, struct inode *dir, struct inode *i,
			 struct parting *p)
{
	struct volume *v = ch->o->v;
	int rc = dir_remove(&v->ne, &ch->nt, dir, a->name);

	if (rc == 0) {
		if (S_ISDIR(i->mode))
			dir->nlink--;
		inode_touch_data(v, dir);
		inode_update(ch->nt.h, dir);
		rc = p ? parting_commit(ch, i, p, &a->gone) : drop_link(ch, i);
	}
	return rc ? change_broken(ch, rc, "a directory from which a name goes") : 0;
}

static int remove_from(struct op *o, struct removal *a, struct inode *dir, struct inode *i)
{
	bool last = S_ISDIR(i->mode) || i->nlink <= 1;
	struct parting p;
	struct change ch;
	int rc;

	change_init(&ch, o);
	change_credits(&ch, 1);
	rc = change_need_removal(&ch, dir);
	if (rc == 0 && last)
		rc = parting_prepare(&ch, i, &p);
	/* If the lock to give an emptied tree node up is not to be had, the node stays. */
	if (rc == 0 && dir_remove_prepare(&o->v->ne, dir, a->name, &ch.frees) == -EIO)
		rc = -EIO;
	if (rc == 0)
		rc = change_begin(&ch, dir->ino, ALLOC_RESERVE_OK);
	if (rc == 0)
		rc = write_removal(&ch, a, dir, i, last ? &p : NULL);
	change_end(&ch);
	return rc;
}

static int remove_body(struct op *o, void *arg)
{
	struct removal *a = arg;
	struct inode *dir, *i;
	struct dir_entry de;
	int rc;

	rc = op_get(o, a->dir, LOCK_EX, LOCAL_EXCL, &dir);
	if (rc)
		return rc;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	rc = dir_lookup(&o->v->ne, dir, a->name, &de);
	if (rc == 0)
		rc = op_get_entry(o, &de, LOCK_EX, LOCAL_EXCL, &i);
	if (rc == 0)
		rc = may_remove(a, i);
	if (rc == 0)
		rc = remove_from(o, a, dir, i);
	return rc;
}

static int remove_name(struct volume *v, const struct op_ctx *c, struct removal *a)
{
	struct op o;
	int rc = vol_check_name(a->name);

	if (rc)
		return rc;
	op_init(&o, v, c);
	op_plan(&o, a->dir.ino, LOCK_EX, LOCAL_EXCL);
	rc = op_run(&o, remove_body, a);
	if (rc == 0 && a->gone.ino)
		orphans_add(v->orphans, a->gone);
	return rc;
}

int vol_unlink(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name)
{
	struct removal a = {.dir = dir, .name = name};

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EISDIR;
	return remove_name(v, c, &a);
}

int vol_rmdir(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name)
{
	struct removal a = {.dir = dir, .name = name, .rmdir = true};

	if (strcmp(name, ".") == 0)
		return -EINVAL;
	if (strcmp(name, "..") == 0)
		return -ENOTEMPTY;
	return remove_name(v, c, &a);
}
