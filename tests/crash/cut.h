/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can stand on the medium when the power goes after some event of a recording.
 *
 * Durable is: what a compare-and-write wrote that said GOOD; what a write left that was answered
 * before a flush was sent that was answered since. All else that was sent may be there or not,
 * sector by sector, in any mixture: a *choice* says in which.
 */
#ifndef CRASH_CUT_H
#define CRASH_CUT_H

#include "rec.h"
#include "simdev.h"

struct cut_unit { /* a sector that may be there or not */
	size_t cmd;
	uint64_t off_bytes;
	const uint8_t *data; /* NULL: zeroes */
};

struct cutter {
	const struct rec *rec;
	struct simdev_medium *m; /* what is durable */
	uint64_t hash;		 /* of how that differs from the base */
	size_t at;		 /* events so far */
	uint32_t sector_bytes;
	struct cut_unit *unit; /* in the order sent */
	size_t n_units, cap_units;
	bool *keep; /* of the choice made last */
};

#define CHOICES_MAX 24u

/* @m: how the medium stood when the recording began; is copied. */
void cutter_init(struct cutter *c, struct simdev_medium *m, uint32_t sector_bytes,
		 const struct rec *rec);
void cutter_free(struct cutter *c);
/* One event further. True: there is something new that a power cut could leave or must not. */
bool cutter_step(struct cutter *c);
/* All that are tried here, at most CHOICES_MAX. */
unsigned cutter_choices(const struct cutter *c, unsigned out[CHOICES_MAX]);
/* Of the image that choice @v gives: equal hashes, equal images (of the same base). */
uint64_t cutter_hash(struct cutter *c, unsigned v);
/* The image; one reference, the caller's. After cutter_hash() of the same choice. */
struct simdev_medium *cutter_image(struct cutter *c);
/* For a person: what was on its way and what became of it. */
void cutter_say(struct cutter *c, unsigned v);

#endif
