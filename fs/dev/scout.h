/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A harmless command ahead of a COMPARE AND WRITE, so that this is not the one that meets a unit
 * attention or a reservation conflict. For the device both are answers like any other, except for
 * Linux's own target (LIO, seen in Linux 6.1): a COMPARE AND WRITE that it turns away so releases a
 * lock that it does not hold, and from then on the command is atomic no more, for any host; with a
 * compare image of zeroes the target crashes. So:
 *
 * - After a pause longer than the others need to fence this host, the reservation is asked for
 *   first. Beats keep it from happening; it is for a host that was stopped and goes on.
 * - On LIO, TEST UNIT READY goes ahead of each, and takes what unit attention there is.
 */
#ifndef DEV_SCOUT_H
#define DEV_SCOUT_H

#include "dev/scsi_pr.h"

#include <stdatomic.h>

struct scout {
	const struct dev *dev;
	bool lio;
	atomic_bool no_reservations; /* the device does not know the question */
	atomic_bool told;
	atomic_ullong key;	 /* registered by this host, or 0 */
	atomic_ullong passed_ns; /* when that was sent which was last carried out */
};

void scout_init(struct scout *s, const struct dev *d); /* once d->id is complete */
void scout_registered(struct scout *s, uint64_t key);
/*
 * May a COMPARE AND WRITE be sent? 0: until *@until_ns. -EBADE: this host is fenced. -EAGAIN: the
 * device does not answer; nothing was sent. @l leads along the path that the command will take.
 */
int scout_ahead(struct scout *s, const struct spr_link *l, uint64_t *until_ns);
/* A COMPARE AND WRITE sent at @sent_ns was answered. */
void scout_answered(struct scout *s, uint64_t sent_ns, int result, enum dev_cause cause);

#endif
