/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies of dirty pages that a kernel before Linux 6.16 has yet to write back.
 *
 * Such a kernel writes a page that was dirtied through a mapping from a copy: it queues a WRITE of
 * that and calls the page clean at once. So when all pages of an inode have been dropped, bytes
 * that stood in them before may still be on their way, and would come when the lock has gone, over
 * what another host has written since. The kernel waits for the copies of one inode only in calls
 * that lock it first (fsync), which a write that waits for the lock here may hold. But it counts
 * the copies of all FUSE file systems: nr_writeback_temp in /proc/vmstat. Where there are none,
 * there is none of that inode.
 *
 * Each processor counts for itself until a read of /proc/sys/vm/stat_refresh makes all of them add
 * up. A copy from before that is in the sum then. But one that is made on a processor which has
 * added up, and ends on one which has not, is subtracted only, and might hide another. So a sum
 * counts for nothing if the daemon had write-back in hand meanwhile; for the copies of other file
 * systems' daemons it must be zero twice in a row.
 *
 * The refresh waits for every processor, so looks are made on a thread that others can leave alone;
 * one at a time, for all who wait.
 */
#include "fuse/front.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUMS 2u
#define LOOK_NS (1ull * 1000000) /* from one look to the next */
#define STOP_MAX_NS (2000ull * 1000000)
#define REFRESH "sys/vm/stat_refresh"
#define VMSTAT "vmstat"
#define COUNTER "nr_writeback_temp"

struct backlog {
	struct front *f;
	char *proc;
	struct mtx mtx;
	struct cond changed;
	uint64_t begun, ended;	 /* looks; at most one is under way */
	uint64_t clear;		 /* the last one after which nobody need wait */
	uint64_t next_ns;	 /* no look before that */
	bool usable, complained; /* the kernel's files were once; were not once. Of who looks */
};

struct backlog *backlog_new(struct front *f, const char *proc)
{
	struct backlog *b = calloc(1, sizeof(*b));

	lunfs_assert(b);
	b->f = f;
	b->proc = strdup(proc);
	lunfs_assert(b->proc);
	mtx_init(&b->mtx, f->clk);
	cond_init(&b->changed, f->clk);
	return b;
}

void backlog_free(struct backlog *b)
{
	cond_destroy(&b->changed);
	mtx_destroy(&b->mtx);
	free(b->proc);
	free(b);
}

/* ---- looking --------------------------------------------------------------------------------- */

static int open_file(const struct backlog *b, const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", b->proc, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* All processors add up. */
static int refresh(const struct backlog *b)
{
	int rc = 0, fd = open_file(b, REFRESH);
	char c;

	if (fd < 0)
		return fd;
	if (read(fd, &c, 1) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* Copies that are left; -ENODATA: this kernel does not say. */
static int read_sum(const struct backlog *b, unsigned long long *out)
{
	int rc = -ENODATA, fd = open_file(b, VMSTAT);
	FILE *fp = fd < 0 ? NULL : fdopen(fd, "r");
	char *line = NULL;
	size_t cap = 0;

	if (fd < 0)
		return fd;
	lunfs_assert(fp);
	while (rc && getline(&line, &cap, fp) > 0)
		if (sscanf(line, COUNTER " %llu", out) == 1)
			rc = 0;
	free(line);
	fclose(fp);
	return rc;
}

/* What cannot be known is not waited for. */
static bool complain(struct backlog *b, const char *name, int rc)
{
	if (!b->complained)
		log_warn("backlog-unknown",
			 "%s: this kernel (before Linux 6.16) writes pages of mappings back from "
			 "copies, and it cannot be seen when the last one is written (%s/%s: %s). "
			 "Locks are given up nevertheless, and what a program here has stored to a "
			 "mapping may come late, over what another host has written since; run "
			 "mount.lunfs as root and outside of containers, or a newer kernel.",
			 b->f->mountpoint, b->proc, name, strerror(-rc));
	b->complained = true;
	return true;
}

/* Are there no copies, as far as this daemon can know? */
static bool look(struct backlog *b)
{
	unsigned long long sum = 0;
	uint64_t before, after;
	bool writing = nodes_write_back(b->f->nodes, &before);
	int rc;

	if (writing && b->usable)
		return false; /* and no processor is disturbed */
	for (unsigned i = 0; i < SUMS; i++) {
		rc = refresh(b);
		if (rc)
			return complain(b, REFRESH, rc);
		rc = read_sum(b, &sum);
		if (rc)
			return complain(b, VMSTAT ", " COUNTER, rc);
		b->usable = true;
		if (sum)
			return false;
	}
	writing |= nodes_write_back(b->f->nodes, &after);
	return !writing && after == before;
}

static void look_main(void *arg)
{
	struct backlog *b = arg;
	bool clear = look(b);

	mtx_lock(&b->mtx);
	b->ended++;
	if (clear)
		b->clear = b->ended;
	b->next_ns = clear ? 0 : clock_now_ns(b->f->clk) + LOOK_NS;
	cond_broadcast(&b->changed);
	mtx_unlock(&b->mtx);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Begin a look if it is time; when is it worth while to come again? mtx held. */
static uint64_t go_on(struct backlog *b, uint64_t until)
{
	if (b->begun == b->ended && clock_now_ns(b->f->clk) >= b->next_ns) {
		b->begun++;
		inval_run(b->f->inval, look_main, b);
	}
	if (b->begun != b->ended || b->next_ns > until)
		return until;
	return b->next_ns;
}

bool backlog_wait(struct backlog *b, uint64_t until)
{
	uint64_t need;
	bool clear;

	mtx_lock(&b->mtx);
	need = b->begun + 1; /* one that is under way may have missed ours */
	while (b->clear < need && clock_now_ns(b->f->clk) < until)
		cond_wait(&b->changed, &b->mtx, go_on(b, until));
	clear = b->clear >= need;
	mtx_unlock(&b->mtx);
	return clear;
}

bool backlog_stop(struct backlog *b)
{
	uint64_t until = clock_now_ns(b->f->clk) + STOP_MAX_NS;
	bool none;

	mtx_lock(&b->mtx);
	while (b->begun != b->ended && clock_now_ns(b->f->clk) < until)
		cond_wait(&b->changed, &b->mtx, until);
	none = b->begun == b->ended;
	mtx_unlock(&b->mtx);
	return none;
}
