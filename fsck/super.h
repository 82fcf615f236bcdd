/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding a superblock where the usual search finds none: at a given block, anywhere on the device,
 * or made anew from what else says how the volume is laid out.
 */
#ifndef FSCK_SUPER_H
#define FSCK_SUPER_H

#include "base/geo.h"
#include <lunfs/dev.h>
#include <stdio.h>

struct json_object;

/* The copy at block @blk. 0, -EUCLEAN, -EIO ...; @why: one sentence. */
int super_at(struct dev *dev, uint64_t blk, struct geo *out, char *why, size_t why_len);

struct super_search {
	unsigned found;	 /* superblocks, of whatever volume */
	unsigned fit;	 /* those that can be used: of the volume @vol_id, if one was asked for */
	unsigned others; /* fitting ones of another volume than @best: which one is meant? */
	struct geo best; /* with fit: the newest */
	struct json_object *list; /* all that were found; the caller's to put */
};
/*
 * Search the whole device, print what is found to @to. @vol_id may be NULL. What an older volume
 * left behind is listed, too, and not fit.
 */
void super_search(struct dev *dev, const uint8_t *vol_id, FILE *to, struct super_search *out);

/* ---- super_choose.c -------------------------------------------------------------------------- */

struct super_choice {
	struct geo geo;
	uint8_t vol_id[16];	 /* that most of the sectors at fixed places name */
	unsigned naming, fixed;	 /* so many of so many name it */
	uint8_t passed_over[16]; /* the id of the superblock that is not believed, or zero */
};
/*
 * The superblock to go by. -ESTALE: what vol_read_super() finds, .geo, has another id than most
 * sectors at fixed places, and no copy that was found has theirs. Others as vol_read_super(), @why
 * for them alone.
 */
int super_choose(struct dev *dev, struct super_choice *out, char *why, size_t why_len);
/* Is @g's id another than most sectors at fixed places name? Where none is left it is not. */
bool super_contradicted(struct dev *dev, const struct geo *g, struct super_choice *out);
void super_say_contradicted(const struct super_choice *c, const char *device, char *why,
			    size_t why_len);
/* One that stands where a superblock of its volume stands; an image in a file, say, does not. */
bool super_at_home(const struct geo *g, uint64_t off);

/* ---- super_rebuild.c ------------------------------------------------------------------------- */

struct super_rebuilt {
	struct geo geo;
	unsigned votes, votes_other; /* sectors that name the volume's id; that name another */
	unsigned journals_seen, slots_seen;
	bool guessed_sector, guessed_groups, guessed_journals, guessed_timing;
};
/* The id that most of the anchors, locks and slots at their fixed places name. 0 or -ENOENT. */
int super_vol_id(struct dev *dev, uint8_t vol_id[16]);
/*
 * Make a superblock anew. It passes sb_decode(), and what it says agrees with everything on the
 * device that could be read; label, UUID and hash key are lost, the last two are drawn anew.
 * @any_sector: the device can be opened for either sector size. @why: one sentence.
 */
int super_rebuild(struct dev *dev, struct clock *clk, bool any_sector, struct super_rebuilt *out,
		  char *why, size_t why_len);
void super_say_rebuilt(FILE *to, const struct super_rebuilt *r);

#endif
