/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The FUSE front end: what its files share. Requests come in on worker threads (loop.c), are
 * answered from vol/ops.h (req_*.c), and name inodes by node ids (nodes.c).
 *
 * Coherence: the kernel keeps names, attributes and file pages for as long as the lock that covers
 * them is held here, and no longer than the lease (keep.c says for how long, and why that is
 * sound). They are dropped before the lock is given up (front_invalidate, called on a revoker
 * thread), and AUTO_INVAL_DATA compares mtime and size at each read besides.
 */
#ifndef FUSE_FRONT_H
#define FUSE_FRONT_H

#define FUSE_USE_VERSION 312
#include "base/log.h"
#include "vol/ops.h"
#include <fuse_lowlevel.h>

struct backlog;
struct front_buf;
struct inval;
struct loop;
struct nodes;
struct sizes;

struct front {
	struct fuse_session *se;
	struct dev *dev; /* the volume's */
	struct volume *vol;
	struct clock *clk;
	struct nodes *nodes;
	struct sizes *sizes;
	struct inval *inval;
	struct backlog *backlog;
	struct loop *loop; /* while front_loop() runs */
	struct nodeid root;
	bool read_only;
	atomic_bool initialised; /* INIT was answered */
	uint64_t init_unique;	 /* wire.c: INIT while it is being answered, and what it offered */
	uint32_t init_flags, init_flags2;
	atomic_ullong revokes;	  /* times that something had to go out of the kernel's caches */
	atomic_ullong epoch;	  /* of names in the kernel's cache; counts from 1 */
	bool tells_suidgid;	  /* the kernel says at direct writes: wire_kills_suidgid() */
	bool epochs;		  /* the kernel has them: names may be kept; it is Linux 6.16 */
	const char *mountpoint;	  /* absolute */
	bool have_dev;		  /* dev_major, dev_minor: of the mounted file system */
	atomic_ullong names_end_ns; /* no name is kept for longer */
	atomic_ullong no_names_ns; /* none are kept until then; 0: nothing is in the way */
	unsigned dev_major, dev_minor;
	atomic_bool unmounted; /* or about to be */
	struct mtx calls_mtx;
	struct call *calls; /* requests that may wait, to be let go when the session ends */
	void (*on_ready)(void *ctx); /* called once, at INIT */
	void *on_ready_ctx;
};

/* ---- nodes.c: what the kernel knows ---------------------------------------------------------- */

struct nodes *nodes_new(struct clock *clk);
void nodes_free(struct nodes *n);
/* The kernel learns of @id once more (an entry is about to be replied). */
void nodes_remember(struct nodes *n, struct nodeid id);
struct entry_keep {
	uint64_t dir;
	uint64_t epoch; /* 0: the name is not to be kept */
	uint64_t now_ns;
	bool created; /* the answer to CREATE: it is fresh until nodes_settled() */
};
/*
 * The same, and the kernel may keep its attributes and, under the directory, its name. False:
 * names in that are not to be kept: another host has just asked for the directory.
 */
bool nodes_keep_entry(struct nodes *n, const struct vattr *va, const struct entry_keep *k);
/* A name in @dir, or that there is none, may be kept; as above. */
bool nodes_keep_names(struct nodes *n, uint64_t dir, uint64_t epoch, uint64_t now);
void nodes_keep_attrs(struct nodes *n, uint64_t ino);
/* An answer to CREATE goes out, or a request was seen that comes after it. */
void nodes_settled(struct nodes *n, uint64_t ino);
bool nodes_is_fresh(struct nodes *n, uint64_t ino);
/* Has the kernel references, or is it about to have one? */
bool nodes_known(struct nodes *n, uint64_t ino);
#define NODE_ATTRS 1u
#define NODE_NAMES 2u /* given out in @epoch or later */
/* What the kernel may keep of @ino besides pages; not any more. No names before @quiet_ns. */
unsigned nodes_revoke(struct nodes *n, uint64_t ino, uint64_t epoch, uint64_t quiet_ns);
/* All inodes of which it may keep attributes; the caller frees *out. How many. */
size_t nodes_with_attrs(struct nodes *n, uint64_t **out);
void nodes_forget(struct nodes *n, uint64_t ino, uint64_t count);
/* Generation under which the kernel knows @ino; 0 if it does not. */
uint64_t nodes_generation(struct nodes *n, uint64_t ino);
struct data_req { /* a request on file data in hand; on its worker's stack */
	struct data_req *prev, *next;
	uint64_t off, len;
	bool pages;	      /* it goes through the kernel's pages */
	bool fill;	      /* its pages are locked and hold nothing before its answer */
	bool back;	      /* it writes dirty pages back */
	atomic_bool admitted; /* op_ctx.admitted */
	bool linked;
	bool overtaken;	    /* a WRITE: nodes_behind_write() */
	uint64_t write_end; /* of a WRITE; UINT64_MAX: it appends */
	uint64_t got;	    /* of a READ, when it ends */
};
/*
 * A request on file data begins, and ends. With r->pages the kernel may have pages of @ino from now
 * on, until nodes_take_pages() takes that back. True: somebody here has it open to read and to
 * write, so a page may be dirtied by a store that nobody hears of. One that has begun goes on.
 */
bool nodes_data_begin(struct nodes *n, uint64_t ino, struct data_req *r);
/* @to takes the place of @from, which has begun; others do not see it end and begin again. */
void nodes_data_move(struct nodes *n, uint64_t ino, struct data_req *from, struct data_req *to);
void nodes_data_end(struct nodes *n, uint64_t ino, struct data_req *r);
/*
 * Does a READ that fills pages come after a WRITE to them that has not ended? The page of a WRITE
 * that waits for the lock may be dropped, and whoever has seen its bytes there must not see what
 * was there before. So it waits, which that WRITE does not notice: it holds no page that is filled.
 *
 * Workers take their turns, so the READ may begin first all the same, and fill the page with what
 * was there before. (It was sent later: the kernel stores to no page that is being filled.) Then
 * r->overtaken of the WRITE is set, and the page has to go once that was answered.
 */
bool nodes_behind_write(struct nodes *n, uint64_t ino, const struct data_req *r);
void nodes_let_writes_end(struct nodes *n, uint64_t ino, const struct data_req *r);
struct span { /* bytes, whole pages */
	uint64_t off, end;
	bool fill;
};
/* Where requests through pages wait for the lock, ascending; not those that write back. */
size_t nodes_waiting(struct nodes *n, uint64_t ino, struct span *out, size_t max);
bool nodes_take_pages(struct nodes *n, uint64_t ino);
void nodes_leave_pages(struct nodes *n, uint64_t ino); /* they were not all dropped */
/* All inodes of which the kernel may have pages; the caller frees *out. How many. */
size_t nodes_with_pages(struct nodes *n, uint64_t **out);
/* A handle comes (+1) or goes (-1). @mappable: a writable mapping can be made of it. */
void nodes_handle(struct nodes *n, uint64_t ino, int delta, bool mappable);
bool nodes_is_open(struct nodes *n, uint64_t ino);
/*
 * Can there be write-back of @ino that has not ended? It holds one of the kernel's handles, not
 * always that of the mapping: so where a mapping could be made since there was none at all.
 */
bool nodes_maybe_dirtied(struct nodes *n, uint64_t ino);
/* Is write-back of @ino in hand? *begun: how many requests of it there have been so far. */
bool nodes_writes_back(struct nodes *n, uint64_t ino, uint64_t *begun);
/* The same of any inode. */
bool nodes_write_back(struct nodes *n, uint64_t *begun);
/* The kernel has this size of an open inode; true: it still has, whatever other hosts did. */
void nodes_size_is(struct nodes *n, uint64_t ino, uint64_t size);
bool nodes_size_known(struct nodes *n, uint64_t ino, uint64_t *size);
/* The kernel is told this size, before it is; UINT64_MAX: some other one. */
void nodes_size_seen(struct nodes *n, uint64_t ino, uint64_t size);

/* ---- requests -------------------------------------------------------------------------------- */

struct call { /* one request that may wait: its caller and how it is interrupted */
	struct call *prev, *next;
	struct front *f;
	struct op_ctx op;
	struct lock_intr intr;
	pid_t tid;
};
void call_begin(struct call *c, fuse_req_t req);
/* Interrupts no longer reach it; to be called before the reply. */
void call_end(struct call *c, fuse_req_t req);
/* Is capability @cap (capabilities(7)) effective for a calling thread? False too if it is gone. */
bool thread_has_cap(pid_t tid, unsigned cap);
void calls_interrupt_all(struct front *f);

static inline struct front *req_front(fuse_req_t req)
{
	return fuse_req_userdata(req);
}
struct nodeid front_node(struct front *f, fuse_ino_t nodeid);
static inline fuse_ino_t front_nodeid(const struct front *f, uint64_t ino)
{
	return ino == f->root.ino ? FUSE_ROOT_ID : ino;
}
static inline void reply_rc(fuse_req_t req, int rc) /* 0 or -errno */
{
	fuse_reply_err(req, -rc);
}

/* Operations by subject. */
void req_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void req_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void req_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void req_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void req_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set,
		 struct fuse_file_info *fi);
void req_readlink(fuse_req_t req, fuse_ino_t ino);
void req_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void req_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void req_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void req_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void req_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void req_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void req_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		const char *newname, unsigned flags);
void req_statfs(fuse_req_t req, fuse_ino_t ino);

void req_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void req_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_file_info *fi);
void req_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void req_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void req_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void req_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	       struct fuse_file_info *fi);
void req_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void req_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		   struct fuse_file_info *fi);
void req_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);

void req_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void req_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void req_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi);
void req_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

void req_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		  int flags);
void req_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void req_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void req_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

void req_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
	       unsigned flags, const void *in, size_t in_len, size_t out_len);

/* ---- wire.c ---------------------------------------------------------------------------------- */

/* Requests and answers of a mounted session go through wire.c. 0 or -errno. */
int wire_attach(struct fuse_session *se);
/* Which clone of the kernel's device this thread reads from and answers to; -1: the session's. */
int wire_fd(void);
void wire_set_fd(int fd);
/* After INIT: files that are open for direct I/O can be mapped. */
bool wire_direct_mmap(const struct front *f);
/*
 * Does the request that this thread has read last, a WRITE or SETATTR, say that set-id bits are to
 * be dropped? The caller may not leave them.
 */
bool wire_kills_suidgid(void);
/* As fuse_reply_open(), fuse_reply_create(); @side_by_side: the kernel sends several writes at
 * once. */
int reply_open(fuse_req_t req, struct fuse_file_info *fi, bool side_by_side);
int reply_create(fuse_req_t req, const struct fuse_entry_param *e, struct fuse_file_info *fi,
		 bool side_by_side);

/* ---- keep.c: how long the kernel may keep an answer ------------------------------------------ */

/* To be called before the operation whose result will be answered. */
uint64_t keep_begin(const struct front *f);
/* The operation gave @va; the answer that goes out now may be kept for so many seconds. */
double keep_attrs(struct front *f, const struct vattr *va, uint64_t begun);
enum keep_how { KEEP_FOUND, KEEP_MADE, KEEP_CREATED }; /* LOOKUP; LINK, MKDIR ...; CREATE */
/*
 * An entry for a name in @dir is about to be replied; the node is remembered. How long it may be
 * kept is filled in.
 */
void keep_entry(struct front *f, uint64_t dir, const struct vattr *va, uint64_t begun,
		enum keep_how how, struct fuse_entry_param *e);
/* There is no such name in @dir. */
double keep_absence(struct front *f, uint64_t dir, uint64_t begun);
/* Names move to @dir in the kernel's cache, as they are: before the operation, and after it. */
void keep_moved_begin(struct front *f, uint64_t dir);
void keep_moved_end(struct front *f, uint64_t dir, uint64_t begun);
/* All names in the kernel's cache are looked up anew before they are used. May sleep. */
void keep_no_names(struct front *f);
/* The same, whatever is mounted beneath. Does not sleep. */
void keep_end_epoch(struct front *f);
/* The kernel fetches the attributes of @ino anew. May sleep. */
void keep_no_attrs(struct front *f, uint64_t ino);

/* ---- sizes.c: the size that a read goes by --------------------------------------------------- */

struct sizes *sizes_new(struct front *f);
void sizes_free(struct sizes *s);
/*
 * The kernel has the size of @ino, if somebody has it open, when this returns. To be called under a
 * lock that admits GETATTR; waits for what is pinned under it here, else for less than a second.
 */
void sizes_settle(struct sizes *s, uint64_t ino);
/* Is a request of thread @tid made by sizes_settle()? It must wait for no lock. */
bool sizes_asks(struct sizes *s, pid_t tid);
void sizes_told(struct sizes *s, pid_t tid, uint64_t size); /* it is about to be answered */
/*
 * The attributes of the root directory as the kernel was told them; and to be told again, for no
 * longer than the question takes: its mode is looked at. 0, or -EAGAIN: none were told.
 */
void sizes_root_is(struct sizes *s, const struct vattr *va);
int sizes_root(struct sizes *s, struct vattr *va);
/* No more questions. True: those that were asked have ended; false: two seconds were not enough. */
bool sizes_stop(struct sizes *s);

/* ---- mounts.c -------------------------------------------------------------------------------- */

/* Something is mounted on a directory of this file system, in a name space that can be seen. */
bool mounts_beneath(const struct front *f);

/* ---- inval.c --------------------------------------------------------------------------------- */

struct inval *inval_new(struct front *f);
void inval_free(struct inval *v);
/* The kernel drops its pages of @ino. False: in two seconds it did not, and goes on with it. */
bool inval_pages(struct inval *v, uint64_t ino);
/* The same in the background; nobody waits. */
void inval_later(struct inval *v, uint64_t ino);
/* Calls @fn on a thread that serves no request and holds no lock; nobody waits. */
void inval_run(struct inval *v, void (*fn)(void *arg), void *arg);

/* ---- backlog.c ------------------------------------------------------------------------------- */

/* @proc: where the kernel's files on processes are mounted. */
struct backlog *backlog_new(struct front *f, const char *proc);
void backlog_free(struct backlog *b);
/*
 * This kernel (before Linux 6.16) has written back all copies of pages that it had when this was
 * called. False: not so by @until. True also if that cannot be seen, which is said in the log once.
 */
bool backlog_wait(struct backlog *b, uint64_t until);
/* Nobody waits any more. True: no thread uses it; false: two seconds were not enough. */
bool backlog_stop(struct backlog *b);

/* Upcall of the volume, before all others of a revoke: sizes_settle(). */
void front_prepare(void *ctx, uint64_t ino);
/* Upcall of the volume: the kernel drops all that it keeps of @ino. -EAGAIN: some are left. */
int front_invalidate(void *ctx, uint64_t ino);
/* Others will read it, too, and nobody changes it: its pages go, names and attributes stay. */
int front_downgrade(void *ctx, uint64_t ino);
/* The volume is lost: the kernel drops everything; dirty pages meet EIO on their way back. */
void front_drop_all(struct front *f);
/*
 * The session ends, and the volume with it: a process that is left in a mount that was detached
 * sees nothing old. No notification is sent from now on.
 */
void front_end(struct front *f);

/* ---- session.c ------------------------------------------------------------------------------- */

struct fuse_session *front_session_new(struct front *f, struct fuse_args *args);
/* What the kernel is told beside the protocol, once it has the answer to INIT. */
void session_tune(const struct front *f);

/* ---- loop.c ---------------------------------------------------------------------------------- */

/*
 * Serve requests until the file system is unmounted or SIGTERM, SIGINT or SIGHUP comes (all of them
 * blocked in every thread of the process by the caller before it started the first one). All
 * requests have ended when it returns 0; -errno if the kernel's device failed.
 */
int front_loop(struct front *f);
/*
 * Aligned memory of this worker for the answer to the request that it serves, which has been read
 * out of it; NULL: @len_bytes is too much.
 */
void *front_answer_buf(size_t len_bytes);
/* The request in hand may have to wait: somebody else must read. Of call_begin(). */
void front_waits(void);
void front_will_wait(void *ctx); /* the same, as an upcall of the volume */
/*
 * The request in hand will be answered later, by whatever thread: it takes the worker's memory with
 * it. NULL: it is the only one in hand, and sooner done by waiting; or there are too many of them.
 * When it has been answered: front_kept_done(). It did not come to that, and the request is served
 * as any other: front_unkeep(), on the same worker.
 */
struct front_buf *front_keep(void);
void front_unkeep(struct front_buf *b);
int front_kept_fd(const struct front_buf *b); /* where the answer goes: wire_set_fd() */
void front_kept_done(struct front *f, struct front_buf *b);
/* Call @fn on a thread that may sleep; front_loop() ends after it. */
void front_later(struct front *f, void (*fn)(void *arg), void *arg);

/* ---- later.c --------------------------------------------------------------------------------- */

/*
 * Serve a read or a write without keeping a worker: @x says what, but for its context and
 * call-back. @r has not begun. True: it will be answered, or was. False: nothing has happened, but
 * that @r may have begun.
 */
bool data_call_start(fuse_req_t req, fuse_ino_t ino, const struct vol_io *x, struct data_req *r);
void front_block_signals(void);

#endif
