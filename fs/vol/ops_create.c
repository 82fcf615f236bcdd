/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New inodes with their first name (mknod, create, mkdir, symlink), and further names (link). A new
 * inode's cell comes with its lock, which nobody else can want yet; so it is pinned by a try and
 * stands outside the order of addresses.
 */
#include "vol/vol_impl.h"
#include <stdlib.h>
#include <sys/sysmacros.h>

#define NEW_CELL_TRIES 8u
#define NEW_XATTRS_MAX 24u /* tree insertions into a new inode in one transaction */

struct acls { /* what a default ACL of the directory makes of the new inode */
	void *def, *access;
	size_t len;
	bool store_access;
};

struct create {
	struct nodeid dir;
	const char *name;
	uint32_t mode;
	dev_t rdev;
	const char *target; /* symlink */
	bool open;
	struct vattr *out;
};

/* ---- ownership and permissions --------------------------------------------------------------- */

static int load_default_acl(struct op *o, struct inode *dir, struct acls *acl)
{
	size_t len = 0;
	int rc;

	if (dir->xattr_format == LUNFS_FORK_EMPTY)
		return 0;
	rc = xattr_get(&o->v->ne, dir, ACL_DEFAULT_NAME, NULL, 0, &len);
	if (rc == -ENODATA || (rc == 0 && len == 0))
		return 0;
	if (rc)
		return rc;
	acl->def = malloc(len);
	acl->access = malloc(len);
	lunfs_assert(acl->def && acl->access);
	rc = xattr_get(&o->v->ne, dir, ACL_DEFAULT_NAME, acl->def, len, &acl->len);
	return rc == 0 && acl->len != len ? -EUCLEAN : rc;
}

static void free_acls(struct acls *acl)
{
	free(acl->def);
	free(acl->access);
}

static int new_mode(struct op *o, struct inode *dir, const struct create *a, struct acls *acl,
		    uint32_t *mode)
{
	bool minimal = true;
	int rc;

	*mode = a->mode;
	if (S_ISLNK(*mode))
		return 0;
	rc = load_default_acl(o, dir, acl);
	if (rc)
		return rc;
	if (acl->def) {
		rc = acl_inherit(acl->def, acl->len, mode, acl->access, &minimal);
		acl->store_access = !minimal;
	} else if (o->c) {
		*mode &= ~(o->c->umask & 0777);
	}
	if (S_ISDIR(*mode) && (dir->mode & S_ISGID))
		*mode |= S_ISGID;
	return rc;
}

static void new_attrs(struct op *o, const struct inode *dir, const struct create *a, uint32_t mode,
		      struct inode *i)
{
	memset(i, 0, sizeof(*i));
	i->generation = vol_new_generation(o->v);
	i->mode = mode;
	i->nlink = S_ISDIR(mode) ? 2 : 1;
	i->uid = o->c ? o->c->uid : 0;
	i->gid = (dir->mode & S_ISGID) ? dir->gid : o->c ? o->c->gid : 0;
	i->atime = i->mtime = i->ctime = i->btime = vol_now(o->v);
	if (S_ISCHR(mode) || S_ISBLK(mode)) {
		i->rdev_major = major(a->rdev);
		i->rdev_minor = minor(a->rdev);
	}
	if (S_ISDIR(mode))
		i->parent = dir->ino;
}

/* ---- the new cell ---------------------------------------------------------------------------- */

/*
 * A cell whose own lock is to be had at once: its last user may still hold it, then take another;
 * if it is the same one each time, wait for its lock with nothing pinned.
 */
int newcell_get(struct op *o, uint64_t goal, struct newcell *nc)
{
	struct volume *v = o->v;
	uint64_t addr = 0;
	int rc;

	for (unsigned k = 0; k < NEW_CELL_TRIES; k++) {
		rc = cell_reserve(v->alloc, 1, goal, ALLOC_NEED_LOCK, &nc->res);
		if (rc) {
			if (rc == -EAGAIN)
				o->want = nc->res.want;
			return rc;
		}
		addr = nc->res.cell[0].addr;
		rc = lock_pin(v->locks, addr, LOCK_EX, LOCAL_EXCL, LOCK_TRY, NULL, &nc->l);
		if (rc == 0)
			return 0;
		cell_unreserve(v->alloc, &nc->res);
		if (rc != -EAGAIN)
			return rc;
		goal = 0;
	}
	o->want = addr;
	return -EAGAIN;
}

void newcell_put(struct op *o, struct newcell *nc)
{
	lock_unpin(o->v->locks, nc->l, LOCAL_EXCL);
	cell_unreserve(o->v->alloc, &nc->res);
}

/* ---- create ---------------------------------------------------------------------------------- */

static unsigned acl_parts(const struct acls *acl)
{
	return (unsigned)((acl->len + LUNFS_XATTR_PART_BYTES - 1) / LUNFS_XATTR_PART_BYTES);
}

static int create_needs(struct change *ch, struct inode *dir, const struct create *a,
			const struct acls *acl, uint32_t mode)
{
	unsigned n = 0;

	if (acl->store_access)
		n += acl_parts(acl);
	if (acl->def && S_ISDIR(mode))
		n += acl_parts(acl);
	if (a->target)
		n += symlink_need_changes(strlen(a->target));
	if (n > NEW_XATTRS_MAX)
		return -E2BIG;
	if (n) /* an insertion splits at most a leaf and what is above; the tree starts empty */
		ch->want_cells += 2 * n + 2;
	change_credits(ch, 2 + (n ? 2 * n + 2 : 0) + CELL_TAKE_CREDITS);
	return change_need(ch, dir, FORK_DATA, 1);
}

static int fill_new(struct change *ch, const struct create *a, const struct acls *acl,
		    struct inode *i)
{
	const struct node_env *ne = &ch->o->v->ne;
	int rc = 0;

	if (a->target)
		rc = symlink_set(ne, &ch->nt, i, a->target, strlen(a->target));
	if (rc == 0 && acl->store_access)
		rc = xattr_set(ne, &ch->nt, i, ACL_ACCESS_NAME, acl->access, acl->len, 0);
	if (rc == 0 && acl->def && S_ISDIR(i->mode))
		rc = xattr_set(ne, &ch->nt, i, ACL_DEFAULT_NAME, acl->def, acl->len, 0);
	return rc;
}

static int write_new(struct change *ch, const struct create *a, const struct acls *acl,
		     struct newcell *nc, struct inode *dir, struct inode *i)
{
	struct volume *v = ch->o->v;
	struct cell cell = cell_take(ch->nt.h, v->alloc, &nc->res);
	int rc;

	inode_create(&v->ne, ch->nt.h, nc->l, &cell, i);
	rc = fill_new(ch, a, acl, i);
	if (rc == 0)
		rc = dir_insert(&v->ne, &ch->nt, dir, a->name, i->ino, i->generation,
				mode_to_dtype(i->mode));
	if (rc)
		return change_broken(ch, rc, "a directory for a new name");
	inode_update(ch->nt.h, i);
	if (S_ISDIR(i->mode))
		dir->nlink++;
	inode_touch_data(v, dir);
	inode_update(ch->nt.h, dir);
	return 0;
}

static int create_in(struct op *o, const struct create *a, const struct acls *acl, uint32_t mode,
		     struct inode *dir)
{
	struct newcell nc;
	struct change ch;
	struct inode i;
	int rc;

	change_init(&ch, o);
	rc = create_needs(&ch, dir, a, acl, mode);
	if (rc == 0)
		rc = newcell_get(o, dir->ino, &nc);
	if (rc)
		return rc;
	new_attrs(o, dir, a, mode, &i);
	rc = change_begin(&ch, dir->ino, 0);
	if (rc == 0) {
		rc = write_new(&ch, a, acl, &nc, dir, &i);
		if (rc == 0 && a->open)
			onodes_open(o->v->onodes, (struct nodeid){i.ino, i.generation});
		if (rc == 0)
			attr_fill(o->v, &i, a->out);
		inode_put(&o->v->ne, &i);
	}
	change_end(&ch);
	newcell_put(o, &nc);
	return rc;
}

void whiteout_create(struct change *ch, struct newcell *nc, const struct inode *dir,
		     struct inode *i)
{
	const struct create a = {.mode = S_IFCHR}; /* and device 0:0 */
	struct volume *v = ch->o->v;
	struct cell cell = cell_take(ch->nt.h, v->alloc, &nc->res);

	new_attrs(ch->o, dir, &a, a.mode, i);
	inode_create(&v->ne, ch->nt.h, nc->l, &cell, i);
	inode_update(ch->nt.h, i);
}

/* The directory can take a new name. */
static int dir_may_grow(struct op *o, struct inode *dir, const char *name, bool subdir)
{
	struct dir_entry de;
	int rc;

	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EEXIST;
	if (dir->nlink == 0)
		return -ENOENT;
	rc = dir_lookup(&o->v->ne, dir, name, &de);
	if (rc != -ENOENT)
		return rc ? rc : -EEXIST;
	return subdir && dir->nlink >= VOL_LINK_MAX ? -EMLINK : 0;
}

static int create_body(struct op *o, void *arg)
{
	const struct create *a = arg;
	struct acls acl = {0};
	struct inode *dir;
	uint32_t mode;
	int rc;

	rc = op_get(o, a->dir, LOCK_EX, LOCAL_EXCL, &dir);
	if (rc == 0)
		rc = dir_may_grow(o, dir, a->name, S_ISDIR(a->mode));
	if (rc == 0)
		rc = new_mode(o, dir, a, &acl, &mode);
	if (rc == 0)
		rc = create_in(o, a, &acl, mode, dir);
	free_acls(&acl);
	return rc;
}

static int create(struct volume *v, const struct op_ctx *c, struct create *a)
{
	struct op o;
	int rc = vol_check_name(a->name);

	if (rc)
		return rc;
	op_init(&o, v, c);
	op_plan(&o, a->dir.ino, LOCK_EX, LOCAL_EXCL);
	return op_run(&o, create_body, a);
}

int vol_mknod(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
	      mode_t mode, dev_t rdev, struct vattr *out)
{
	struct create a = {.dir = dir, .name = name, .mode = mode, .rdev = rdev, .out = out};

	if ((mode & S_IFMT) == 0)
		a.mode |= S_IFREG;
	if (S_ISDIR(a.mode))
		return -EPERM;
	if (!S_ISREG(a.mode) && !S_ISFIFO(a.mode) && !S_ISSOCK(a.mode) && !S_ISCHR(a.mode) &&
	    !S_ISBLK(a.mode))
		return -EINVAL;
	return create(v, c, &a);
}

int vol_create(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
	       mode_t mode, struct vattr *out)
{
	struct create a = {
	    .dir = dir, .name = name, .mode = (mode & 07777) | S_IFREG, .open = true, .out = out};

	return create(v, c, &a);
}

int vol_mkdir(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
	      mode_t mode, struct vattr *out)
{
	struct create a = {.dir = dir, .name = name, .mode = (mode & 07777) | S_IFDIR, .out = out};

	return create(v, c, &a);
}

int vol_symlink(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
		const char *target, struct vattr *out)
{
	struct create a = {
	    .dir = dir, .name = name, .mode = 0777 | S_IFLNK, .target = target, .out = out};

	if (target[0] == '\0')
		return -ENOENT;
	if (strlen(target) > LUNFS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	return create(v, c, &a);
}

/* ---- link ------------------------------------------------------------------------------------ */

struct linking {
	struct nodeid id, dir;
	const char *name;
	struct vattr *out;
};

static int link_in(struct op *o, const struct linking *a, struct inode *dir, struct inode *i)
{
	struct change ch;
	int rc;

	change_init(&ch, o);
	change_credits(&ch, 1);
	rc = change_need(&ch, dir, FORK_DATA, 1);
	if (rc == 0)
		rc = change_begin(&ch, dir->ino, 0);
	if (rc == 0) {
		rc = dir_insert(&o->v->ne, &ch.nt, dir, a->name, i->ino, i->generation,
				mode_to_dtype(i->mode));
		if (rc) {
			change_broken(&ch, rc, "a directory for a new name");
		} else {
			i->nlink++;
			inode_touch(o->v, i);
			inode_update(ch.nt.h, i);
			inode_touch_data(o->v, dir);
			inode_update(ch.nt.h, dir);
			attr_fill(o->v, i, a->out);
		}
	}
	change_end(&ch);
	return rc;
}

static int link_body(struct op *o, void *arg)
{
	const struct linking *a = arg;
	struct inode *dir, *i;
	int rc;

	rc = op_get(o, a->dir, LOCK_EX, LOCAL_EXCL, &dir);
	if (rc == 0)
		rc = op_get(o, a->id, LOCK_EX, LOCAL_EXCL, &i);
	if (rc)
		return rc;
	if (S_ISDIR(i->mode))
		return -EPERM;
	rc = dir_may_grow(o, dir, a->name, false);
	if (rc)
		return rc;
	if (i->nlink == 0)
		return -ENOENT;
	if (i->nlink >= VOL_LINK_MAX)
		return -EMLINK;
	return link_in(o, a, dir, i);
}

int vol_link(struct volume *v, const struct op_ctx *c, struct nodeid id, struct nodeid dir,
	     const char *name, struct vattr *out)
{
	struct linking a = {.id = id, .dir = dir, .name = name, .out = out};
	struct op o;
	int rc = vol_check_name(name);

	if (rc)
		return rc;
	op_init(&o, v, c);
	op_plan(&o, dir.ino, LOCK_EX, LOCAL_EXCL);
	op_plan(&o, id.ino, LOCK_EX, LOCAL_EXCL);
	return op_run(&o, link_body, &a);
}
