/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private to the ats files: one attempt, and the book-keeping round it. */
#ifndef CLUSTER_ATS_IMPL_H
#define CLUSTER_ATS_IMPL_H

#include "cluster/ats.h"

struct ats_try {
	struct ats *a;
	struct ats_sector *s;
	const void *test; /* the caller's, or own_test */
	void *set;
	void *now;	/* what the last read found; made when first needed */
	void *own_test; /* an older image of ours that had landed after all */
	uint64_t entered_ns, deadline_ns;
	unsigned commands;	     /* sent so far */
	unsigned unexplained;	     /* miscompares with the test image standing there */
	unsigned damaged;	     /* reads in a row that failed the checks and did not change */
	unsigned pauses[DEV_CAUSES]; /* how often it was sent again for that reason */
	enum dev_cause cause;	     /* of the last answer; NONE: it was carried out */
	enum dev_cause blame; /* why it did not simply succeed: what left it unknown, first */
	enum health_op op;
	bool pending;	/* a command for @set had no answer: it may land yet */
	bool late;	/* own_test is in use */
	bool now_valid; /* @now was read and tells what stands there */
	bool now_read;	/* @now was read by the batch, with now_result */
	int now_result;
	enum ats_outcome give_up; /* what to say when time is up */
	int error;
};

/* Seal @t->set and make ready for the first command. */
void ats_try_begin(struct ats_try *t, uint64_t entered_ns);
/* From the answer to the first command to an explained outcome; sends again where that is right. */
enum ats_outcome ats_try_settle(struct ats_try *t, int result);
/* Copy out found, count, log, free buffers. Returns @o. */
enum ats_outcome ats_try_end(struct ats_try *t, enum ats_outcome o, void *found, int *error);
/*
 * One command was answered as @io says: count it and how long it took. @ready_ns: since when it
 * could have been sent.
 */
void ats_count_command(struct ats_try *t, const struct dev_caw_io *io, uint64_t ready_ns,
		       uint64_t sent_ns, uint64_t done_ns);
void ats_count_outcome(struct ats_try *t, enum ats_outcome o);
bool ats_is_doubt(enum dev_cause c); /* the command's fate is unknown */
/* A miscompare turned out to be false: the sector holds what was expected. */
void ats_count_false(struct ats_try *t);

/* ats_retry.c. How long to wait before sending again for @t->cause; each cause has its own rule. */
uint64_t ats_pause_ns(struct ats_try *t);

/* ats_say.c. One sentence; @untold: outcomes like it that were not told. */
void ats_say(struct ats_try *t, enum ats_outcome o, uint64_t untold);
uint64_t ats_deadline_ns(const struct ats *a);

#endif
