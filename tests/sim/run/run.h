/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run of the random simulator: what its files share. A run is fixed by its plan, which is fixed
 * by its seed (and by what the command line forces).
 *
 *   plan.c      the seed becomes a plan
 *   driver.c    mounts hosts, keeps them going, ends the run and checks what is left
 *   nemesis.c   host and array faults
 *   actor.c     a task of a host that does random file operations and writes them down
 *   history.c   what was called and what came back; hints where each operation took effect
 *   model.c     the reference model of the file system; lin.c: is there an order that explains it?
 *   devcheck.c  (and dev*.c) judges each byte at the moment it reaches the medium
 *   cover.c     what was met; trace.c: the time-line; main.c: command line and workers
 */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include "history.h"
#include "simcluster.h"
#include "simrand.h"

#define INCS_MAX 512u
#define ACTORS_MAX 4u
#define ROTTEN_MAX 8u

enum profile {
	PROF_CALM,
	PROF_CRASH,
	PROF_ZOMBIE,
	PROF_FLAKY,
	PROF_POWER,
	PROF_OUTAGE,
	PROF_MIXED,
	PROF_LIAR,
	PROFILES
};
const char *profile_name(enum profile p);
int profile_find(const char *name); /* -1: none of that name */

enum lie { /* what a device does that it must not */
	   LIE_NONE,
	   LIE_CAW_BLIND,    /* COMPARE AND WRITE does not compare */
	   LIE_CAW_SPLIT,    /* is not atomic */
	   LIE_CAW_DONE,     /* says GOOD and writes nothing */
	   LIE_CAW_REFUSES,  /* to one host, nearly always */
	   LIE_LOST_WRITE,   /* a metadata write that was never done */
	   LIE_READ_CORRUPT, /* a bit of metadata flips on its way */
	   LIE_READ_STALE,   /* reads of metadata show what stood there once */
	   LIE_ROLL_BACK,    /* the whole array goes back to an older state */
	   LIE_SCRIBBLE,     /* something that is no record stands in a slot or lock */
	   LIES,
};
const char *lie_name(enum lie l);

struct plan {
	uint64_t seed;
	enum profile profile;
	unsigned hosts, tasks;
	uint32_t sector_bytes;
	bool pr;
	uint64_t lat_min_ns, lat_max_ns;
	uint64_t work_ns; /* how long the actors work */
	uint64_t ops_max; /* in the whole run */
	uint64_t think_ns;
	unsigned events; /* host faults */
	unsigned weights;
	uint64_t journal_bytes; /* 0: as mkfs chooses */
	bool full;		/* next to no space is left from the beginning */
	bool wide;    /* many long names: directories become trees, and lose nodes again */
	bool crowd; /* all write whole blocks of few files side by side, first writes among them */
	bool caw_cached; /* test and sets are seen before they are durable */
	enum lie lie;	 /* PROF_LIAR */
	unsigned lie_one_in;
	int drift_ppm[SC_HOSTS_MAX];
};
struct plan_force { /* from the command line; 0 / -1: as the seed says */
	unsigned hosts;
	int profile;
};
void plan_make(struct plan *p, uint64_t seed, const struct plan_force *f);

/* ---- hosts ----------------------------------------------------------------------------------- */

enum inc_end { INC_RUNS, INC_CLEAN, INC_KILLED, INC_LOST };

struct inc { /* one incarnation of a host: a mount */
	unsigned host, number;
	uint64_t owner, nonce;
	struct volume *v; /* stays readable after a kill */
	enum inc_end end;
	uint64_t begin_ev, end_ev, end_ns;
	uint64_t durable_lo, durable_hi; /* with KILLED, LOST: the last transaction that survived */
	bool leaving;			 /* .v may be gone at any moment; this is how it stood: */
	uint64_t left_durable, left_running;
	uint64_t synced_txn; /* acknowledged by fsync or syncfs: these survive */
	bool clock_stood;    /* it was stopped together with its clock */
	bool hard_errors;    /* the device said EIO to it: it may say so too */
	int drift_ppm;
	unsigned nexus;
};

enum hstate { H_DOWN, H_MOUNTING, H_UP, H_LEAVING, H_DEAD };

struct sim_run;

struct actor {
	struct sim_run *r;
	unsigned host, number;
	struct inc *inc;
	uint64_t rng;
	uint8_t *buf;
	struct nodeid dir[8];
	unsigned n_dirs, next_dir;
	struct nodeid open[3], seen;
	bool ended;
	struct task *task;
};

struct sim_host {
	struct sim_run *r;
	unsigned number;
	enum hstate state;
	struct inc *inc;
	bool leave;	    /* unmount cleanly, then come back */
	bool stay_dead;	    /* once killed */
	bool died_mounting; /* or failed, once: between its registration and its claim, perhaps */
	unsigned failures;  /* to mount, after the faults have stopped */
	uint64_t orphans;   /* that it still looks after */
	uint64_t back_ns;   /* when dead or down: not before */
	uint64_t stopped_until_ns;
	struct actor actor[ACTORS_MAX];
	bool step_done; /* the mounting or unmounting task has ended */
	int step_rc;
	char why[512];
	struct task *keeper;
};

struct cover;
struct devcheck;

struct sim_run {
	struct simcluster *t;
	struct plan plan;
	struct history *hist;
	struct cover *cover;
	struct devcheck *dc;
	bool trace;
	uint64_t begin_ns, stop_ns; /* the actors' time */
	bool stopping;		    /* faults have stopped; everybody who may live comes back */
	uint64_t stopped_ns;	    /* since when */
	bool kept;		    /* the keepers have ended */
	bool ended;		    /* everything has */
	bool closing;		    /* the end: no more operations */
	struct sim_host host[SC_HOSTS_MAX];
	struct inc inc[INCS_MAX];
	unsigned n_incs;
	uint64_t hash;	       /* out: of the schedule */
	unsigned takes, taker; /* recoveries begun; the host that began the latest */
	unsigned lied;	       /* times that the device did */
	uint64_t stuck_ns;     /* until then test and sets of locks of ... */
	uint64_t rotten_off[ROTTEN_MAX], rotten_len[ROTTEN_MAX]; /* cannot be read for now */
	unsigned n_rotten;
	unsigned stuck_host; /* ... have no answer */
	unsigned cuts;	     /* at a flush, still to come */
	bool cut_now;	     /* one of them is held up: now */
	bool said;   /* a host has told that something is wrong with the device or the volume */
	bool unseen; /* after the run: devcheck_unseen() */
	bool wrong;  /* something was, and it was said: nothing more is checked */
	struct nodeid shared[3], root;
	unsigned n_shared;
};

extern struct sim_run *the_run; /* for what the linker wraps; one a process */

/* Runs the seed; returns 0, or aborts with a sentence on standard error. */
void run_seed(struct sim_run *r);
uint64_t run_random(struct sim_run *r, uint64_t below);
struct inc *run_inc_of_label(struct sim_run *r, const char *label);  /* NULL: not a host's */
void run_inc_taken(struct sim_run *r, struct inc *i, unsigned slot); /* its slot is RECOVERING */

/*
 * Something is wrong. Where the device keeps its promises the run fails with this sentence; where
 * it lies and somebody has noticed and said so, or nobody can notice it, this is as good as it can
 * get. Returns then.
 */
void run_wrong(struct sim_run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * devcheck.c: does this place hold a slot, or a cell with a lock of its own? That lock says which
 * version of the payload is the last, so one that is older is noticed, unless it was lost in a
 * possession that nobody gave up (devlost.c); a node of a tree that is as sound as it ever was, but
 * old, is not.
 */
bool devcheck_is_meta(const struct sim_run *r, uint64_t off_bytes);
bool devcheck_is_slot(const struct sim_run *r, uint64_t off_bytes);

/* actor.c */
void actor_main(void *arg);
void actor_read_tree(struct sim_run *r, struct sim_host *h); /* a task of the host */

/* nemesis.c */
void nemesis_main(void *arg);
void ambush_main(void *arg);
void flush_ambush_main(void *arg);
void run_kill(struct sim_run *r, struct sim_host *h, bool stay_dead, uint64_t back_ns);

/*
 * fsck.c: in this process, of the medium as it is. Number of problems; they are printed. @stale: so
 * many of them are lost writes that show as such.
 */
unsigned long long run_fsck(struct simcluster *t, unsigned long long *stale);

/* trace.c */
void trace_device(struct sim_run *r); /* from now on what the device is told, does and answers */
void trace_line(const char *host, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void trace_host(unsigned host, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
