/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes, and the virtual one on the root that carries the statistics. */
#include "fuse/front.h"
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

static void reply_value(fuse_req_t req, const void *buf, size_t size, size_t len)
{
	if (size == 0)
		fuse_reply_xattr(req, len);
	else if (len > size)
		reply_rc(req, -ERANGE);
	else
		fuse_reply_buf(req, buf, len);
}

static void reply_stats(fuse_req_t req, size_t size)
{
	char *json = vol_stats_json(req_front(req)->vol);

	if (!json) {
		reply_rc(req, -ENOMEM);
		return;
	}
	reply_value(req, json, size, strlen(json));
	free(json);
}

void req_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct call c;
	size_t len = 0;
	char *buf;
	int rc;

	if (ino == FUSE_ROOT_ID && strcmp(name, VOL_STATS_XATTR) == 0) {
		reply_stats(req, size);
		return;
	}
	buf = malloc(size ? size : 1);
	lunfs_assert(buf);
	call_begin(&c, req);
	rc = vol_getxattr(c.f->vol, &c.op, front_node(c.f, ino), name, buf, size, &len);
	call_end(&c, req);
	if (rc)
		reply_rc(req, rc);
	else
		reply_value(req, buf, size, len);
	free(buf);
}

void req_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct call c;
	size_t len = 0;
	char *buf = malloc(size ? size : 1);
	int rc;

	lunfs_assert(buf);
	call_begin(&c, req);
	rc = vol_listxattr(c.f->vol, &c.op, front_node(c.f, ino), buf, size, &len);
	call_end(&c, req);
	if (rc)
		reply_rc(req, rc);
	else
		reply_value(req, buf, size, len);
	free(buf);
}

#define GROUPS_MAX 65536 /* NGROUPS_MAX of Linux */

/* Of who asks, beside his own. None if they cannot be had. The caller frees what comes back. */
static gid_t *groups_of(fuse_req_t req, unsigned *n)
{
	int all = fuse_req_getgroups(req, 0, NULL), got = -1;
	gid_t *list = all > 0 && all <= GROUPS_MAX ? calloc((size_t)all, sizeof(*list)) : NULL;

	if (list)
		got = fuse_req_getgroups(req, all, list);
	*n = got < 0 ? 0 : (unsigned)(got < all ? got : all);
	return list;
}

void req_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		  int flags)
{
	gid_t *groups = NULL;
	struct call c;
	int rc;

	call_begin(&c, req);
	if (c.op.uid && strcmp(name, "system.posix_acl_access") == 0) {
		c.op.keeps_sgid = thread_has_cap(fuse_req_ctx(req)->pid, CAP_FSETID);
		groups = groups_of(req, &c.op.n_groups);
	}
	c.op.groups = groups;
	rc = vol_setxattr(c.f->vol, &c.op, front_node(c.f, ino), name, value, size, flags);
	call_end(&c, req);
	free(groups);
	reply_rc(req, rc);
}

void req_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct call c;
	int rc;

	call_begin(&c, req);
	rc = vol_removexattr(c.f->vol, &c.op, front_node(c.f, ino), name);
	call_end(&c, req);
	reply_rc(req, rc);
}
