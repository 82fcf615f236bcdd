/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests about names and attributes. */
#include "fuse/front.h"
#include <errno.h>
#include <limits.h>
#include <string.h>

void req_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call c;
	struct vattr va;
	int rc;

	call_begin(&c, req);
	rc = vol_lookup(c.f->vol, &c.op, front_node(c.f, parent), name, &va);
	call_end(&c, req);
	if (rc)
		reply_rc(req, rc);
	else
		reply_entry(req, c.f, &va);
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

void req_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;
	struct vattr va;
	int rc;

	(void)fi;
	call_begin(&c, req);
	rc = vol_getattr(c.f->vol, &c.op, front_node(c.f, ino), &va);
	call_end(&c, req);
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_attr(req, &va.st, 0);
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
	    {FUSE_SET_ATTR_KILL_PRIV, VSET_KILL_PRIV},
	};
	unsigned flags = 0;

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
	rc = vol_setattr(c.f->vol, &c.op, front_node(c.f, ino), st, setattr_flags(set), &va);
	call_end(&c, req);
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_attr(req, &va.st, 0);
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

static void finish_entry(fuse_req_t req, struct call *c, int rc, const struct vattr *va)
{
	call_end(c, req);
	if (rc)
		reply_rc(req, rc);
	else
		reply_entry(req, c->f, va);
}

void req_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct call c;
	struct vattr va;
	int rc;

	call_begin(&c, req);
	rc = vol_mknod(c.f->vol, &c.op, front_node(c.f, parent), name, mode, rdev, &va);
	finish_entry(req, &c, rc, &va);
}

void req_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct call c;
	struct vattr va;
	int rc;

	call_begin(&c, req);
	rc = vol_mkdir(c.f->vol, &c.op, front_node(c.f, parent), name, mode, &va);
	finish_entry(req, &c, rc, &va);
}

void req_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct call c;
	struct vattr va;
	int rc;

	call_begin(&c, req);
	rc = vol_symlink(c.f->vol, &c.op, front_node(c.f, parent), name, target, &va);
	finish_entry(req, &c, rc, &va);
}

void req_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct call c;
	struct vattr va;
	int rc;

	call_begin(&c, req);
	rc = vol_link(c.f->vol, &c.op, front_node(c.f, ino), front_node(c.f, parent), name, &va);
	finish_entry(req, &c, rc, &va);
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
	struct call c;
	int rc;

	call_begin(&c, req);
	rc = vol_rename(c.f->vol, &c.op, front_node(c.f, parent), name, front_node(c.f, newparent),
			newname, flags);
	call_end(&c, req);
	reply_rc(req, rc);
}

void req_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs sv;
	int rc;

	(void)ino;
	memset(&sv, 0, sizeof(sv));
	rc = vol_statfs(req_front(req)->vol, &sv);
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_statfs(req, &sv);
}
