/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two interfaces below which lunfs knows no real world: the device (all I/O) and the clock
 * (all time, threads and waiting). A simulated pair can stand in for both, so nothing above them
 * calls pread, pthread_*, clock_gettime or sleeps on its own.
 */
#ifndef LUNFS_DEV_H
#define LUNFS_DEV_H

#include <pthread.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* ---- clock ------------------------------------------------------------------------------------
 */

struct clock;
struct task; /* a thread */

/* Storage of the real clock's primitive or of the simulator's. Always use by the functions below.
 */
struct mtx {
	struct clock *clk;
	union {
		pthread_mutex_t pt;
		struct {
			void *owner;
			void *waiters;
		} sim;
	};
};

struct cond {
	struct clock *clk;
	union {
		pthread_cond_t pt;
		struct {
			void *waiters;
		} sim;
	};
};

#define CLOCK_FOREVER UINT64_MAX

struct clock_ops {
	uint64_t (*now_ns)(struct clock *c); /* CLOCK_BOOTTIME */
	void (*realtime)(struct clock *c,
			 struct timespec *out); /* CLOCK_REALTIME, for time stamps */
	void (*random)(struct clock *c, void *buf, size_t len);
	int (*task_start)(struct clock *c, const char *name, void (*fn)(void *), void *arg,
			  struct task **out);
	void (*task_join)(struct clock *c, struct task *t); /* waits for its end, frees it */
	void (*mtx_init)(struct mtx *m);
	void (*mtx_destroy)(struct mtx *m);
	void (*mtx_lock)(struct mtx *m);
	void (*mtx_unlock)(struct mtx *m);
	void (*cond_init)(struct cond *cv);
	void (*cond_destroy)(struct cond *cv);
	/* Wait until signalled (0) or until now_ns() >= until_ns (-ETIMEDOUT); may wake spuriously.
	 */
	int (*cond_wait)(struct cond *cv, struct mtx *m, uint64_t until_ns);
	void (*cond_signal)(struct cond *cv);
	void (*cond_broadcast)(struct cond *cv);
	void (*sleep_until)(struct clock *c, uint64_t until_ns);
	void (*destroy)(struct clock *c);
};

struct clock {
	const struct clock_ops *ops;
};

/* The machine's own clock and POSIX threads. One per process is enough; never fails after 0. */
int clock_real_new(struct clock **out);
/*
 * @fn is called on this thread before it sleeps by any such clock, maybe with a struct mtx locked:
 * it takes none itself.
 */
void clock_real_on_sleep(void (*fn)(void));

static inline uint64_t clock_now_ns(struct clock *c)
{
	return c->ops->now_ns(c);
}
static inline void clock_sleep_ns(struct clock *c, uint64_t ns)
{
	c->ops->sleep_until(c, c->ops->now_ns(c) + ns);
}
static inline void mtx_init(struct mtx *m, struct clock *c)
{
	m->clk = c;
	c->ops->mtx_init(m);
}
static inline void mtx_destroy(struct mtx *m)
{
	m->clk->ops->mtx_destroy(m);
}
static inline void mtx_lock(struct mtx *m)
{
	m->clk->ops->mtx_lock(m);
}
static inline void mtx_unlock(struct mtx *m)
{
	m->clk->ops->mtx_unlock(m);
}
static inline void cond_init(struct cond *cv, struct clock *c)
{
	cv->clk = c;
	c->ops->cond_init(cv);
}
static inline void cond_destroy(struct cond *cv)
{
	cv->clk->ops->cond_destroy(cv);
}
static inline int cond_wait(struct cond *cv, struct mtx *m, uint64_t until_ns)
{
	return cv->clk->ops->cond_wait(cv, m, until_ns);
}
static inline void cond_signal(struct cond *cv)
{
	cv->clk->ops->cond_signal(cv);
}
static inline void cond_broadcast(struct cond *cv)
{
	cv->clk->ops->cond_broadcast(cv);
}

/* ---- device -----------------------------------------------------------------------------------
 */

/*
 * All offsets and lengths are bytes and multiples of sector_bytes; buffers are aligned to 4096
 * bytes (dev_buf_alloc). All calls may sleep, are thread-safe, return 0 or a negative errno, and
 * are bounded by the deadline of dev_set_deadline().
 *
 * Errors common to all: -EIO the device says the medium or command failed for good; -ETIMEDOUT the
 * command's fate is unknown: it may still land later (also at once, where no path to the device is
 * left for the moment); -EBADE reservation conflict: we are
 * fenced; -EROFS write-protected; -ENODEV the device is gone; -EINVAL unaligned or beyond the end;
 * -ENOSPC a thin LUN or a sparse image has no room left beneath it.
 * COMPARE AND WRITE alone may also say -EAGAIN: busy, task set full, unit attention; the command
 * did not take effect and may be sent again. (Plain I/O is sent again below, within the deadline:
 * what had no effect cannot land twice.) Its -EIO says that nothing was written; a failure that
 * does not tell on which side of the write it came is -ETIMEDOUT.
 *
 * The deadline bounds a command that the backend sends itself. Plain I/O through the kernel's block
 * layer is bounded by the kernel's own command time-out; such a call returns only once nothing of
 * it is on its way any more. But after its deadline no call sends a write or a discard, be it again
 * or for the first time: the caller's right to change the device may have ended. It is -ECANCELED
 * then: nothing of it is on its way, whatever of it has landed. (A discard or zeroing of more than
 * one command has a deadline for each.) The same is a started transfer that ended short, where
 * there is no thread to send the rest; -ETIMEDOUT if the kernel does not tell how it ended.
 * A backend may have threads: fork before dev_open(), not after it.
 */
struct dev;

enum dev_caw { /* what compare_and_write returns as a positive answer */
	       DEV_CAW_GOOD = 0,
	       DEV_CAW_MISCOMPARE = 1,
};

enum dev_io_op { DEV_READ, DEV_WRITE };

struct dev_io { /* one element of a batch */
	enum dev_io_op op;
	uint64_t off_bytes;
	size_t len_bytes;
	void *buf;
	int result; /* out */
};

/* Why a COMPARE AND WRITE was not carried out or has no known fate: what its errno does not tell.
 */
enum dev_cause {
	DEV_CAUSE_NONE,
	/* -EAGAIN: no effect */
	DEV_CAUSE_BUSY,		  /* status BUSY */
	DEV_CAUSE_TASK_SET_FULL,  /* status TASK SET FULL: its queue is full */
	DEV_CAUSE_UNIT_ATTENTION, /* something happened to it: a reset, a changed reservation ... */
	DEV_CAUSE_NOT_READY,	  /* on its way to ready, or on a path that is not active yet */
	DEV_CAUSE_NOT_SENT,	  /* it never left this machine */
	/* -EOPNOTSUPP */
	DEV_CAUSE_OPCODE,   /* the device does not know the command */
	DEV_CAUSE_TRANSFER, /* it knows it, and takes not even one sector */
	/* -ETIMEDOUT: fate unknown */
	DEV_CAUSE_NO_ANSWER,   /* within the deadline */
	DEV_CAUSE_ABORTED,     /* by the device, or by somebody's reset */
	DEV_CAUSE_TRANSPORT,   /* the connection or path went away */
	DEV_CAUSE_NOT_DURABLE, /* carried out, but the flush behind it failed */
	DEV_CAUSE_UNCLEAR,     /* the device failed it, before or behind the write */
	/* one errno each */
	DEV_CAUSE_PROTECTED, /* -EROFS */
	DEV_CAUSE_CONFLICT,  /* -EBADE */
	DEV_CAUSE_GONE,	     /* -ENODEV */
	DEV_CAUSE_NO_SPACE,  /* -ENOSPC */
	DEV_CAUSE_FAILED,    /* all others */
	DEV_CAUSES,
};
const char *dev_cause_name(enum dev_cause c); /* stable words: "busy", "task-set-full", ... */

struct dev_caw_io { /* one element of a batch of compare-and-writes */
	uint64_t off_bytes;
	const void *test;
	const void *set;
	int result;	      /* out: enum dev_caw or a negative errno */
	enum dev_cause cause; /* out: of a negative one */
	/* out, 0 where the backend does not tell: how long it waited before it sent the command,
	 * and how long the answer took then. */
	uint64_t wait_ns, device_ns;
};

enum dev_kind { DEV_KIND_FILE, DEV_KIND_SG, DEV_KIND_ISCSI, DEV_KIND_SIM };

struct dev_identity {
	enum dev_kind kind;
	char name[256];	    /* as given by the user */
	char product[64];   /* "vendor product revision" or "" */
	uint8_t dev_id[64]; /* VPD 0x83 designator of the LUN, zero padded; zero if none */
	uint64_t size_bytes;
	uint32_t sector_bytes; /* logical block: unit of ATS */
	uint32_t phys_bytes;   /* physical block */
	bool read_only;	       /* write-protected, or opened so */
	bool one_machine;      /* ATS holds between processes of this machine only (file) */
	uint32_t caw_claim_sectors; /* VPD B0 says so many at once, 0: none; proves nothing */
	bool has_caw;	       /* COMPARE AND WRITE was tried and did not get "unsupported" */
	bool has_discard;
	uint64_t discard_max_bytes; /* of one command; a longer one is several. 0: no limit */
	bool has_write_zeroes;
};

struct dev_async { /* one transfer that is on its way while its owner does something else */
	struct dev_io io;
	/*
	 * io.result is there and nothing of the transfer is on its way any more. In
	 * dev_lane_turn(), or on a thread of the backend; other transfers wait for it: must not
	 * sleep. Memory and *this belong to the device until then.
	 */
	void (*done)(struct dev_async *a);
	struct dev *dev;   /* set by dev_start() */
	uint64_t until_ns; /* the backend's */
};

/*
 * The way of started transfers to the device and back. One thread looks after it at a time: that
 * one starts transfers and hears of their ends, so that no other thread is woken for it. It may be
 * handed on at any time, with all that is on its way.
 */
struct dev_lane {
	struct dev *dev;
	const struct dev_lane_ops *ops;
	unsigned on_way; /* dev_start() took them, dev_lane_turn() did not bring them back yet */
};

struct dev_lane_ops {
	int (*start)(struct dev_lane *l, struct dev_async *a);
	void (*turn)(struct dev_lane *l);
	void (*wait)(struct dev_lane *l, int fd);
	bool (*due)(const struct dev_lane *l);
	int (*fd)(const struct dev_lane *l);
	void (*free)(struct dev_lane *l);
};

struct dev_ops {
	int (*read)(struct dev *d, uint64_t off_bytes, size_t len_bytes, void *buf);
	int (*write)(struct dev *d, uint64_t off_bytes, size_t len_bytes, const void *buf);
	int (*flush)(struct dev *d); /* SYNCHRONIZE CACHE: all completed writes are on the medium */
	int (*discard)(struct dev *d, uint64_t off_bytes, uint64_t len_bytes);
	int (*write_zeroes)(struct dev *d, uint64_t off_bytes, uint64_t len_bytes);
	/*
	 * Atomically compare one sector with test and, if equal, write set; durable when it returns
	 * DEV_CAW_GOOD. DEV_CAW_MISCOMPARE if not equal. Never resent below this call (SBC-4 5.3).
	 * -EOPNOTSUPP: the device rejects the command.
	 */
	int (*compare_and_write)(struct dev *d, uint64_t off_bytes, const void *test,
				 const void *set);
	/* Optional (NULL: the generic loop is used): many at once, returns when all have ended. */
	void (*batch)(struct dev *d, struct dev_io *io, size_t n);
	void (*caw_batch)(struct dev *d, struct dev_caw_io *io, size_t n);
	/* Optional: see dev_lane_new(). The backend ends what it took by dev_started_done(). */
	struct dev_lane *(*lane_new)(struct dev *d);
	/*
	 * Optional. Prove that nothing submitted through this dev by this process, nor along the
	 * same I_T nexus by one that is gone, is still on its way (task abort, LUN reset,
	 * re-login). 0: proven. -EOPNOTSUPP: cannot be had.
	 */
	int (*drain)(struct dev *d);
	/* Optional: see dev_facts(). */
	void (*facts)(struct dev *d, char *buf, size_t len);
	/* Optional: persistent reservations come here (PROUT/PRIN); NULL: the device has none. */
	const struct dev_pr_ops *pr;
	void (*close)(struct dev *d);
};

/*
 * Persistent reservations (SPC-5 5.14), always of type 7, Write Exclusive - All Registrants: every
 * registrant may write, nobody else may. A call reaches every path (I_T nexus) that the backend
 * uses, or fails. The key 0 means "not registered". Errors beside the common ones: -EBADE the
 * device answered RESERVATION CONFLICT; -EOPNOTSUPP it rejects the service action.
 */
#define DEV_PR_TYPE_WE_AR 7u
#define DEV_PR_KEYS_MAX 1024u

struct dev_pr_state {	     /* what READ KEYS and READ RESERVATION say */
	uint32_t generation; /* PRgeneration: +1 at each change of the registrations */
	uint64_t *keys;	     /* of the caller, DEV_PR_KEYS_MAX; one entry for each nexus */
	size_t nkeys;
	bool reserved;
	uint8_t type; /* with .reserved */
};

struct dev_pr_ops {
	/*
	 * Can type 7 with APTPL (registrations that survive a power loss of the device) be had on
	 * every path, and does nothing else on this machine (multipathd) register keys on its own?
	 * Changes nothing. 0, or -EOPNOTSUPP with one sentence in @why.
	 */
	int (*probe)(struct dev *d, char *why, size_t why_len);
	/*
	 * REGISTER, APTPL=1. @old_key: what this nexus has now, 0 = none; @new_key 0: unregister.
	 * -EBADE: the nexus has another key than @old_key. On failure no path is left registered
	 * with @new_key.
	 */
	int (*register_key)(struct dev *d, uint64_t old_key, uint64_t new_key);
	/*
	 * REGISTER AND IGNORE EXISTING KEY, APTPL=1, of the same @key (never 0) on every path: one
	 * that has it keeps it at every moment. On failure the paths keep what they have got.
	 */
	int (*register_anyway)(struct dev *d, uint64_t key);
	/* RESERVE type 7. 0 too where it is so reserved already (by whichever registrant). */
	int (*reserve)(struct dev *d, uint64_t key);
	/*
	 * PREEMPT AND ABORT: @victim_key (never 0) is registered no more, its commands are aborted.
	 * -EBADE: nothing is registered with it, or we are not registered: read_state() decides.
	 */
	int (*preempt_abort)(struct dev *d, uint64_t own_key, uint64_t victim_key);
	int (*read_state)(struct dev *d, struct dev_pr_state *out);
};

struct dev_stats { /* since open */
	atomic_ullong reads, writes, flushes, discards, caws, miscompares;
	atomic_ullong read_bytes, write_bytes;
};

struct dev {
	const struct dev_ops *ops;
	struct dev_identity id;
	struct dev_stats stats;
	uint32_t deadline_ms; /* bound of one command, 0 = the backend's default */
	/* Set by the front doors: a command had no answer, so it may still land; see drain(). */
	atomic_bool unanswered;
	/*
	 * Called by the front doors for each command that ended with RESERVATION CONFLICT (-EBADE),
	 * on the thread that sent it. Must neither sleep nor do I/O. NULL: nobody is told.
	 */
	void (*conflict)(void *ctx);
	void *conflict_ctx;
};

/*
 * Counting front doors; use these, not ops-> directly. (The name shows what is counted: a batch of
 * n counts n.) dev_zero writes zeroes by whatever the device has.
 */
int dev_read(struct dev *d, uint64_t off_bytes, size_t len_bytes, void *buf);
int dev_write(struct dev *d, uint64_t off_bytes, size_t len_bytes, const void *buf);
int dev_flush(struct dev *d);
int dev_discard(struct dev *d, uint64_t off_bytes, uint64_t len_bytes);
int dev_zero(struct dev *d, uint64_t off_bytes, uint64_t len_bytes);
int dev_caw(struct dev *d, uint64_t off_bytes, const void *test, const void *set);
void dev_batch(struct dev *d, struct dev_io *io, size_t n); /* results in io[].result */
void dev_caw_batch(struct dev *d, struct dev_caw_io *io, size_t n);
/* NULL: this backend or this kernel has none. */
struct dev_lane *dev_lane_new(struct dev *d);
void dev_lane_free(struct dev_lane *l); /* nothing is on its way; NULL: nothing happens */
/* What this thread starts from now on goes there; NULL, as in the beginning: nowhere. */
void dev_lane_use(struct dev_lane *l);
/*
 * Send one transfer without waiting for it, by the lane that this thread uses, at the latest with
 * the next dev_lane_turn(). 0: a->done() will be called. -EAGAIN: not now, or this thread uses no
 * lane of @d, or the memory is not aligned for it; use the calls above. -EINVAL, -EROFS.
 */
int dev_start(struct dev *d, struct dev_async *a);
/* Send what is to be sent, and bring back what has ended. Looked after by this thread. */
void dev_lane_turn(struct dev_lane *l);
/*
 * The same; and if nothing has ended, but something is on its way, sleep until something has, or
 * @fd (-1: none) can be read, or a signal comes. So it may bring back nothing.
 */
void dev_lane_wait(struct dev_lane *l, int fd);
/* Cheap: is there so much to send, or anything to bring back, that a turn is due? */
bool dev_lane_due(const struct dev_lane *l);
/*
 * For poll(2), of who looks after several: it can be read when something has ended since the last
 * turn, maybe before that; dev_lane_wait() does not sleep then, and some such waits make it unread.
 */
int dev_lane_fd(const struct dev_lane *l);
void dev_started_done(struct dev_async *a); /* for backends */
static inline int dev_drain(struct dev *d) /* see ops->drain */
{
	return d->ops->drain ? d->ops->drain(d) : -EOPNOTSUPP;
}
/*
 * Try COMPARE AND WRITE instead of believing a claim, on the sector at @off_bytes, without changing
 * what it holds: test = set = its contents must be GOOD, another test image must miscompare and
 * leave it alone. For a place that is lunfs's to use (LUNFS_SCRATCH_OFF). 0: it works. -EOPNOTSUPP:
 * the device rejects the command or does not do what it says; not fit for shared use. @why (of
 * @why_len bytes) then holds one sentence, as for every other error. Sets id.has_caw.
 */
int dev_caw_probe(struct dev *d, uint64_t off_bytes, char *why, size_t why_len);
/*
 * What this machine knows of the ways to the device, for a person who has to find out why it is
 * slow: "sdb: queue depth 32, time-out 30 s, running". "" if nothing. No I/O to the device.
 */
void dev_facts(struct dev *d, char *buf, size_t len);
void dev_set_deadline(struct dev *d, uint32_t deadline_ms);
void dev_close(struct dev *d);

#define DEV_OPEN_RDONLY 0x1u
#define DEV_OPEN_EXCL 0x2u	 /* mkfs: O_EXCL on block devices, to notice a kernel mount */
#define DEV_OPEN_FORCE_FILE 0x4u /* use the file backend for a device that has no ATS */

/*
 * Open @name: iscsi:// URL -> iscsi; SCSI block device, /dev/sg* or dm-multipath -> sg; anything
 * else -> file. @sector_bytes: 0 = the device's own; else what the volume was made for (a regular
 * file takes either; a device of another sector size gives -EMEDIUMTYPE). On failure @why (of
 * @why_len bytes) holds one sentence for a person.
 */
int dev_open(const char *name, unsigned flags, uint32_t sector_bytes, struct dev **out, char *why,
	     size_t why_len);
/*
 * @name as it may be shown and logged: of an iscsi:// URL neither user and password nor what
 * follows a '?', anything else as it is. Never longer than @name. Opens nothing.
 */
void dev_name_shown(const char *name, char *out, size_t len);

/* Zeroed memory aligned to 4096 bytes; aborts the process when there is none. Free with free(). */
void *dev_buf_alloc(size_t len_bytes);

#endif
