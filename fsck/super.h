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
