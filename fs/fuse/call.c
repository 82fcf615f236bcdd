/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all requests share: who calls, and how a wait is interrupted.
 *
 * A disk file system does not answer EINTR because some signal with a handler came by; only a
 * caller that is being killed is let go. The kernel marks such a thread with a pending SIGKILL.
 */
#include "fuse/front.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* The bits of line @key of /proc/TID/status. -ESRCH: no such thread; else they cannot be read. */
static int thread_bits(pid_t tid, const char *key, uint64_t *bits)
{
	char path[64], line[256];
	bool found = false;
	FILE *fp;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	fp = fopen(path, "re");
	if (!fp)
		return errno == ENOENT ? -ESRCH : -errno;
	while (!found && fgets(line, sizeof(line), fp)) {
		found = strncmp(line, key, strlen(key)) == 0;
		if (found)
			*bits = strtoull(line + strlen(key), NULL, 16);
	}
	fclose(fp);
	return found ? 0 : -ESRCH;
}

/* Who cannot be looked at, as without a free file number, is not told what only the dying are. */
static bool thread_is_killed(pid_t tid)
{
	uint64_t own = 0, shared = 0;
	int rc = thread_bits(tid, "SigPnd:", &own);

	rc = rc ? rc : thread_bits(tid, "ShdPnd:", &shared);
	return rc == -ESRCH || (own | shared) >> (SIGKILL - 1) & 1;
}

bool thread_has_cap(pid_t tid, unsigned cap)
{
	uint64_t caps;

	return thread_bits(tid, "CapEff:", &caps) == 0 && caps >> cap & 1;
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct call *c = arg;

	(void)req;
	if (thread_is_killed(c->tid))
		vol_interrupt(c->f->vol, &c->intr);
}

void call_begin(struct call *c, fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	front_waits();
	memset(c, 0, sizeof(*c));
	c->f = req_front(req);
	c->tid = ctx->pid;
	c->op.uid = ctx->uid;
	c->op.gid = ctx->gid;
	c->op.umask = ctx->umask;
	c->op.intr = &c->intr;
	mtx_lock(&c->f->calls_mtx);
	DL_APPEND(c->f->calls, c);
	mtx_unlock(&c->f->calls_mtx);
	fuse_req_interrupt_func(req, on_interrupt, c);
}

void call_end(struct call *c, fuse_req_t req)
{
	fuse_req_interrupt_func(req, NULL, NULL);
	mtx_lock(&c->f->calls_mtx);
	DL_DELETE(c->f->calls, c);
	mtx_unlock(&c->f->calls_mtx);
}

void calls_interrupt_all(struct front *f)
{
	struct call *c;

	mtx_lock(&f->calls_mtx);
	DL_FOREACH (f->calls, c)
		vol_interrupt(f->vol, &c->intr);
	mtx_unlock(&f->calls_mtx);
}

struct nodeid front_node(struct front *f, fuse_ino_t nodeid)
{
	if (nodeid == FUSE_ROOT_ID)
		return f->root;
	return (struct nodeid){.ino = nodeid, .generation = nodes_generation(f->nodes, nodeid)};
}
