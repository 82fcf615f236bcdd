/* SPDX-License-Identifier: GPL-2.0-or-later */
/* FITRIM, as fstrim(8) and lunfs trim send it: free space goes back to the device. */
#include "fuse/front.h"
#include <errno.h>
#include <linux/capability.h>
#include <linux/fs.h>

static void trim(fuse_req_t req, const struct fstrim_range *in)
{
	struct fstrim_range out = *in;
	struct call c;
	uint64_t done = 0;
	int rc;

	call_begin(&c, req);
	rc = vol_trim(c.f->vol, &c.op, in->start, in->len, in->minlen, &done);
	call_end(&c, req);
	out.len = done;
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_ioctl(req, 0, &out, sizeof(out));
}

/* As other file systems have it; and root of no other user namespace. */
static bool may_trim(const struct fuse_ctx *who)
{
	return who->uid == 0 && thread_has_cap(who->pid, CAP_SYS_ADMIN);
}

void req_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
	       unsigned flags, const void *in, size_t in_len, size_t out_len)
{
	(void)ino;
	(void)arg;
	(void)fi;
	(void)flags;
	if (cmd != FITRIM || in_len != sizeof(struct fstrim_range) || out_len != in_len)
		reply_rc(req, -ENOTTY);
	else if (!may_trim(fuse_req_ctx(req)))
		reply_rc(req, -EPERM);
	else
		trim(req, in);
}
