/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The medium's memory: sparse pages of 4096 bytes, each with what is on the medium and, for sectors
 * written since the last flush, what is in the write cache. Copies share their pages until one of
 * them writes, so clones and snapshots are cheap. No locking, no time: see simdev.c.
 */
#ifndef TESTS_SIMPAGES_H
#define TESTS_SIMPAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIMPAGE_BYTES 4096u

struct simpage_data {
	atomic_uint refs; /* pages of different copies that share it; written only when 1 */
	uint8_t dirty;	  /* bit a unit of 512 bytes: newer in cache[] */
	uint8_t stable[SIMPAGE_BYTES];
	uint8_t cache[SIMPAGE_BYTES];
};

struct simpage {
	struct simpage *next; /* in its bucket */
	struct simpage *next_dirty;
	bool listed; /* stands in the list of pages that may be dirty */
	uint64_t index;
	struct simpage_data *data;
};

struct simpages {
	struct simpage **bucket;
	unsigned bits; /* 2^bits buckets, 0: none yet */
	size_t n_pages;
	struct simpage *last; /* found last */
	struct simpage *maybe_dirty;
	uint32_t unit_bytes; /* sector: what is written, lost and kept as a whole */
};

/* Was anything ever written to the page of this byte? */
bool simpages_present(struct simpages *sp, uint64_t off_bytes);
void simpages_read(struct simpages *sp, uint64_t off_bytes, size_t len_bytes, uint8_t *buf);
/* @durable: past the cache. @rng: now and then an older cached version is destaged first. */
void simpages_write(struct simpages *sp, uint64_t off_bytes, size_t len_bytes, const uint8_t *buf,
		    bool durable, uint64_t *rng);
void simpages_flush(struct simpages *sp);
void simpages_flush_range(struct simpages *sp, uint64_t off_bytes, size_t len_bytes); /* a page */
uint64_t simpages_lose(struct simpages *sp, uint64_t *rng);	      /* power cut; sectors lost */
/* These sectors are as they are on the medium, if @off_bytes was not flushed. */
uint64_t simpages_lose_one(struct simpages *sp, uint64_t off_bytes);
uint64_t simpages_dirty(struct simpages *sp);			      /* sectors */
void simpages_copy(const struct simpages *from, struct simpages *to); /* @to is empty */
/* The same, whatever @to holds: cheap where it is a copy in which little was changed. */
void simpages_return(const struct simpages *from, struct simpages *to);
void simpages_clear(struct simpages *sp);

#endif
