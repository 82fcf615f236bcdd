/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing of whole volumes. An input is text: lines of the language in which recipes damage a
 * volume (tests/images/README.md, "Edits"), and a line "base NAME" that chooses the volume. They
 * are carried out on a volume in memory that was made once; then the target runs on it, in virtual
 * time. So an input that finds something is a recipe already.
 *
 * Fuzzing of decoders and of files beside a volume: an input is bytes, the first of which chooses
 * the volume; the target says what the others mean.
 *
 * bed.c makes volumes and applies inputs, grammar.c makes and changes inputs, fuzz_*.c are the
 * targets: each defines fuzz_target.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "inspect/inspect.h"
#include "simcluster.h"

#define FUZZ_INPUT_BYTES 4096u
#define FUZZ_LINE_BYTES 512u
#define FUZZ_EDITS 16u /* of one input; more are left out */

enum base {
	BASE_TREE, /* something of everything, all hosts gone */
	BASE_DEAD, /* a host died with transactions in its journal, orphans and open files */
	BASE_REDO, /* a repair died after its log was written */
	BASE_4K,   /* as BASE_TREE, sectors of 4096 bytes */
	BASES,
};

struct bed { /* one volume, undamaged whenever a run begins */
	struct simdev_medium *medium;
	struct dev *first; /* keeps the medium */
	struct dev *look;  /* straight on to the medium: no time, no faults, nothing counted */
	struct geo geo;
	struct simdev_snapshot *made;
	struct insp in; /* of look */
	enum base kind;
	const uint8_t *input; /* of a target whose inputs are bytes, without the first one */
	size_t input_bytes;
};

struct fuzz_target {
	unsigned bases;		     /* a bit each; the lowest if an input does not say */
	const char *const *prefixes; /* of names of structures to change rather than others */
	bool raw;		     /* inputs are bytes, not edits */
	bool pure;		     /* raw, and neither writes to the volume nor needs time */
	/* Runs as a task in virtual time on a damaged volume; what must not be is an abort(). */
	void (*run)(struct bed *b, struct clock *clk);
};
extern const struct fuzz_target fuzz_target;

/* The volume, made when it is first asked for. */
struct bed *bed_get(enum base kind);
/* The base that an input names. */
enum base bed_choose(const char *text);
/* Undamage, carry the edits of the input out, run the target. */
void bed_run(const char *text);
void bed_run_raw(const uint8_t *data, size_t size);
/* Writes from now on: none at all, or only to [64 KiB, @end_bytes). */
void bed_allow_writes(struct bed *b, bool any, uint64_t end_bytes);

/* An invariant that a damaged volume broke. */
#define FUZZ_CHECK(cond, ...)                                                                      \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fuzz_fail(__FILE__, __LINE__, __VA_ARGS__);                                \
	} while (0)
void fuzz_fail(const char *file, int line, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

/* repair.c: fsck.lunfs as its main program runs it. */
struct fuzz_fsck {
	int rc;			 /* it could not be done, or not be finished */
	bool no_super, no_claim; /* why */
	uint64_t total, left, hopeless;
	unsigned no_place; /* "fsck-no-place" was said so often */
	const char *first; /* name of the first code found */
};
void fuzz_check(struct bed *b, struct clock *clk, struct fuzz_fsck *out);  /* -n */
void fuzz_repair(struct bed *b, struct clock *clk, struct fuzz_fsck *out); /* -y */
/* -y --undo @undo */
void fuzz_repair_undo(struct bed *b, struct clock *clk, const char *undo, struct fuzz_fsck *out);
/* -y ends, leaves only what it says cannot be repaired; and -n then finds nothing. */
void fuzz_mend(struct bed *b, struct clock *clk);

#endif
