/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent reservations as a host and the tools use them (DESIGN section 5): always type 7, Write
 * Exclusive - All Registrants. A host's key is the nonce of its incarnation, so whoever reads the
 * host table knows whom a key belongs to.
 *
 * For tools that write to a LUN on which nobody else may be alive, or only where nobody minds.
 */
#ifndef CLUSTER_PR_H
#define CLUSTER_PR_H

#include <lunfs/dev.h>

struct pr_temporary {
	struct dev *dev;
	struct clock *clk;
	uint64_t key; /* 0: not registered, and no need to be */
};

/*
 * Let a tool write to @d although it may be reserved: register a random key for as long as the tool
 * works. 0 too where the device has no reservations, and where this path is registered already (by
 * a host of this machine). -EBUSY: it is reserved in another way, by somebody else; -EOPNOTSUPP:
 * reserved, and this path cannot register. @why holds a sentence then.
 */
int pr_temporary_begin(struct pr_temporary *t, struct dev *d, struct clock *clk, char *why,
		       size_t why_len);
/*
 * The same for mkfs, which has proven that nobody is alive: left-over keys go, that of this path
 * too, and the commands of their owners are aborted.
 */
int pr_temporary_take(struct pr_temporary *t, struct dev *d, struct clock *clk, char *why,
		      size_t why_len);
/* Unregister; the last registrant takes the reservation along. May be called after a failure. */
void pr_temporary_end(struct pr_temporary *t);

#endif
