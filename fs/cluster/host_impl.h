/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to the host files (slot, host, notify, claim, beat, watch, owner, fence, recover).
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

#define HOST_FLAG_READ_ONLY 0x1u
#define HOST_LABEL_BYTES 160
#define HOST_DRIFT_SHIFT 6	  /* clocks may differ by 1/64 */
#define HOST_DRIFT_NS 20000000ull /* and by this */
#define HOST_IDLE_LEASES 3u	  /* a daemon that does not work stops beating after these */

#define HOST_GEN_LIMIT (1ull << 56) /* what an owner id has room for */

#define MS_NS 1000000ull

struct slot_seen {    /* one entry of the cached host table */
	bool valid;   /* rec and hi hold what passed the checks */
	bool damaged; /* the latest read did not pass them */
	bool moved;   /* it was seen to beat since this table was begun */
	struct host_info hi;
	struct lunfs_slot_rec rec;
	uint64_t since_ns; /* end of the first read that showed exactly rec */
	uint64_t read_ns;  /* end of the latest read that did */
	uint64_t over;	   /* owner id that ended and was not told yet, 0 = none */
};

enum job_stage {
	JOB_NONE,
	JOB_TAKE, /* set RECOVERING */
	JOB_FENCE,
	JOB_REPLAY,
	JOB_FREE, /* replayed and flushed: set FREE */
};

struct job {		      /* the recovery of one slot by this host */
	enum job_stage stage; /* changed by the recovery thread only, under mtx */
	uint64_t next_ns;     /* not before */
	unsigned failures;    /* in a row */
	struct host_info dead;
	uint64_t fence_too; /* owner id of a recoverer that died over it, 0 = none */
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
	char lost_why[200];
	bool temporary; /* in a spare slot, only to recover: no upcall but replay */
	bool stop, stop_recovery;
	bool beat_now, look_now;
	uint64_t idle_since_ns; /* alive() has said no since, 0 = it says yes */
	bool idle_told;
	uint64_t suspensions, suspensions_told;
	bool lost_told;
	struct ats_sector sec;
	uint8_t *cur, *set, *found;
	struct task *beat_task, *watch_task, *rec_task, *note_task;

	/* the others */
	struct slot_seen *seen;
	struct job *jobs;
	uint8_t *table_buf; /* watch thread; the claiming caller before it runs */
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
int host_free_slot(struct host *h);    /* LIVE -> FREE of our own slot; threads are stopped */
bool host_check_lease(struct host *h); /* mtx held: turn an expired ACTIVE into SUSPENDED */

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
void watch_get(struct host *h, unsigned slot, struct slot_seen *out);
/* May this host take the slot over now? @s is a copy; no lock held. */
bool watch_dead(struct host *h, const struct slot_seen *s);
uint64_t watch_allowance_ns(const struct host_info *hi); /* lease and drift */

/* fence.c */
void proc_identify(struct proc_id *out);
/* 0: no write of @dead can reach the device any more, as far as this fence mode can promise. */
int fence_host(struct host *h, const struct host_info *dead);

/* recover.c */
void recover_main(void *host);
void recover_begin(struct host *h, unsigned slot); /* mtx held; wakes the thread */
/* After a suspension: 0 when all images of our recoveries were renewed. */
int recover_renew(struct host *h);
bool recover_busy(struct host *h, unsigned slot); /* under way, and nothing failed lately */

#endif
