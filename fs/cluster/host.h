/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hosts: slots, beat, lease, watching the others, fencing and the order of a recovery (DESIGN
 * section 5). Slot transitions are all in here; the replay itself is a call-back to txn/.
 *
 * Fencing is volume-wide: where one host is registered and the device reserved (type 7), a host
 * that is not registered cannot write at all. So a claim that would mix the two is refused, or
 * (FENCE_AUTO) adapts itself to those that live.
 *
 * Threads of its own (by the clock): the beat; the watch, which reads the host table once a beat
 * interval; the recovery of dead hosts; and one that makes the upcalls.
 */
#ifndef CLUSTER_HOST_H
#define CLUSTER_HOST_H

#include "cluster/ats.h"

enum host_state {
	HOST_NONE,	/* no slot */
	HOST_ACTIVE,	/* lease valid */
	HOST_SUSPENDED, /* lease ran out; may resume */
	HOST_LOST,	/* the slot was taken from us, or an admin gave up: EIO for ever */
};

enum owner_state {
	OWNER_ALIVE,	  /* its slot is LIVE in that generation */
	OWNER_RECOVERING, /* its locks still hold */
	OWNER_OVER,	  /* FREE or a later generation: its locks are stale */
};

enum fence_choice {
	FENCE_AUTO,	/* reservations where the device has them, else the timer or pidfd */
	FENCE_PR,	/* reservations, or no claim */
	FENCE_TIMER,	/* no reservations */
	FENCE_WATCHDOG, /* a watchdog of this machine; no reservations */
};

struct watchdog;

struct host_config {
	char name[LUNFS_HOSTNAME_BYTES];	 /* "" = gethostname() */
	uint32_t beat_ms, deadline_ms, lease_ms; /* 0 = the volume's defaults */
	bool read_only;				 /* shown in the slot */
	bool spare;				 /* claim a journal-less slot (recover, check) */
	uint32_t claim_wait_ms; /* how long to wait for a dead host of our name / a free slot */
	enum fence_choice fence;
	char watchdog_path[64]; /* "" = /dev/watchdog */
	struct watchdog *wd;	/* FENCE_WATCHDOG: this one instead, the caller's; may be NULL */
	/* Zero: those of this machine. A simulator has several machines, and boots them anew. */
	uint8_t machine_id[16], boot_id[16];
};

/*
 * Upcalls; all run on host threads with no host lock held: replay on the recovery thread, alive on
 * the beat thread, the others on a thread of their own, in order. None may release, abandon or free
 * the host. Replay may be called from within host_claim() (host_owner() is then that of a spare
 * slot).
 */
struct host_cb {
	void *ctx;
	/*
	 * Replay the journal of dead @slot; NULL: this host recovers nobody. @owner is its owner
	 * id, @nonce its incarnation nonce.
	 * Every block written and flushed when it returns 0. Restartable.
	 */
	int (*replay)(void *ctx, unsigned slot, uint64_t owner, uint64_t nonce);
	/*
	 * That incarnation is over: recovered by whatever host, or unmounted. Not called for what
	 * host_claim() recovered on the way before the claim stood (then: right after it).
	 */
	void (*recovered)(void *ctx, unsigned slot, uint64_t owner);
	void (*suspended)(void *ctx);
	void (*still_suspended)(void *ctx); /* again and again, a beat's time apart */
	void (*resumed)(void *ctx);
	void (*lost)(void *ctx, const char *why);
	/* Progress of revoke and commit threads: false stops the beat (DESIGN 5). May be NULL. */
	bool (*alive)(void *ctx);
};

struct host_info { /* one slot, decoded, for tools and for the others' timing */
	unsigned slot;
	enum lunfs_slot_state state;
	uint64_t generation, nonce, beat_seq, recoverer, claim_time_s;
	uint32_t beat_ms, deadline_ms, lease_ms, pid;
	enum lunfs_fence_mode fence;
	uint16_t flags;
	uint64_t pid_start, pid_ns;
	uint8_t machine_id[16], boot_id[16];
	char hostname[LUNFS_HOSTNAME_BYTES + 1];
};

/* Check (ats_check included) and decode a slot sector. 0 or -EUCLEAN, output untouched. */
int slot_decode(const struct geo *g, const void *sector, unsigned slot, struct host_info *out);
/* The image mkfs writes: FREE, generation 0. @sector is sector_bytes. */
void slot_format(const struct geo *g, void *sector, unsigned slot, uint64_t nonce);
/*
 * The maintenance sector. maint_decode: 0 or -EUCLEAN, output untouched. maint_encode: all but the
 * header. maint_format: the image mkfs writes.
 */
struct maint_info {
	uint64_t holder; /* owner id of who repairs the volume, 0 = nobody */
	uint32_t flags;	 /* LUNFS_MAINT_* */
	uint32_t redo_blks, redo_crc;
	uint64_t redo_blk; /* with LUNFS_MAINT_REDO, else all 0 */
};
int maint_decode(const struct geo *g, const void *sector, struct maint_info *out);
void maint_encode(const struct maint_info *mi, struct lunfs_maint_rec *rec);
void maint_format(const struct geo *g, void *sector, uint64_t nonce);
/* Same machine, boot and pid namespace, and the process is gone: proof of death (file backend
 * only). */
bool slot_owner_proven_gone(const struct host_info *hi);

struct host; /* opaque */

int host_new(const struct env *env, struct ats *ats, const struct host_config *cfg,
	     const struct host_cb *cb, struct host **out);
void host_free(struct host *h);

/*
 * Claim a slot: FREE -> LIVE by ATS with the maintenance hand-shake (claim, re-read the maintenance
 * sector, beat once), recovering dead hosts first where that is needed (our own old slot; no free
 * slot). Before the claim this host registers with the device (where it fences by reservations),
 * then COMPARE AND WRITE is tried (dev_caw_probe), after it the device is reserved. Also calls
 * ats_set_owner() and starts the threads. On failure @why holds one sentence.
 * -EBUSY: all slots are taken by live hosts. -EEXIST: a live host has this name. -ESHUTDOWN: fsck
 * or mkfs works on the volume. -EUCLEAN: the volume must be checked first. -EROFS: the device is
 * read-only. -EBADE, -EOPNOTSUPP: the fencing asked for is not to be had.
 * What was read from the volume before this call must be read again (the superblock too).
 */
int host_claim(struct host *h, char *why, size_t why_len);
/*
 * LIVE -> FREE. Everything is checkpointed and drained. Stops the threads, takes this host's
 * registration off the device and disarms the watchdog.
 */
int host_release(struct host *h);
/*
 * host_abandon() follows, when all others that use this host have ended: from now on none of them
 * waits for the end of an outage. Where the lease is over, or when it ends, the host is LOST.
 */
void host_give_up(struct host *h);
/*
 * The same while all others go on: what they use this host for has failed. When it is LOST the
 * upcall says @why.
 */
void host_end(struct host *h, const char *why);
/* Stop threads without touching the slot (crash, lost). */
void host_abandon(struct host *h);

unsigned host_slot(const struct host *h);
uint64_t host_owner(const struct host *h); /* owner id of this incarnation */
uint64_t host_nonce(const struct host *h);
enum host_state host_state(struct host *h);
enum lunfs_fence_mode host_fence(const struct host *h);

/*
 * Is the lease good at this moment? Cheap (no I/O, no sleep). To be asked before an answer that
 * relies on a lock leaves the host, and before an fsync is acknowledged.
 */
bool host_lease_ok(struct host *h);
uint64_t host_lease_left_ns(struct host *h);
/*
 * Before any write to the shared area other than ATS: wait while suspended, and until the write can
 * end inside the lease (no write starts after lease - deadline; where the device itself refuses the
 * writes of a dead host, until the lease ends). 0, or -EIO when the host is LOST.
 */
int host_write_gate(struct host *h);
bool host_write_may(struct host *h); /* need it not wait? */
/*
 * The same round a write: from 0 on until host_write_end() the write counts as on its way, and a
 * registration with the device that got lost meanwhile is not made anew. Else a thread that stood
 * still between gate and device would write when its host was fenced long ago.
 */
int host_write_begin(struct host *h);
bool host_write_try(struct host *h); /* the same, if it need not wait */
void host_write_end(struct host *h);
/* So many have come back so far. Where none did since a flush began, all of them are durable. */
uint64_t host_written(struct host *h);
/* Wait until ACTIVE: 0, or -EIO when LOST. */
int host_wait_active(struct host *h);

/*
 * State of an incarnation. Uses the cached table when that proves OVER (or, with @fresh false, when
 * it was read less than a beat ago), else reads the slot. -EIO if it cannot be read.
 */
int host_owner_state(struct host *h, uint64_t owner, bool fresh, enum owner_state *out);
/* Had this host seen by @ns that @owner was over? Without I/O; false also where it is not known. */
bool host_owner_over_by(struct host *h, uint64_t owner, uint64_t ns);
/* Owner id now LIVE in @slot, 0 if none (cached table, at most one beat old). */
uint64_t host_live_owner(struct host *h, unsigned slot);
/*
 * The entry of @slot in a lock record carries @tag: which owner id, if it can still be one that
 * holds? 0: over. Reads the slot when the cached generation does not prove it.
 */
uint64_t host_tag_owner(struct host *h, unsigned slot, uint16_t tag);
/* Copy of the cached table. @n = geo_all_slots. */
void host_table(struct host *h, struct host_info *out, size_t n);
/* @slot is not FREE, and its record stood still for the lease that it advertises, as we saw. */
bool host_looks_dead(struct host *h, unsigned slot);
/*
 * @owner died, and its journal, or a lock that it names, is damaged, as this host found several
 * times in a row: what it had locked is not to be had before fsck.lunfs.
 */
bool host_recovery_hopeless(struct host *h, uint64_t owner);
/* This host has fenced @slot and tries to replay its journal, again and again in vain. */
bool host_recovery_fails(struct host *h, unsigned slot);
/* It is not tried any more. Waits for a step that is under way, as long as that takes. */
void host_recovery_bar(struct host *h, unsigned slot);
/* Look at the table now instead of at the next beat (a lock wait suspects a death). */
void host_kick(struct host *h);

#endif
