/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private to the judge of what reaches the medium: devcheck.c, devslot.c, devlock.c, devreplay.c.
 */
#ifndef SIM_DEVCHECK_IMPL_H
#define SIM_DEVCHECK_IMPL_H

#include "base/geo.h"
#include "cover.h"
#include "devcheck.h"
#include "run.h"

#define SLOT_PASTS 8u /* more changes of a slot than can be on their way at once */
#define SLOTS_MAX (LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS)

struct dead_log;

struct slot_truth { /* a slot as it stands on the medium, and by whose hand */
	struct lunfs_slot_rec rec;
	struct inc *by;	       /* whose incarnation the generation is */
	struct inc *recoverer; /* while RECOVERING */
	uint64_t beat_sent_ns; /* when the beat that stands there was submitted */
	uint64_t taken_ns;     /* when it became RECOVERING */
	struct dead_log *log;  /* while RECOVERING: what its journal says, once it was read */
};

#define LOCKS_SET 64u

struct lock_set { /* a lock record that landed */
	uint64_t addr, image_seq;
};

#define LOST_WRITES_MAX 256u

struct lost_write { /* a payload that the device only said it wrote */
	uint64_t cell;
	uint64_t owner, possession; /* whose it was */
	const struct inc *by;
};

struct devcheck {
	struct sim_run *r;
	const struct geo *geo;
	struct simdev_medium *m;
	unsigned slots;
	struct slot_truth slot[SLOTS_MAX];
	struct slot_truth past[SLOTS_MAX][SLOT_PASTS]; /* how each stood before, in a ring */
	unsigned n_past[SLOTS_MAX];
	struct lock_set lock_set[LOCKS_SET]; /* what was set last, in a ring */
	unsigned n_lock_set;
	uint8_t
	    *is_cell; /* of each block: 1 = a cell of a chunk begins here, 2: its second block */
	uint64_t blks;
	bool lies; /* the device does not keep its promises: nothing is judged */
	struct lost_write lost[LOST_WRITES_MAX]; /* since then neither written nor given up */
	unsigned n_lost;
	bool unseen; /* of one that was lost nobody could know, and others have its lock now */
	/* What reached the medium since its snapshot: contents of files; what leaves a trace. */
	bool data_since, traces_since;
};

/* What is being judged: one landing of one incarnation. */
struct judged {
	struct devcheck *dc;
	const struct simdev_landing *l;
	struct inc *inc;
};

void dev_wrong(const struct judged *j, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

/* devlost.c: a command lands on a device that loses writes */
void lost_landing(const struct judged *j);

/* devslot.c */
void slots_load(struct devcheck *dc);
void judge_slot(const struct judged *j, unsigned slot);
/* The incarnation @owner names still has its slot, in whatever state. */
bool owner_stands(const struct devcheck *dc, uint64_t owner);
bool owner_lives(const struct devcheck *dc, uint64_t owner); /* LIVE in that generation */
/* A slot that @inc has LIVE; NULL: none. */
const struct slot_truth *slot_of(const struct devcheck *dc, const struct inc *inc);
/* May this incarnation still write anything, plain or ATS? */
bool may_write(const struct devcheck *dc, const struct inc *inc);
/* Does @inc act for @owner: it is its own and LIVE, or it recovers it? */
bool acts_for(const struct devcheck *dc, const struct inc *inc, uint64_t owner);

/* devlock.c */
bool lock_rec_at(const struct devcheck *dc, uint64_t addr, struct lunfs_lock_rec *out);
bool holds_ex(const struct devcheck *dc, const struct inc *inc, uint64_t addr);
void judge_lock(const struct judged *j, uint64_t addr);
void locks_power(struct devcheck *dc); /* counts those that a power cut has just undone */

/* devreplay.c */
/* The recoverer of @slot writes the payload that begins with @h in the dead host's name. */
void judge_replay_write(const struct judged *j, unsigned slot, const struct lunfs_blk_hdr *h);
void judge_replay_end(const struct judged *j, unsigned slot); /* @slot becomes FREE */
void replay_forget(struct slot_truth *t);		      /* what was read of its journal */

#endif
