/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of "lunfs image" share. image_copy.c decides which blocks are metadata and copies
 * them; image_clean.c takes out of each what is the user's; image_scramble.c gives the names of the
 * copy new ones.
 */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include "cli/cli.h"
#include "inspect/inspect.h"

struct image_list { /* of addresses */
	uint64_t *v;
	size_t n, room;
};

struct image {
	struct insp from, to;
	struct geo geo;
	struct clock *clk;
	bool scramble, progress;
	uint64_t groups_done;
	uint64_t seed; /* of new names */
	/* What was found, for the summary. */
	uint64_t copied_blks, cells_used, cells_unused, inodes, nodes, damaged, unreadable_blks;
	uint64_t names, names_misplaced, transactions;
	unsigned live_hosts;
	uint64_t last_guard; /* whose mode was asked for last */
	uint32_t last_mode;
	struct image_list dirs;	  /* used cells with an inode of a directory */
	struct image_list leaves; /* cells with a node of a tree, or a directory not in dirs */
};

/* 0, -EIO of the output, -ENOMEM. What cannot be read stays zero and is counted. */
int image_copy(struct image *im);
void image_add(struct image_list *l, uint64_t addr);
void image_say(const struct image *im, const char *what, uint64_t done, uint64_t total);

/*
 * Take the user's bytes out of a payload: contents of files, values of attributes; with scramble
 * targets of links too (names are changed later). A right checksum stays right, a wrong one wrong.
 * @used: its chunk says so.
 */
void image_clean(struct image *im, uint64_t cell, bool used, uint8_t *payload);
/* The same for the records that name hosts, and for superblocks (with scramble). */
void image_clean_slot(struct image *im, unsigned slot, uint8_t *rec);
void image_clean_super(struct image *im, uint8_t *sb);

/* New names for all directories of the copy. */
int image_scramble(struct image *im);

#endif
