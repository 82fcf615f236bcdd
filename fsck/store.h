/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What fsck.lunfs reads and writes the volume through. Repairs change copies in memory, so that
 * later passes see the volume as it will be; nothing reaches the device before store_commit(),
 * which writes all changes as one: a log of them goes to the journal regions first (all dead by
 * then), the maintenance sector names the log, then they go in place. Whoever is killed in between
 * is finished by the next run (redo_finish()), to the same bytes. Where one log does not hold them
 * all they are written in several such steps, none of which tears a tree apart.
 *
 * Every block that is overwritten is saved to the undo file before, if one was asked for.
 */
#ifndef FSCK_STORE_H
#define FSCK_STORE_H

#include "base/geo.h"
#include "vol/maint.h"
#include <lunfs/dev.h>
#include <stdbool.h>

struct store_blk; /* one changed block */
struct undo;	  /* undo.c: an undo file that is being written */

struct store {
	struct dev *dev;
	const struct geo *geo;
	struct store_blk *changed; /* by block address */
	uint64_t n_changed;
	struct undo *undo;   /* NULL: none was asked for */
	struct maint *maint; /* the claim on the volume; NULL: check only, nothing can be changed */
	uint64_t written;    /* blocks written to the device */
	bool unlogged;	     /* a repair of this run was too large for the log */
	int gone;	     /* not 0: a read failed, and not for its medium */
	bool *halt;	     /* may be NULL; set with it */
};

/*
 * Read, changes included. Any alignment to 512 bytes. 0, -EIO and what else dev_read() says; what
 * changes cover wholly needs no reading. After anything but -EIO, and where nothing else can be
 * read either, the device, or the path to it, is gone: what fails then says nothing of the volume.
 */
int store_read(struct store *s, uint64_t off_bytes, size_t len_bytes, void *buf);
/* The same without the changes. Whole sectors, @buf from dev_buf_alloc(). */
int store_read_device(struct store *s, uint64_t off_bytes, size_t len_bytes, void *buf);
/* Lay the changes of [off, off + len) over what was read of it otherwise. */
void store_patch(const struct store *s, uint64_t off_bytes, size_t len_bytes, void *buf);
/* Is anything of [off, off + len) changed? */
bool store_changed(const struct store *s, uint64_t off_bytes, size_t len_bytes);
/*
 * Change [off, off + len), multiples of 512 bytes, in memory. The rest of a block that is only
 * changed in part stays what the device holds at commit time. -EROFS without a claim.
 */
int store_write(struct store *s, uint64_t off_bytes, size_t len_bytes, const void *buf);
/* Forget the changes of that range: the device's content counts again. */
void store_forget(struct store *s, uint64_t off_bytes, size_t len_bytes);
/*
 * At once and not as part of the whole, for blocks that nothing refers to yet (copies of file
 * data). Saved to the undo file like all. Where that fails nothing at all can be written: gone.
 */
int store_write_now(struct store *s, uint64_t off_bytes, size_t len_bytes, const void *buf);
/*
 * Write all changes, durable on return. While it runs the volume carries the must-check mark. On
 * failure the mark stays, and with it a whole log or a volume untouched but for slots made free.
 * @tell (may be NULL) is told how far it is.
 */
int store_commit(struct store *s, void (*tell)(void *ctx, uint64_t done, uint64_t total),
		 void *ctx);
bool store_is_slot(const struct store *s, uint64_t blk); /* of the host table */
/*
 * Is @blk that of the slot in which this run beats? What an earlier run logged or saved of it must
 * not be written: it would take the claim from us.
 */
bool store_is_claim(const struct store *s, uint64_t blk);
void store_free(struct store *s);

/* ---- redo.c ---------------------------------------------------------------------------------- */

struct redo_item {
	uint64_t blk;
	uint8_t sectors; /* bit i: its 512 bytes at i * 512 are to be written */
	uint64_t owner;	 /* of a commit: those of one go into one log, if it has room */
	const uint8_t *data;
};
/* How many items one log can hold. 0: there is no journal region to use. */
size_t redo_capacity(const struct store *s);
/* Save to the undo file what stands where a log of @n items will. Not durable before undo_sync. */
int redo_save(struct store *s, size_t n);
/* Write a log of @n items and name it in @st (not yet in the maintenance sector). Durable. */
int redo_write(struct store *s, const struct redo_item *items, size_t n, struct maint_info *st);
/*
 * A log that an earlier run left: write what it holds in place, all but the slot that this run has
 * claimed. 1: done; 0: there is none. -EUCLEAN: the log that the maintenance sector names is not
 * whole, or the medium has lost some of it; nothing was written. Else the device failed.
 */
int redo_finish(struct store *s);
/* store.c: write items in place, durable on return. */
int redo_apply(struct store *s, const struct redo_item *items, size_t n);

/* ---- undo.c ---------------------------------------------------------------------------------- */

/* Make @path, under the claim of @s; refuses to overwrite (-EEXIST). @why: one sentence. */
int undo_open(struct store *s, const char *path, char *why, size_t why_len);
/* Save what stands at [off, off + len) unless it was saved before. Not durable before undo_sync. */
int undo_save(struct undo *u, uint64_t off_bytes, size_t len_bytes);
/* What a log that is being finished says of slots was set by the repair of @nonce. */
void undo_finishes(struct undo *u, uint64_t nonce);
int undo_sync(struct undo *u);
void undo_close(struct undo *u);
/*
 * Put all of @path back, checking it whole before the first write. Under the claim of @s, whose
 * slot stays as it is. -ESTALE: a host has mounted the volume since, unless @force; -EUCLEAN,
 * -ENOTUNIQ (of another volume) ...
 */
int undo_put_back(struct store *s, const char *path, bool force, char *why, size_t why_len);

#endif
