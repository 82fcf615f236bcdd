/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mounted volume: puts the layers together, mounts, unmounts, and wires their upcalls.
 */
#ifndef VOL_VOLUME_H
#define VOL_VOLUME_H

#include "node/node.h"

struct volume; /* opaque outside vol/ */

struct vol_cb { /* upcalls to the front end; may all be NULL */
	void *ctx;
	/* A revoke begins: of this inode, all that has op_ctx.drain or is in flight is served. */
	void (*prepare)(void *ctx, uint64_t ino);
	/*
	 * Kernel caches of this inode (data, attributes) must go before its lock is given up. Runs
	 * on a revoker; returns when they are gone. Reads and writes of this inode that are in
	 * flight go on being served meanwhile (LOCK_DRAIN). May be called once more then, while
	 * only write-back (op_ctx.late) is served. 0, or -EAGAIN: some are left, the lock stays.
	 */
	int (*invalidate)(void *ctx, uint64_t ino);
	/*
	 * The same when the lock goes down to shared: nobody will change the inode. NULL: as above.
	 */
	int (*downgrade)(void *ctx, uint64_t ino);
	void (*waits)(void *ctx); /* the calling thread is about to wait for the device */
	void (*lost)(void *ctx, const char *why); /* the volume answers EIO from now on */
};

struct vol_options {
	struct host_config host;
	bool read_only;
	struct vol_cb cb;
};

/* Read and check the superblock, or a copy if it is damaged: @used_copy says so; NULL: a log line
 * does. */
int vol_read_super(struct dev *dev, struct geo *out, bool *used_copy, char *why, size_t why_len);

/*
 * Mount: superblock, host claim (recovering dead hosts on the way), journal, locks, allocator,
 * orphans. On failure nothing is left behind and @why holds one sentence. Takes over @dev only on
 * 0; @clk stays the caller's. Read-only mounts claim a slot too (they hold shared locks), and write
 * nothing else.
 */
int vol_mount(struct dev *dev, struct clock *clk, const struct vol_options *opt,
	      struct volume **out, char *why, size_t why_len);
/* All operations have ended. Checkpoints, frees the slot, closes the device. */
int vol_unmount(struct volume *v);
/* For tests: stop as if the power had gone (nothing is written any more), free memory. */
void vol_crash(struct volume *v);

const struct geo *vol_geo(const struct volume *v);
struct host *vol_host(struct volume *v);
bool vol_read_only(const struct volume *v);
/* So long what is read under a lock stays right while the lock is held; 0 once the volume is lost.
 */
uint64_t vol_lease_left_ns(struct volume *v);
/* Name of the virtual attribute of the root under which the front end gives them; never listed. */
#define VOL_STATS_XATTR "lunfs.stats"
/* Statistics as one JSON object (caller frees): the keys are documented in lunfs(8). */
char *vol_stats_json(struct volume *v);

#endif
