/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A simulated shared LUN in memory: one sparse medium, any number of handles (one a host).
 *
 * The medium has a volatile write cache: what was written and not flushed may be gone, or torn at
 * any sector boundary, after simdev_power_cut(). A COMPARE AND WRITE is on the medium when it says
 * GOOD, but may be seen before that, see simdev_set_caw_cached(). A command takes effect somewhere
 * between its submission and its answer; a write of several sectors may take effect in several
 * steps, in any order. All chance comes from the medium's own seeded generator.
 *
 * Works with any struct clock. Moments (until_ns) are those of the first task's group, 0, whose
 * clock does not drift. Nothing sleeps with the medium's mutex held.
 */
#ifndef TESTS_SIMDEV_H
#define TESTS_SIMDEV_H

#include <lunfs/dev.h>

struct simdev_medium;
struct simdev_snapshot;

/* A fresh medium, all zero, and its first handle. Aborts when there is no memory. */
struct dev *simdev_new(struct clock *clk, uint64_t size_bytes, uint32_t sector_bytes,
		       uint32_t phys_bytes);
struct simdev_medium *simdev_medium_of(struct dev *d);
struct dev *simdev_attach(struct simdev_medium *m); /* one more handle; dev_close() each */
/* The medium goes with its last handle, or reference of these. */
struct simdev_medium *simdev_medium_get(struct simdev_medium *m);
void simdev_medium_put(struct simdev_medium *m);
/*
 * The end of @m although handles or references are left, those of killed hosts for instance: none
 * may be used again. For the end of a test.
 */
void simdev_medium_end(struct simdev_medium *m);
/* The same contents (cache included) on a medium of its own, with one reference, no handle. */
struct simdev_medium *simdev_medium_clone(struct simdev_medium *m);

void simdev_seed(struct simdev_medium *m, uint64_t seed);
/* Each command takes between @min_ns and @max_ns; 0, 0 (the default): no time, but a yield. */
void simdev_set_latency(struct simdev_medium *m, uint64_t min_ns, uint64_t max_ns);
/*
 * A COMPARE AND WRITE goes through the cache, as with FUA or a flush after it: others see it, and
 * it can still be lost, before it says GOOD; and for longer if its sender dies. Default: no, it
 * lasts from the moment on at which it is seen.
 */
void simdev_set_caw_cached(struct simdev_medium *m, bool cached);
/* Where one of them was, the @k-th from 0, and whose; without a sender: there are no more. */
uint64_t simdev_cached_caw(struct simdev_medium *m, unsigned k, const struct dev **sender);
/* May drain() prove that late commands are gone? Default: yes; else it says -EOPNOTSUPP. */
void simdev_set_drain(struct simdev_medium *m, bool supported);
/* Who sends through @d, for traces, monitors and reports: "host2#1". At most 31 bytes are kept. */
void simdev_set_label(struct dev *d, const char *label);
const char *simdev_label(struct dev *d);

/*
 * The host behind @d dies: of each of its commands in flight all, a part or nothing lands, now or
 * later; all later ones answer -ENODEV. Its late commands (below) stay on their way.
 */
void simdev_kill(struct dev *d);
/* How long after that (or after an outage began) they may still land. Default 0: at once. */
void simdev_set_linger(struct simdev_medium *m, uint64_t max_ns);
/*
 * The array loses power: of every unflushed sector either the old or the new contents remain (now
 * and then the new ones of all but cached test and sets); commands in flight and late ones are gone
 * (their answer is -ETIMEDOUT). Handles go on working.
 */
void simdev_power_cut(struct simdev_medium *m, uint64_t seed);
uint64_t simdev_unflushed(struct simdev_medium *m); /* sectors that a power cut could lose */

/*
 * Contents at one moment, its cache included; cheap. Rolling back puts them on the medium again (a
 * storage snapshot restored under running hosts); registrations and late commands stay.
 */
struct simdev_snapshot *simdev_snapshot(struct simdev_medium *m);
void simdev_snapshot_free(struct simdev_snapshot *snap);
void simdev_roll_back(struct simdev_medium *m, const struct simdev_snapshot *snap);

/* ---- persistent reservations ------------------------------------------------------------------
 *
 * Registrations stand by nexus (the initiator port and the target port). simdev_attach() gives each
 * handle a nexus of its own; a process that starts again behind the same port comes back on the one
 * it had. While type 7 is reserved, a write, CAW, discard or zeroing of a nexus that is not
 * registered answers -EBADE; what is late is judged when it would take effect. Reads and flushes
 * pass.
 */
struct dev *simdev_attach_nexus(struct simdev_medium *m, unsigned nexus);
unsigned simdev_nexus(struct dev *d);
/*
 * Default: not supported (every call: -EOPNOTSUPP). Without @aptpl probe() says no, the rest works,
 * and a power cut loses the registrations and the reservation.
 */
void simdev_set_pr(struct simdev_medium *m, bool supported, bool aptpl);
void simdev_pr_forget(struct simdev_medium *m, unsigned nexus); /* its registration is gone */
void simdev_pr_reset(struct simdev_medium *m); /* all are, and the reservation: a target reset */
uint64_t simdev_pr_key(struct simdev_medium *m, unsigned nexus); /* 0: not registered */
bool simdev_pr_reserved(struct simdev_medium *m);
/* Would a write through @d be let through now? */
bool simdev_may_write(struct dev *d);

/* ---- faults ---------------------------------------------------------------------------------- */

enum simdev_op {
	SIMDEV_READ = 0x01,
	SIMDEV_WRITE = 0x02, /* write_zeroes too */
	SIMDEV_FLUSH = 0x04,
	SIMDEV_CAW = 0x08,
	SIMDEV_DISCARD = 0x10,
	SIMDEV_PR = 0x20,
	SIMDEV_ANY = 0x3f,
};

enum simdev_fault_kind {
	SIMDEV_OK,	     /* no fault */
	SIMDEV_FAIL,	     /* not executed; answers .error (0 means -EIO) */
	SIMDEV_DELAY,	     /* executed .delay_ns later; beyond the handle's deadline: as LATE */
	SIMDEV_LOST_REPLY,   /* executed; answers -ETIMEDOUT */
	SIMDEV_LOST_COMMAND, /* never executed; answers -ETIMEDOUT */
	SIMDEV_LATE,	     /* answers -ETIMEDOUT; executed .delay_ns after that, unless drained */
	SIMDEV_LIE_DONE,     /* write, CAW or flush: says done, nothing was written */
	SIMDEV_LIE_MISCOMPARE, /* CAW: says MISCOMPARE, although equal; nothing written */
	SIMDEV_RESENT,	       /* CAW: executed twice below us: it landed, yet says MISCOMPARE */
	/*
	 * Refused, no effect: a CAW answers -EAGAIN; all else is sent again below, which takes
	 * .delay_ns more, and answers -ETIMEDOUT where that is beyond the deadline.
	 */
	SIMDEV_BUSY,
	SIMDEV_TASK_SET_FULL,
	SIMDEV_UNIT_ATTENTION,
	SIMDEV_LIE_BLIND, /* CAW: writes without comparing, says GOOD */
	SIMDEV_LIE_SPLIT, /* CAW: compares, and writes .delay_ns later: not atomic */
	SIMDEV_CORRUPT,	  /* read: one bit is flipped on its way */
	SIMDEV_STALE,	  /* read: answered from what simdev_mark_old() kept */
	SIMDEV_ROT,	  /* one sector of the range answers -EIO to reads until it is rewritten */
	SIMDEV_OUTAGE,	  /* the handle's transport goes for .delay_ns; .error: with errors */
	SIMDEV_TRUNCATE,  /* write: only some of its sectors land; answers -ETIMEDOUT */
	SIMDEV_FAULT_KINDS,
};

struct simdev_fault {
	enum simdev_fault_kind kind;
	unsigned ops;	    /* enum simdev_op bits it applies to */
	uint64_t nth;	    /* 0 or 1: the next matching command, 2: the one after ... */
	uint64_t count;	    /* this many in a row (0 = 1) */
	uint64_t off_bytes; /* only commands that touch [off, off + len); len 0: any */
	uint64_t len_bytes;
	uint64_t delay_ns;
	int error;
};

/* Several may be armed on a handle; the first that matches a command decides it. */
void simdev_inject(struct dev *d, const struct simdev_fault *f);
void simdev_inject_clear(struct dev *d);

/*
 * Faults by chance: each kind hits one in .one_in of the commands it makes sense for (and that are
 * in .ops, if not 0), with a delay between the two. Of a medium, or of one handle instead of the
 * medium's; NULL ends it. What is armed by simdev_inject() comes first.
 */
struct simdev_rate {
	unsigned one_in; /* 0: never */
	unsigned ops;
	uint64_t min_ns, max_ns;
};
struct simdev_chaos {
	struct simdev_rate rate[SIMDEV_FAULT_KINDS];
};
void simdev_chaos(struct simdev_medium *m, const struct simdev_chaos *c);
void simdev_chaos_handle(struct dev *d, const struct simdev_chaos *c);

/*
 * The transport is gone until then: of commands in flight all, a part or nothing lands, and they
 * answer -ETIMEDOUT at their deadline; drain() fails. New commands never arrive.
 */
enum simdev_outage_how {
	SIMDEV_OUTAGE_SILENT, /* new ones answer -ETIMEDOUT after the deadline */
	SIMDEV_OUTAGE_ERROR,  /* new ones answer -ETIMEDOUT at once, as where no path is left */
	SIMDEV_OUTAGE_QUEUED, /* plain I/O waits for the end, CAW and PR calls as SILENT */
};
void simdev_outage(struct dev *d, uint64_t until_ns, enum simdev_outage_how how);
void simdev_outage_all(struct simdev_medium *m, uint64_t until_ns, enum simdev_outage_how how);
/* Has the transport been gone since then, maybe still is? Of a closed handle, too. */
bool simdev_was_away(struct dev *d, uint64_t since_ns);

/* Reads of these sectors answer -EIO until each is written again. */
void simdev_rot(struct simdev_medium *m, uint64_t off_bytes, uint64_t len_bytes);
/* What SIMDEV_STALE reads shall answer: the contents now. The first such fault armed marks too. */
void simdev_mark_old(struct simdev_medium *m);
/* All reads of @d in the range answer from @snap (which must outlive that); NULL: no more. */
void simdev_set_stale(struct dev *d, const struct simdev_snapshot *snap, uint64_t off_bytes,
		      uint64_t len_bytes);

const char *simdev_fault_name(enum simdev_fault_kind kind); /* "lost-reply" */
const char *simdev_op_name(enum simdev_op op);		    /* "write" */
/* How many commands each kind has hit so far; [SIMDEV_OK]: all of them together. */
void simdev_fault_counts(struct simdev_medium *m, uint64_t out[SIMDEV_FAULT_KINDS]);

/* ---- being told -------------------------------------------------------------------------------
 */

struct simdev_cmd {
	enum simdev_op op;
	uint64_t off_bytes, len_bytes;
	uint64_t index; /* 1 = first command of this medium, reads not counted */
};
/*
 * Called for every command before it takes effect, without a mutex; may kill handles, cut the
 * power or choose a fault by filling @out. NULL: none.
 */
typedef void (*simdev_hook)(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			    struct simdev_fault *out);
void simdev_set_hook(struct simdev_medium *m, simdev_hook hook, void *ctx);

/*
 * Called at the very moment data reaches the medium (late commands and parts of a torn write too),
 * just before it is changed. May simdev_peek() and ask for registrations; must neither sleep nor
 * change anything. A CAW is told only when it is about to write.
 */
struct simdev_landing {
	struct dev *d; /* whose command; NULL: that handle was closed since */
	const char *label;
	unsigned nexus;
	uint64_t number; /* of the command, as in traces */
	enum simdev_op op;
	uint64_t off_bytes, len_bytes;
	const uint8_t *data; /* NULL: zeroes (write_zeroes, discard) */
	const uint8_t *test; /* CAW */
	enum simdev_fault_kind fault;
	uint64_t at_ns;	       /* when; may be a little before the clock's present */
	uint64_t submitted_ns; /* when it was sent */
	bool late;	       /* its answer was given before */
	bool dead;	       /* its handle was killed or closed before */
};
typedef void (*simdev_monitor)(void *ctx, const struct simdev_landing *l);
void simdev_set_monitor(struct simdev_medium *m, simdev_monitor monitor, void *ctx);

enum simdev_event_kind {
	SIMDEV_SUBMITTED,
	SIMDEV_EFFECT,
	SIMDEV_ANSWERED,
	SIMDEV_DROPPED, /* it was on its way and will never take effect */
	SIMDEV_NOTE,	/* something about the medium or a handle: .text */
};
struct simdev_event {
	enum simdev_event_kind what;
	uint64_t at_ns, number;
	const char *label;
	enum simdev_op op;
	uint64_t off_bytes, len_bytes;
	enum simdev_fault_kind fault;
	int result;	  /* SIMDEV_EFFECT, SIMDEV_ANSWERED */
	bool late;	  /* SIMDEV_EFFECT: after its answer */
	const char *text; /* more, for a person: "PREEMPT AND ABORT key ...", "torn" or NULL */
};
/* Called with the medium locked, in the order of moments; must not call the device. NULL: none. */
typedef void (*simdev_trace)(void *ctx, const struct simdev_event *e);
void simdev_set_trace(struct simdev_medium *m, simdev_trace fn, void *ctx);
/* One aligned line without its end, times counted from @zero_ns. Returns @buf. */
char *simdev_event_format(const struct simdev_event *e, uint64_t zero_ns, char *buf, size_t len);

/* ---- looking and tampering ------------------------------------------------------------------- */

struct simdev_counts { /* of the whole medium, all handles; what was executed */
	uint64_t reads, writes, flushes, caws, miscompares, discards, late, faults;
	uint64_t prs, conflicts, aborted, torn, power_cuts, lost_sectors, outages, roll_backs;
};
void simdev_counts(struct simdev_medium *m, struct simdev_counts *out);

/* As the next reader would see it, and straight on to the medium; no faults, no time, any length.
 */
void simdev_peek(struct simdev_medium *m, uint64_t off_bytes, size_t len_bytes, void *buf);
void simdev_poke(struct simdev_medium *m, uint64_t off_bytes, size_t len_bytes, const void *buf);
/* To and from a sparse image file, so that real tools can look at it. 0 or -errno. */
int simdev_save(struct simdev_medium *m, const char *path);
int simdev_load(struct simdev_medium *m, const char *path);

#endif
