/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several hosts on one simulated LUN, each with the real ATS, host and lock layers and, in place of
 * transactions, a tiny cache: one number a cell, dirty in memory, written in place by the flush
 * upcall. An oracle beside it knows who has pinned what and asserts exclusion at every pin.
 */
#ifndef LOCK_FIXTURE_H
#define LOCK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/lock_impl.h"
#include "simclock.h"
#include "simdev.h"

#define FIX_HOSTS 4
#define FIX_CELLS 512
#define FIX_BEAT_MS 150
#define FIX_DEADLINE_MS 400
#define FIX_LEASE_MS 900

struct fix;

struct val { /* what a host caches of a cell */
	bool valid, dirty;
	uint64_t value, version;
};

struct box { /* one host */
	struct fix *f;
	unsigned n;
	struct dev *dev;
	struct env env;
	struct ats ats;
	struct host *host;
	struct locks *ls;
	struct val val[FIX_CELLS];
	bool open[FIX_CELLS];
	unsigned loaded, prepared, invalidated, flushed, replayed;
	int fail_flush; /* that many flushes fail */
	int replay_rc;	/* of each replay */
	void (*on_prepare)(struct box *b, uint64_t addr);
	void (*on_invalidate)(struct box *b, uint64_t addr);
	unsigned in_vain; /* so often, invalidations leave something */
	bool up, dead;
};

struct fix_io { /* commands that touched cells or the board since fix_io_reset() */
	unsigned cell_reads, cell_writes, cell_caws, board_writes;
};

struct fix {
	struct clock *clk;
	struct simdev_medium *medium;
	struct dev *first;
	struct geo geo;
	struct box box[FIX_HOSTS];
	struct fix_io io;
	struct simdev_fault every; /* armed by chance on CAWs of cells: kind OK = off */
	unsigned one_in;
	uint64_t rng;
	struct {
		int ex_host; /* -1: nobody */
		unsigned ex_pins, sh_pins[FIX_HOSTS];
	} oracle[FIX_CELLS];
};

/* Run @body as the first task of a fresh cluster with a formatted medium. */
void fix_run(void (*body)(struct fix *f), uint32_t sector_bytes, uint64_t seed);
void fix_up(struct fix *f, unsigned host);   /* claim, start */
void fix_down(struct fix *f, unsigned host); /* stop, flush nothing, free the slot */
void fix_kill(struct fix *f, unsigned host); /* kill -9 and power off */

uint64_t fix_addr(const struct fix *f, unsigned cell);
unsigned fix_cell(const struct fix *f, uint64_t addr);
void fix_io_reset(struct fix *f);

/* Pin and tell the oracle. */
int fix_pin(struct box *b, unsigned cell, enum lock_mode mode, enum lock_local local,
	    unsigned flags, struct lock_intr *intr, struct lock **out);
void fix_unpin(struct box *b, struct lock *l, enum lock_mode mode, enum lock_local local);
/* Under a pin: the number; under EX and local exclusive: add one. */
uint64_t fix_get(struct box *b, struct lock *l);
void fix_add(struct box *b, struct lock *l);

/* Pin, read (SH) or add one (EX), unpin. */
void fix_touch(struct box *b, unsigned cell, enum lock_mode mode);
/* The host's poller runs fast from now on for a while. */
void fix_warm(struct fix *f, unsigned host);

struct fix_job { /* of a task beside the first one */
	struct box *b;
	unsigned cell, rounds;
	enum lock_mode mode;
	struct lock_intr intr;
	int rc;
	bool done;
};
void fix_pinner(void *job); /* pin once, unpin, done */

void fix_record(struct fix *f, unsigned cell, struct lunfs_lock_rec *out);
void fix_poke_record(struct fix *f, unsigned cell, struct lunfs_lock_rec *r);
/* Wishes that stand in @column of @row. */
unsigned fix_wishes(struct fix *f, unsigned row, unsigned column);
void fix_sleep_ms(struct fix *f, uint64_t ms);
struct task *fix_task(struct fix *f, unsigned host, void (*fn)(void *), void *arg);
void fix_join(struct fix *f, struct task *t);

#endif
