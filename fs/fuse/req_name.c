/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests about names and attributes. */
#include "fuse/front.h"
#include <errno.h>
#include <limits.h>
#include <string.h>

struct naming { /* a request about a name in a directory, or in two */
	struct call c;
	struct nodeid dir;
	uint64_t begun;
};

static void naming_begin(struct naming *n, fuse_req_t req, fuse_ino_t parent)
{
	call_begin(&n->c, req);
	n->dir = front_node(n->c.f, parent);
	n->begun = keep_begin(n->c.f);
}

static void reply_entry(fuse_req_t req, struct naming *n, const struct vattr *va, enum keep_how how)
{
	struct front *f = n->c.f;
	struct fuse_entry_param e;

	keep_entry(f, n->dir.ino, va, n->begun, how, &e);
	if (fuse_reply_entry(req, &e) != 0)
		nodes_forget(f->nodes, va->id.ino, 1);
}

static void reply_absence(fuse_req_t req, struct naming *n)
{
	struct fuse_entry_param e = {0};

	e.entry_timeout = keep_absence(n->c.f, n->dir.ino, n->begun);
	if (e.entry_timeout > 0)
		fuse_reply_entry(req, &e);
	else
		reply_rc(req, -ENOENT);
}

void req_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct naming n;
	struct vattr va;
	int rc;

	naming_begin(&n, req, parent);
	/* sizes_settle() of an inode that the kernel has just forgotten: it must not wait. */
	if (strcmp(name, ".") == 0 && sizes_asks(n.c.f->sizes, n.c.tid))
		rc = -ESTALE;
	else
		rc = vol_lookup(n.c.f->vol, &n.c.op, n.dir, name, &va);
	call_end(&n.c, req);
	if (rc == 0)
		reply_entry(req, &n, &va, KEEP_FOUND);
	else if (rc == -ENOENT)
		reply_absence(req, &n);
	else
		reply_rc(req, rc);
}

void req_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	nodes_forget(req_front(req)->nodes, ino, nlookup);
	fuse_reply_none(req);
}

void req_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		nodes_forget(req_front(req)->nodes, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* The question of sizes_settle(), which must wait for no lock, and tells nobody else. */
static void answer_own(fuse_req_t req, fuse_ino_t ino)
{
	struct front *f = req_front(req);
	struct call c;
	struct vattr va;
	int rc;

	call_begin(&c, req);
	c.op.drain = true;
	if (ino == FUSE_ROOT_ID)
		rc = sizes_root(f->sizes, &va);
	else
		rc = vol_getattr(f->vol, &c.op, front_node(f, ino), &va);
	call_end(&c, req);
	if (rc) {
		reply_rc(req, rc);
		return;
	}
	nodes_size_seen(f->nodes, ino, (uint64_t)va.st.st_size); /* it may be taken up late */
	sizes_told(f->sizes, c.tid, (uint64_t)va.st.st_size);
	fuse_reply_attr(req, &va.st, 0);
}

void req_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;
	struct vattr va;
	uint64_t begun;
	int rc;

	(void)fi;
	if (sizes_asks(req_front(req)->sizes, fuse_req_ctx(req)->pid)) {
		answer_own(req, ino);
		return;
	}
	call_begin(&c, req);
	begun = keep_begin(c.f);
	rc = vol_getattr(c.f->vol, &c.op, front_node(c.f, ino), &va);
	call_end(&c, req);
	if (rc == 0 && ino == FUSE_ROOT_ID)
		sizes_root_is(c.f->sizes, &va);
	else if (rc == 0)
		nodes_size_seen(c.f->nodes, ino, (uint64_t)va.st.st_size);
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_attr(req, &va.st, keep_attrs(c.f, &va, begun));
}

static unsigned setattr_flags(int set)
{
	static const struct {
		int fuse;
		unsigned vol;
	} map[] = {
	    {FUSE_SET_ATTR_MODE, VSET_MODE},
	    {FUSE_SET_ATTR_UID, VSET_UID},
	    {FUSE_SET_ATTR_GID, VSET_GID},
	    {FUSE_SET_ATTR_SIZE, VSET_SIZE},
	    {FUSE_SET_ATTR_ATIME, VSET_ATIME},
	    {FUSE_SET_ATTR_MTIME, VSET_MTIME},
	    {FUSE_SET_ATTR_CTIME, VSET_CTIME},
	    {FUSE_SET_ATTR_ATIME_NOW, VSET_ATIME_NOW},
	    {FUSE_SET_ATTR_MTIME_NOW, VSET_MTIME_NOW},
	};
	unsigned flags = wire_kills_suidgid() ? VSET_KILL_SUIDGID : 0;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (set & map[i].fuse)
			flags |= map[i].vol;
	return flags;
}

void req_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set,
		 struct fuse_file_info *fi)
{
	struct call c;
	struct vattr va;
	int rc;

	(void)fi;
	call_begin(&c, req);
	nodes_size_seen(c.f->nodes, ino, UINT64_MAX);
	rc = vol_setattr(c.f->vol, &c.op, front_node(c.f, ino), st, setattr_flags(set), &va);
	nodes_size_seen(c.f->nodes, ino, UINT64_MAX);
	call_end(&c, req);
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_attr(req, &va.st, 0); /* the kernel takes them at any rate: keep.c */
}

void req_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct call c;
	char target[PATH_MAX];
	int rc;

	call_begin(&c, req);
	rc = vol_readlink(c.f->vol, &c.op, front_node(c.f, ino), target, sizeof(target));
	call_end(&c, req);
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_readlink(req, target);
}

static void finish_entry(fuse_req_t req, struct naming *n, int rc, const struct vattr *va)
{
	call_end(&n->c, req);
	if (rc)
		reply_rc(req, rc);
	else
		reply_entry(req, n, va, KEEP_MADE);
}

void req_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct naming n;
	struct vattr va;
	int rc;

	naming_begin(&n, req, parent);
	rc = vol_mknod(n.c.f->vol, &n.c.op, n.dir, name, mode, rdev, &va);
	finish_entry(req, &n, rc, &va);
}

void req_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct naming n;
	struct vattr va;
	int rc;

	naming_begin(&n, req, parent);
	rc = vol_mkdir(n.c.f->vol, &n.c.op, n.dir, name, mode, &va);
	finish_entry(req, &n, rc, &va);
}

void req_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct naming n;
	struct vattr va;
	int rc;

	naming_begin(&n, req, parent);
	rc = vol_symlink(n.c.f->vol, &n.c.op, n.dir, name, target, &va);
	finish_entry(req, &n, rc, &va);
}

void req_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct naming n;
	struct vattr va;
	int rc;

	naming_begin(&n, req, parent);
	rc = vol_link(n.c.f->vol, &n.c.op, front_node(n.c.f, ino), n.dir, name, &va);
	finish_entry(req, &n, rc, &va);
}

void req_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call c;
	int rc;

	call_begin(&c, req);
	rc = vol_unlink(c.f->vol, &c.op, front_node(c.f, parent), name);
	call_end(&c, req);
	reply_rc(req, rc);
}

void req_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call c;
	int rc;

	call_begin(&c, req);
	rc = vol_rmdir(c.f->vol, &c.op, front_node(c.f, parent), name);
	call_end(&c, req);
	reply_rc(req, rc);
}

void req_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		const char *newname, unsigned flags)
{
	struct naming n;
	struct nodeid newdir;
	struct front *f;
	int rc;

	naming_begin(&n, req, parent);
	f = n.c.f;
	newdir = front_node(f, newparent);
	keep_moved_begin(f, n.dir.ino);
	keep_moved_begin(f, newdir.ino);
	rc = vol_rename(f->vol, &n.c.op, n.dir, name, newdir, newname, flags);
	call_end(&n.c, req);
	keep_moved_end(f, n.dir.ino, n.begun);
	keep_moved_end(f, newdir.ino, n.begun);
	reply_rc(req, rc);
}

void req_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs sv;
	int rc;

	(void)ino;
	memset(&sv, 0, sizeof(sv));
	front_waits();
	rc = vol_statfs(req_front(req)->vol, &sv);
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_statfs(req, &sv);
}
