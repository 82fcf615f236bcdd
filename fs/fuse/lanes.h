/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lanes (dev_lane_new()) of those who read requests, and who has them next. One that is left with
 * something on its way is never forgotten: where no reader comes for it, a thread kept for that
 * looks after it until all is back.
 */
#ifndef FUSE_LANES_H
#define FUSE_LANES_H

#include <lunfs/dev.h>
#include <stdbool.h>

struct lanes;

struct lane {
	struct lane *next;
	struct dev_lane *dev;
};

struct lanes *lanes_new(struct dev *d); /* NULL: no thread or descriptor can be had */
void lanes_free(struct lanes *l);	/* none is in use or left */
/*
 * For who reads next. *@left: somebody had to leave it, and it may have been passed on unsent more
 * than once: to be turned. @beside: this one can read beside a lane; else one that was left is
 * stranded. NULL: none.
 */
struct lane *lanes_take(struct lanes *l, bool beside, bool *left);
void lanes_leave(struct lanes *l, struct lane *n); /* to who reads next */
void lanes_strand(struct lanes *l);		   /* nobody will, for one that was left */
void lanes_give(struct lanes *l, struct lane *n);  /* nothing is on its way */
void lanes_end(struct lanes *l, struct lane *n);   /* the same when all has come back */
void lanes_close(struct lanes *l);		   /* nobody reads any more */

#endif
