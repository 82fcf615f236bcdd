/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The claim on a whole volume that checking and repairing it takes: nobody has it mounted, nobody
 * can mount it while the claim lasts, dead hosts have been fenced and recovered (DESIGN 10).
 *
 * The claim is a slot without a journal, in which this process beats, named by the maintenance
 * sector. Both sides store first and look second: a mount claims its slot, then reads the
 * maintenance sector; this stores there, then watches all slots for the leases they advertise.
 */
#ifndef VOL_MAINT_H
#define VOL_MAINT_H

#include "cluster/host.h"

struct maint; /* opaque */

struct maint_config {
	struct host_config host; /* name, timings, fencing; `spare` is set in here */
	/* One sentence on what is being waited for; may be NULL. */
	void (*say)(void *ctx, const char *sentence);
	void *ctx;
	uint8_t passed_over[16]; /* the id of a main superblock that is not believed; or zero */
};

/*
 * Take the claim. Takes as long as the leases of hosts that may be dead. @dev stays the caller's.
 * -EBUSY: a host has the volume mounted, or another repair runs. -EROFS, -EIO, ... as host_claim().
 * @why: one sentence. A damaged maintenance sector or host table does not stop it: they are watched
 * for a lease all the same, then the sector is set anew with LUNFS_MAINT_MUST_FSCK.
 */
int maint_begin(struct dev *dev, struct clock *clk, const struct geo *geo,
		const struct maint_config *cfg, struct maint **out, char *why, size_t why_len);
/* The maintenance sector as last read or set by us. */
struct maint_info maint_get(const struct maint *m);
/* Set all but the holder, by ATS; durable. -EIO: the claim or the device is lost: write no more. */
int maint_set(struct maint *m, const struct maint_info *mi);
/* Write while the claim holds; waits while our lease is in doubt. -EIO: lost. */
int maint_write(struct maint *m, struct dev_io *io, size_t n);
int maint_flush(struct maint *m);
/* The maintenance sector had to be made anew for the claim. */
bool maint_was_damaged(const struct maint *m);
/* The journal of @slot could not be replayed; the slot is not FREE. */
bool maint_left_over(const struct maint *m, unsigned slot);
unsigned maint_slot(const struct maint *m); /* the slot in which it beats */
/* Random, of this claim alone. */
uint64_t maint_nonce(const struct maint *m);
/* Give the claim up; what maint_set() said stays. */
int maint_end(struct maint *m);

#endif
