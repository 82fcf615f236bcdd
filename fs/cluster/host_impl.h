/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to the host files (slot, host, notify, claim, beat, watch, owner, fence, pr, recover).
 *
 * h->mtx protects everything but: `cur`, `set`, `found` and `sec`, which belong to the beat thread
 * while it runs and to the claiming or releasing caller otherwise; and the images of recovery jobs,
 * which h->rec_mtx protects (the only mutex held across I/O: the beat thread renews them).
 * Order: rec_mtx before mtx.
 */
#ifndef CLUSTER_HOST_IMPL_H
#define CLUSTER_HOST_IMPL_H

#include "base/crc.h"
#include "base/log.h"
#include "cluster/host.h"
#include "cluster/watchdog.h"

#define HOST_FLAG_READ_ONLY 0x1u
#define HOST_LABEL_BYTES 160
#define HOST_DRIFT_SHIFT 6	  /* clocks may differ by 1/64 */
#define HOST_DRIFT_NS 20000000ull /* and by this */
#define HOST_IDLE_LEASES 3u	  /* a daemon that does not work stops beating after these */
#define HOST_STEP_LEASES 16u	  /* a step of a recovery that lasts so long has hung */

#define MS_NS 1000000ull
#define WATCH_STEPS_A_BEAT 8u /* the others are looked at so often at the most */

struct slot_seen {    /* one entry of the cached host table */
	bool valid;   /* rec and hi hold what passed the checks */
	bool damaged; /* the latest read did not pass them */
	bool moved;   /* it was seen to beat since this table was begun */
	struct host_info hi;
	struct lunfs_slot_rec rec;
	uint64_t since_ns; /* end of the first read that showed exactly rec */
	uint64_t read_ns;  /* end of the latest read that did */
	unsigned anew;	   /* its lease was counted anew so often, for want of reads */
	uint64_t over;	   /* owner id that ended and was not told yet, 0 = none */
	bool timed;	   /* a change was seen within a step of its landing: due_ns tells the next */
	uint64_t due_ns;   /* a change of it is looked for from here on */
};

enum job_stage {
	JOB_NONE,
	JOB_TAKE, /* set RECOVERING */
	JOB_FENCE,
	JOB_REPLAY,
	JOB_CHECK, /* replayed and flushed: is it fenced still? */
	JOB_FREE,  /* set FREE */
};

struct job {		      /* the recovery of one slot by this host */
	enum job_stage stage; /* changed by the recovery thread only, under mtx */
	uint64_t next_ns;     /* not before */
	unsigned failures;    /* in a row */
	bool damaged;	      /* the last replay said so of the journal, or of a lock that it names */
	struct host_info dead;
	bool barred;	    /* host_recovery_bar() */
	uint64_t taken_ns;  /* RECOVERING was set by us at this time */
	uint64_t silent_ns; /* and for so long nothing had been seen of it */
	uint64_t fenced_ns, replayed_ns;
	uint64_t pr_epoch;  /* h->pr_epoch when it was fenced */
	struct ats_sector sec;
	uint8_t *cur; /* the RECOVERING image that stands on disk; rec_mtx */
};

struct proc_id { /* who this process is, for proofs on one machine */
	uint8_t machine_id[16], boot_id[16];
	uint32_t pid;
	uint64_t pid_start, pid_ns;
};

struct host {
	struct env env;
	struct ats *ats;
	struct host_config cfg;
	struct host_cb cb;
	struct proc_id self;
	unsigned n; /* slots, the spare ones included */

	struct mtx mtx, rec_mtx;
	struct cond changed; /* state, lease, table */
	struct cond beat_wake, watch_wake, rec_wake, note_wake;

	/* this incarnation */
	unsigned slot; /* LUNFS_NO_SLOT: none */
	uint64_t generation, nonce;
	_Atomic enum host_state state;
	atomic_ullong lease_end_ns;
	char lost_why[320];
	bool temporary; /* in a spare slot, only to recover: no upcall but replay */
	bool stop, stop_recovery;
	bool beat_now, look_now;
	bool slot_gone; /* the watch read something else than a live image of ours in our slot */
	uint64_t idle_since_ns; /* alive() has said no since, 0 = it says yes */
	bool idle_told;
	uint64_t suspensions, suspensions_told;
	bool lost_told;
	bool giving_up; /* host_give_up() */
	struct ats_sector sec;
	uint8_t *cur, *set, *found;
	struct task *beat_task, *watch_task, *rec_task, *note_task;
	uint64_t rec_step_ns; /* the recovery thread is in a step since, 0 = it is not */
	unsigned rec_slot;    /* whose */

	/* fencing */
	enum lunfs_fence_mode fence; /* of this incarnation */
	bool pr_cannot;		     /* found out during this claim */
	char pr_why[320];	     /* why there is no pr */
	uint64_t pr_key;	     /* registered with the device, 0 = none */
	uint64_t pr_epoch;	     /* +1 when the registration was made anew */
	uint64_t pr_restored_ns;     /* beat thread; who frees the slot, when that has ended */
	unsigned pr_failures;	     /* the same; in a row */
	/*
	 * The device refused a command of this host: no write starts until the beat thread knows
	 * why. Set on any thread.
	 */
	atomic_bool conflict;
	atomic_uint writing;   /* writes past the gate that have not come back */
	atomic_ullong written; /* those that have, ever */
	bool refused; /* this suspension is due to that */
	struct watchdog *wd, *own_wd;
	uint64_t wd_timeout_ns; /* armed with it; 0 = not armed */

	/* the others */
	struct slot_seen *seen;
	struct job *jobs;
	uint8_t *table_buf; /* the watch thread's own */
};

static inline uint64_t host_now(const struct host *h)
{
	return clock_now_ns(h->env.clk);
}
static inline bool slot_has_journal(const struct host *h, unsigned slot)
{
	return slot < h->env.geo->slots && h->env.geo->journal_blk[slot] != 0;
}
static inline const struct lunfs_slot_rec *rec_of(const void *sector)
{
	return (const struct lunfs_slot_rec *)sector;
}

/* slot.c: ranges only, not the ATS header. */
int slot_rec_decode(const struct geo *g, const struct lunfs_slot_rec *rec, unsigned slot,
		    struct host_info *out);

/* host.c */
const char *host_label(const struct host_info *hi, char buf[HOST_LABEL_BYTES]);
void host_set_lost(struct host *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int host_start_threads(struct host *h);
void host_stop_threads(struct host *h);
int host_free_slot(struct host *h); /* LIVE -> FREE of our own slot; threads are stopped */
/* beat.c. 0: nobody fenced this host, and its registration is there again. */
int host_why_refused(struct host *h);
/* mtx held: turn an ACTIVE that is expired or refused by the device into SUSPENDED, or LOST */
bool host_check_lease(struct host *h);
void host_conflict(void *host); /* dev->conflict: RESERVATION CONFLICT */

/* owner.c: for ats_set_names(), from the cached table. */
const char *host_owner_name(void *host, uint64_t owner, char *buf, size_t len);

/* notify.c: the thread that makes the upcalls */
void notify_main(void *host);

/* beat.c */
void beat_main(void *host);
/* 0: it stands on disk; -EAGAIN: try again; -EIO: the host is lost. */
int beat_once(struct host *h);

/* watch.c */
void watch_main(void *host);
int watch_read_table(struct host *h);
int watch_read_slot(struct host *h, unsigned slot, struct slot_seen *out);
/* Put a sector read from disk between @start_ns and @end_ns into the table. 0 or -EUCLEAN. */
int watch_note(struct host *h, unsigned slot, const void *sector, uint64_t start_ns,
	       uint64_t end_ns);
/* When the beat that the others of this table time theirs by was seen, 0 = it is ours. */
uint64_t watch_leader_ns(struct host *h);
void watch_get(struct host *h, unsigned slot, struct slot_seen *out);
/* May this host take the slot over now? @s is a copy; no lock held. */
bool watch_dead(struct host *h, const struct slot_seen *s);
/* Did its last incarnation end by itself, with everything drained? */
bool watch_ended_cleanly(const struct slot_seen *s);
uint64_t watch_allowance_ns(const struct host_info *hi); /* lease and drift */

/* fence.c */
void proc_identify(struct proc_id *out);
/* An earlier process of this machine that is still there, though its incarnation is over. */
bool fence_old_process(struct host *h, const struct host_info *hi);
/* Before the claim, by h->fence: registered. */
int fence_begin(struct host *h, char *why, size_t why_len);
/*
 * A beat stands, and nothing was written yet that others must be kept from: from here on this
 * machine is reset if no beat comes. Not before: an outage in the middle of a mount harms nobody.
 */
int fence_arm(struct host *h, char *why, size_t why_len);
/* The slot is FREE, everything drained: registered and armed no more. */
void fence_end(struct host *h);
/* All threads have ended, the slot is left to the others: disarm what nothing needs any more. */
void fence_abandoned(struct host *h);
void fence_fed(struct host *h, uint64_t since_ns); /* the beat submitted at @since_ns stands */
/* 0: no write of @dead can reach the device any more, as far as this fence mode can promise. */
int fence_host(struct host *h, const struct job *j, const struct host_info *dead);
/* 0: that is still so. */
int fence_check(struct host *h, const struct host_info *dead);

/* pr.c; no mutex held */
/* Register the key h->nonce, chosen in here. @why: a sentence without its full stop. */
int pr_join(struct host *h, char *why, size_t why_len);
/* A lost mount of this machine whose process still is there and uses the same path; else NULL. */
const struct host_info *pr_old_process(struct host *h, struct slot_seen *s);
/* For a host without pr: -EBUSY when the device takes writes of registered hosts only. */
int pr_refused(struct host *h, char *why, size_t why_len);
int pr_reserve(struct host *h, char *why, size_t why_len); /* after the claim */
void pr_leave(struct host *h);				   /* take our key off the device */
int pr_fence(struct host *h, const struct host_info *dead, unsigned failures);
int pr_fenced_still(struct host *h, const struct host_info *dead);
bool pr_intact(struct host *h); /* false: our key or the reservation is gone */
/*
 * Beat thread, after a read that showed our own live image: registered and reserved again. 0, else
 * -EAGAIN or -EIO (lost).
 */
int pr_restore(struct host *h);

/* recover.c */
void recover_main(void *host);
void recover_begin(struct host *h, unsigned slot); /* mtx held; wakes the thread */
/* After a suspension: 0 when all images of our recoveries were renewed. */
int recover_renew(struct host *h);
bool recover_busy(struct host *h, unsigned slot); /* under way, and nothing failed lately */

#endif
