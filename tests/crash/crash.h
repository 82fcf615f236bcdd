/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs-crash: crash points. A workload runs once, on one or two hosts, each the production code
 * below FUSE, over a device that writes down what passes (rec.c). Then the power is cut at every
 * point of that recording, in each way that counts (cut.c): the volume is mounted, which recovers
 * the dead, its tree is read, fsck finds nothing, and the tree is one that the operations so far
 * explain: nothing that fsync acknowledged is missing, each operation is there as a whole or not at
 * all, of each host's transactions a prefix has survived (judge.c, by the reference model of
 * lunfs-sim). Some recoveries are recorded and cut in their turn: the second one must find the
 * same tree.
 *
 *   rec.c     the recording device            cut.c    images of a medium whose power was cut
 *   work.c    workloads, and running them     image.c  mounts, reads and checks an image
 *   judge.c   is that tree allowed?           main.c   command line, workers
 */
#ifndef CRASH_H
#define CRASH_H

#include "cut.h"
#include "rec.h"
#include "run.h"

#include <uthash.h>

#define SETUP_HOPS 300u
#define WORK_OPS 512u
#define OBS_HOPS 4096u

/* ---- work.c: workloads ----------------------------------------------------------------------- */

enum {				 /* kinds beside enum hop_kind */
       WORK_SLEEP = HOP_KINDS_N, /* time passes */
       WORK_TRIM,		 /* free space in a range of the first group goes back */
};

struct wop { /* one operation; names are "a" or "d/a" */
	unsigned host, kind, flags;
	char a[12], b[12];
	uint64_t off, len;
};

struct workload {
	char name[40]; /* how --replay finds it again */
	uint64_t seed; /* of the run */
	uint32_t sector_bytes;
	unsigned hosts, n;
	bool sampled;	 /* long: a few ways to cut at each point, by chance */
	bool wide;	 /* on a base whose directories and files have trees of several nodes */
	bool from_mount; /* the power goes while the hosts mount, too */
	struct wop op[WORK_OPS];
};

/*
 * Workloads are numbered in groups, so that those which begin alike share what was checked. False:
 * there is no such one.
 */
enum family {
	FAM_ONE,      /* all of one operation, followed by a sync */
	FAM_TWO,      /* all of two, with a sync between them or not */
	FAM_TWO_HOST, /* all of two, the second on another host */
	FAM_THREE,    /* of three, by seed */
	FAM_RANDOM,   /* long ones, by seed */
	FAMILIES,
};
const char *family_name(enum family f);
unsigned family_groups(enum family f); /* 0: as many as you like */
unsigned family_members(enum family f);
void workload_make(struct workload *w, enum family f, uint64_t group, unsigned member);
int workload_find(struct workload *w, const char *name); /* by its name; -1: none */
const char *wop_text(const struct wop *o, char *buf, size_t len);

/* "e/0" ... and the blocks of "d/h" on a wide base: enough for trees of several nodes. */
#define WIDE_NAMES 100u
#define WIDE_EXTENTS 130u

/* A formatted volume with a few files, and how they came there. */
struct base {
	uint32_t sector_bytes;
	struct geo geo;
	struct simdev_medium *medium;
	struct nodeid root;
	struct hop *hop;
	size_t n_hops;
};
const struct base *base_get(uint32_t sector_bytes, bool wide); /* made once */

struct record { /* a run of a workload */
	const struct workload *w;
	const struct base *base;
	struct rec rec;
	struct simcluster t;
	struct sim_run run; /* .hist: the set-up and the workload */
	enum rec_up up[CRASH_HOSTS];
	uint64_t left_lo, left_hi;
	size_t first;	 /* event from which on the power goes */
	char wrong[512]; /* what the run itself did wrong, "" */
};
void record_make(struct record *r, const struct workload *w);
void record_free(struct record *r);

/* Mount as @host on @m; @rec may be NULL. */
int crash_mount(struct simcluster *t, unsigned host, uint64_t boot, struct rec *rec,
		struct volume **v, char *why, size_t why_len);

/* ---- image.c: what stands on an image -------------------------------------------------------- */

struct obs { /* what a mount saw of an image */
	UT_hash_handle hh;
	uint64_t key;
	char wrong[700]; /* mount, reading or fsck failed: why; "" */
	struct hop *hop; /* reading the tree */
	size_t n_hops;
	uint64_t digest;	      /* of the tree */
	unsigned second, second_same; /* recoveries cut in their turn; images met before */
};
/* @again: cut the recovery too, at up to so many points. Takes over the reference @m. */
struct obs *image_look(const struct base *b, struct simdev_medium *m, uint64_t seed,
		       unsigned again);
void obs_free(struct obs *o);

/* ---- judge.c --------------------------------------------------------------------------------- */

/* Is @o what may be found when the power goes after event @at? False: @why. */
bool judge(const struct record *r, size_t at, const struct obs *o, char *why, size_t why_len);
/* The history up to a moment, as one that judge() and readers can go on with. */
void hist_copy(struct sim_run *to, const struct hop *hop, size_t n, uint64_t until);
void hist_end(struct sim_run *r); /* free it, but not the data of copies */
void hist_keep(struct sim_run *r, struct hop **hop, size_t *n); /* take it out, data too */

extern bool crash_trace;	  /* log lines, history: everything is printed */
extern char crash_complaint[256]; /* the first error that production logged, "" */

#endif
