/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all requests share: who calls, and how a wait is interrupted.
 *
 * A disk file system does not answer EINTR because some signal with a handler came by; only a
 * caller that is being killed is let go. The kernel marks such a thread with a pending SIGKILL.
 */
#include "fuse/front.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static bool thread_is_killed(pid_t tid)
{
	char path[64], line[256];
	bool killed = false;
	FILE *fp;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	fp = fopen(path, "re");
	if (!fp)
		return true;
	while (fgets(line, sizeof(line), fp)) {
		if (strncmp(line, "SigPnd:", 7) != 0 && strncmp(line, "ShdPnd:", 7) != 0)
			continue;
		killed |= strtoull(line + 7, NULL, 16) >> (SIGKILL - 1) & 1;
	}
	fclose(fp);
	return killed;
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
