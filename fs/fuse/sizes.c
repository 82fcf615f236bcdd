/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The size that the kernel believes a file has, while somebody has it open.
 *
 * A read through pages asks for the size first, and goes by the one from before if it gets no
 * answer that counts: that is none which a notification has overtaken (keep.c), and a question that
 * is on its way when a notification comes cannot be seen from here. So before the first
 * notification of a possession the size is put right: this process asks the kernel for it, as any
 * other would, is answered by itself under the lock that is being called back, and looks at what
 * the kernel then has. From then on an answer that is passed over changes nothing, for nobody but
 * this host's kernel changes the size before the lock is gone.
 *
 * Where the size is what it was when the lock was given away the last time, and the kernel was told
 * no other one since, it has it still, and is not asked.
 *
 * The question is asked on a thread of its own, which makes no other requests: they are answered
 * without waiting for any lock. To take up the answer the kernel may drop pages, and wait for one
 * that is locked by a request which waits for the lock; the size it has by then.
 */
#include "fuse/front.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#define TRIES 3u
#define ASK_MAX_NS (200ull * 1000000)
#define LOOK_NS 200000ull
#define STOP_MAX_NS (2000ull * 1000000)
#define FH_INO64_GEN 0x81 /* Linux's fs/fuse/inode.c: node id, high half first, and generation */

struct ask {
	struct sizes *s;
	struct ask *prev, *next;
	uint64_t ino;
	int fd;		     /* the kernel's inode; -1: not open yet */
	pid_t tid;	     /* who asks; 0: nobody yet */
	bool answered, done; /* answered: with @size */
	bool left;	     /* nobody waits any more */
	uint64_t size;
};

struct sizes {
	struct front *f;
	struct mtx mtx;
	struct cond changed;
	struct ask *asks;
	atomic_uint n_asks;
	bool stopped;
	atomic_bool complained;
	bool root_known;
	struct vattr root; /* as the kernel was told last */
};

struct sizes *sizes_new(struct front *f)
{
	struct sizes *s = calloc(1, sizeof(*s));

	lunfs_assert(s);
	s->f = f;
	mtx_init(&s->mtx, f->clk);
	cond_init(&s->changed, f->clk);
	return s;
}

void sizes_free(struct sizes *s)
{
	cond_destroy(&s->changed);
	mtx_destroy(&s->mtx);
	free(s);
}

/* ---- the kernel's inode ---------------------------------------------------------------------- */

static void complain(struct sizes *s, const char *what)
{
	if (!atomic_exchange(&s->complained, true))
		log_warn("size-unknown",
			 "What the kernel believes to be the size of a file cannot be put right "
			 "(%s: %s), so a read through the page cache may miss what another host "
			 "has just appended; run mount.lunfs as root, and mount nothing over %s.",
			 what, strerror(errno), s->f->mountpoint);
}

static bool is_ours(struct sizes *s, int fd)
{
	struct statx st;

	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) == 0 &&
	       s->f->have_dev && st.stx_dev_major == s->f->dev_major &&
	       st.stx_dev_minor == s->f->dev_minor;
}

/* The root directory, if it is what is seen there. The mount is busy while this is open. */
static int open_mount(struct sizes *s)
{
	int fd = -1, at = open(s->f->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (at >= 0 && !is_ours(s, at))
		errno = ENOTCONN;
	else if (at >= 0)
		fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		complain(s, "the mount point");
	if (at >= 0)
		close(at);
	return fd;
}

/* The kernel's inode, by its node id. No request is made for one that is open, which is in core. */
static int open_inode(struct sizes *s, uint64_t ino)
{
	uint32_t gen = (uint32_t)nodes_generation(s->f->nodes, ino);
	uint32_t raw[3] = {(uint32_t)(ino >> 32), (uint32_t)ino, gen};
	int mount = open_mount(s), fd = -1;
	struct file_handle *fh;

	if (mount < 0)
		return -1;
	fh = malloc(sizeof(*fh) + sizeof(raw));
	lunfs_assert(fh);
	fh->handle_bytes = sizeof(raw);
	fh->handle_type = FH_INO64_GEN;
	memcpy(fh->f_handle, raw, sizeof(raw));
	fd = open_by_handle_at(mount, fh, O_PATH | O_CLOEXEC);
	if (fd < 0 && errno != ESTALE)
		complain(s, "open_by_handle_at");
	free(fh);
	close(mount);
	return fd;
}

/* What the kernel has, without asking anybody. */
static bool kernel_has(int fd, uint64_t size)
{
	struct statx st;

	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &st) == 0 &&
	       st.stx_size == size;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void ask_free(struct ask *a)
{
	if (a->fd >= 0)
		close(a->fd);
	free(a);
}

/* The kernel has the size that it was told. mtx held. */
static bool has_landed(const struct ask *a)
{
	return a->answered && kernel_has(a->fd, a->size);
}

/* All that may wait for an answer of this process. mtx held, and let go meanwhile. */
static void ask(struct sizes *s, struct ask *a)
{
	struct statx st;
	int fd;

	mtx_unlock(&s->mtx);
	fd = open_inode(s, a->ino);
	mtx_lock(&s->mtx);
	a->fd = fd;
	for (unsigned i = 0; i < TRIES && fd >= 0 && !a->left && !has_landed(a); i++) {
		mtx_unlock(&s->mtx);
		statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &st);
		mtx_lock(&s->mtx);
	}
}

static void ask_main(void *arg)
{
	struct ask *a = arg;
	struct sizes *s = a->s;
	bool left;

	mtx_lock(&s->mtx);
	a->tid = gettid();
	ask(s, a);
	a->done = true;
	left = a->left;
	DL_DELETE(s->asks, a);
	atomic_fetch_sub(&s->n_asks, 1);
	cond_broadcast(&s->changed);
	mtx_unlock(&s->mtx);
	if (left)
		ask_free(a);
}

static void wait_for(struct sizes *s, struct ask *a)
{
	uint64_t now = clock_now_ns(s->f->clk), until = now + ASK_MAX_NS;

	while (!a->done && !has_landed(a) && now < until) {
		cond_wait(&s->changed, &s->mtx, now + LOOK_NS);
		now = clock_now_ns(s->f->clk);
	}
	a->left = true;
}

/* It had the size when the lock was given away the last time, and that is what it is now. */
static bool has_still(struct sizes *s, uint64_t ino)
{
	struct op_ctx c = {.drain = true};
	struct vattr va;
	uint64_t size;

	/* Of what is pinned here it waits for the end, as the revoke does, and for nothing else. */
	return nodes_size_known(s->f->nodes, ino, &size) &&
	       vol_getattr(s->f->vol, &c, front_node(s->f, ino), &va) == 0 &&
	       (uint64_t)va.st.st_size == size;
}

void sizes_settle(struct sizes *s, uint64_t ino)
{
	struct ask *a;
	bool done;

	if (!nodes_is_open(s->f->nodes, ino) || has_still(s, ino))
		return;
	a = calloc(1, sizeof(*a));
	lunfs_assert(a);
	*a = (struct ask){.s = s, .ino = ino, .fd = -1};
	mtx_lock(&s->mtx);
	done = s->stopped;
	if (!done) {
		DL_APPEND(s->asks, a);
		atomic_fetch_add(&s->n_asks, 1);
		inval_run(s->f->inval, ask_main, a);
		wait_for(s, a);
		if (has_landed(a))
			nodes_size_is(s->f->nodes, ino, a->size);
		done = a->done;
	}
	mtx_unlock(&s->mtx);
	if (done)
		ask_free(a);
}

bool sizes_asks(struct sizes *s, pid_t tid)
{
	bool found = false;
	struct ask *a;

	if (!atomic_load(&s->n_asks))
		return false;
	mtx_lock(&s->mtx);
	DL_FOREACH (s->asks, a)
		found |= a->tid == tid;
	mtx_unlock(&s->mtx);
	return found;
}

void sizes_told(struct sizes *s, pid_t tid, uint64_t size)
{
	struct ask *a;

	mtx_lock(&s->mtx);
	DL_FOREACH (s->asks, a) {
		if (a->tid != tid)
			continue;
		a->answered = true;
		a->size = size;
	}
	mtx_unlock(&s->mtx);
}

void sizes_root_is(struct sizes *s, const struct vattr *va)
{
	mtx_lock(&s->mtx);
	s->root = *va;
	s->root_known = true;
	mtx_unlock(&s->mtx);
}

int sizes_root(struct sizes *s, struct vattr *va)
{
	int rc;

	mtx_lock(&s->mtx);
	rc = s->root_known ? 0 : -EAGAIN;
	*va = s->root;
	mtx_unlock(&s->mtx);
	return rc;
}

bool sizes_stop(struct sizes *s)
{
	bool none;
	uint64_t until = clock_now_ns(s->f->clk) + STOP_MAX_NS;

	mtx_lock(&s->mtx);
	s->stopped = true;
	while (s->asks && clock_now_ns(s->f->clk) < until)
		cond_wait(&s->changed, &s->mtx, until);
	none = !s->asks;
	mtx_unlock(&s->mtx);
	return none;
}
