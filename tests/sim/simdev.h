/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A simulated shared LUN in memory: one sparse medium, any number of handles (one a host).
 *
 * The medium has a volatile write cache: what was written and not flushed may be gone, or torn at
 * any sector boundary, after simdev_power_cut(). A COMPARE AND WRITE is on the medium when it says
 * GOOD. A command takes effect somewhere between its submission and its answer; a write of several
 * sectors may take effect in two steps. All chance comes from the medium's own seeded generator.
 *
 * Works with any struct clock. Nothing sleeps with the medium's mutex held.
 */
#ifndef TESTS_SIMDEV_H
#define TESTS_SIMDEV_H

#include <lunfs/dev.h>

struct simdev_medium;

/* A fresh medium, all zero, and its first handle. Aborts when there is no memory. */
struct dev *simdev_new(struct clock *clk, uint64_t size_bytes, uint32_t sector_bytes,
		       uint32_t phys_bytes);
struct simdev_medium *simdev_medium_of(struct dev *d);
struct dev *simdev_attach(struct simdev_medium *m); /* one more handle; dev_close() each */
/* The medium goes with its last handle, or reference of these. */
struct simdev_medium *simdev_medium_get(struct simdev_medium *m);
void simdev_medium_put(struct simdev_medium *m);
/* The same contents (cache included) on a medium of its own, with one reference, no handle. */
struct simdev_medium *simdev_medium_clone(struct simdev_medium *m);

void simdev_seed(struct simdev_medium *m, uint64_t seed);
/* Each command takes between @min_ns and @max_ns; 0, 0 (the default): no time, but a yield. */
void simdev_set_latency(struct simdev_medium *m, uint64_t min_ns, uint64_t max_ns);
/* May drain() prove that late commands are gone? Default: yes; else it says -EOPNOTSUPP. */
void simdev_set_drain(struct simdev_medium *m, bool supported);

/*
 * The host behind @d dies: each of its commands in flight lands or not, all later ones answer
 * -ENODEV. Its late commands (below) stay on their way.
 */
void simdev_kill(struct dev *d);
/*
 * The array loses power: of every unflushed sector either the old or the new contents remain;
 * commands in flight and late ones are gone (their answer is -ETIMEDOUT). Handles go on working.
 */
void simdev_power_cut(struct simdev_medium *m, uint64_t seed);
uint64_t simdev_unflushed(struct simdev_medium *m); /* sectors that a power cut could lose */

/* ---- faults ---------------------------------------------------------------------------------- */

enum simdev_op {
	SIMDEV_READ = 0x01,
	SIMDEV_WRITE = 0x02, /* write_zeroes too */
	SIMDEV_FLUSH = 0x04,
	SIMDEV_CAW = 0x08,
	SIMDEV_DISCARD = 0x10,
	SIMDEV_ANY = 0x1f,
};

enum simdev_fault_kind {
	SIMDEV_OK,	     /* no fault */
	SIMDEV_FAIL,	     /* not executed; answers .error (0 means -EIO) */
	SIMDEV_DELAY,	     /* executed .delay_ns later; beyond the handle's deadline: as LATE */
	SIMDEV_LOST_REPLY,   /* executed; answers -ETIMEDOUT */
	SIMDEV_LOST_COMMAND, /* never executed; answers -ETIMEDOUT */
	SIMDEV_LATE,	     /* answers -ETIMEDOUT; executed .delay_ns after that, unless drained */
	SIMDEV_LIE_DONE,     /* write or CAW: says done, nothing was written */
	SIMDEV_LIE_MISCOMPARE, /* CAW: says MISCOMPARE, although equal; nothing written */
	SIMDEV_RESENT,	       /* CAW: executed twice below us: it landed, yet says MISCOMPARE */
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

/* ---- looking and tampering ------------------------------------------------------------------- */

struct simdev_counts { /* of the whole medium, all handles; what was executed */
	uint64_t reads, writes, flushes, caws, miscompares, discards, late, faults;
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
