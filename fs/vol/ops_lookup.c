/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking at names and attributes, opening and closing. Access times are not updated by reads
 * (noatime). */
#include "vol/vol_impl.h"

int vol_root(struct volume *v, struct nodeid *out)
{
	struct vattr va;
	int rc = vol_getattr(v, NULL, (struct nodeid){v->geo.root_ino, 0}, &va);

	if (rc == 0)
		*out = va.id;
	return rc;
}

struct look {
	struct nodeid id;
	const char *name;
	struct vattr *out;
	char *buf;
	size_t size;
};

static int lookup_dots(struct op *o, const struct look *a, struct inode *dir)
{
	struct inode *up;
	int rc;

	if (a->name[1] == '\0') {
		attr_fill(o->v, dir, a->out);
		return 0;
	}
	if (dir->nlink == 0)
		return -ENOENT;
	rc = op_get(o, (struct nodeid){dir->parent, 0}, LOCK_SH, LOCAL_SHARED, &up);
	if (rc == 0 && !S_ISDIR(up->mode))
		rc = -EUCLEAN;
	if (rc == 0)
		attr_fill(o->v, up, a->out);
	return rc == -ESTALE ? -EUCLEAN : rc;
}

static int lookup_body(struct op *o, void *arg)
{
	struct look *a = arg;
	struct inode *dir, *i;
	struct dir_entry de;
	int rc;

	rc = op_get(o, a->id, LOCK_SH, LOCAL_SHARED, &dir);
	if (rc)
		return rc;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	if (strcmp(a->name, ".") == 0 || strcmp(a->name, "..") == 0)
		return lookup_dots(o, a, dir);
	rc = dir_lookup(&o->v->ne, dir, a->name, &de);
	if (rc == 0)
		ahead_looked(o->v->aheads, a->id, &de);
	if (rc == 0)
		rc = op_get_entry(o, &de, LOCK_SH, LOCAL_SHARED, &i);
	if (rc == 0)
		attr_fill(o->v, i, a->out);
	return rc;
}

int vol_lookup(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
	       struct vattr *out)
{
	struct look a = {.id = dir, .name = name, .out = out};
	struct op o;
	int rc = vol_check_name(name);

	if (rc)
		return rc;
	op_init(&o, v, c);
	o.reading = true;
	op_plan(&o, dir.ino, LOCK_SH, LOCAL_SHARED);
	return op_run(&o, lookup_body, &a);
}

static int getattr_body(struct op *o, void *arg)
{
	struct look *a = arg;
	struct inode *i;
	int rc = op_get(o, a->id, LOCK_SH, LOCAL_SHARED, &i);

	if (rc == 0)
		attr_fill(o->v, i, a->out);
	return rc;
}

int vol_getattr(struct volume *v, const struct op_ctx *c, struct nodeid id, struct vattr *out)
{
	struct look a = {.id = id, .out = out};
	struct op o;

	op_init(&o, v, c);
	o.reading = true;
	o.prompt = c && c->drain;
	o.pin_flags = o.prompt ? LOCK_DRAIN : 0;
	o.goes_on = o.prompt; /* no use of the lock by which its next one is foreseen */
	return op_run(&o, getattr_body, &a);
}

static int readlink_body(struct op *o, void *arg)
{
	struct look *a = arg;
	struct inode *i;
	int rc = op_get(o, a->id, LOCK_SH, LOCAL_SHARED, &i);

	if (rc)
		return rc;
	if (!S_ISLNK(i->mode))
		return -EINVAL;
	return symlink_get(&o->v->ne, i, a->buf, a->size);
}

int vol_readlink(struct volume *v, const struct op_ctx *c, struct nodeid id, char *buf, size_t size)
{
	struct look a = {.id = id, .buf = buf, .size = size};
	struct op o;

	op_init(&o, v, c);
	o.reading = true;
	return op_run(&o, readlink_body, &a);
}

/* Counted while the lock is pinned: who has it exclusively sees all opens of this host. */
static int open_body(struct op *o, void *arg)
{
	struct look *a = arg;
	struct inode *i;
	int rc = op_get(o, a->id, LOCK_SH, LOCAL_SHARED, &i);

	if (rc)
		return rc;
	if (i->nlink == 0 && onodes_count(o->v->onodes, i->ino) == 0)
		return -ESTALE;
	onodes_open(o->v->onodes, (struct nodeid){i->ino, i->generation});
	return 0;
}

int vol_open(struct volume *v, const struct op_ctx *c, struct nodeid id)
{
	struct look a = {.id = id};
	struct op o;

	op_init(&o, v, c);
	o.reading = true;
	return op_run(&o, open_body, &a);
}

void vol_release(struct volume *v, struct nodeid id)
{
	if (onodes_close(v->onodes, id) && !atomic_load(&v->lost))
		orphans_add(v->orphans, id);
}

void vol_interrupt(struct volume *v, struct lock_intr *intr)
{
	lock_intr_fire(v->locks, intr);
}

int vol_statfs(struct volume *v, struct statvfs *out)
{
	struct space s;
	int rc;

	if (atomic_load(&v->lost))
		return -EIO;
	rc = alloc_statfs(v->alloc, &s);
	if (rc)
		return rc;
	memset(out, 0, sizeof(*out));
	out->f_bsize = out->f_frsize = (unsigned long)BLK;
	out->f_blocks = s.total_blks;
	out->f_bfree = s.free_blks;
	out->f_bavail = s.avail_blks;
	/* Free blocks can become inodes. */
	out->f_ffree = s.free_cells + s.free_blks / v->geo.cell_blks;
	out->f_favail = s.free_cells + s.avail_blks / v->geo.cell_blks;
	out->f_files = s.used_cells + out->f_ffree;
	memcpy(&out->f_fsid, v->geo.uuid, sizeof(out->f_fsid));
	out->f_namemax = LUNFS_NAME_MAX;
	out->f_flag = v->read_only ? ST_RDONLY : 0;
	return 0;
}

/*
 * Taking the lock makes another host that changed the file commit: fsync covers what anybody wrote
 * before it. Then everything of this host is made durable; with @data_only what is needed to find
 * and read the data of the file: after an overwrite of allocated space that is the data alone, and
 * a flush of the device does it.
 */
int vol_fsync(struct volume *v, const struct op_ctx *c, struct nodeid id, bool data_only)
{
	struct vattr va;
	int rc = vol_getattr(v, c, id, &va);

	if (rc || !data_only || !S_ISREG(va.st.st_mode) || v->read_only)
		return rc ? rc : vol_syncfs(v);
	return atomic_load(&v->lost) ? -EIO : txn_wait_guard(v->txns, va.id.ino);
}

int vol_syncfs(struct volume *v)
{
	if (atomic_load(&v->lost))
		return -EIO;
	if (v->read_only)
		return 0;
	return txn_wait_durable(v->txns, txn_current(v->txns));
}
