/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is somebody using the volume that stood here? Every slot of the host table that is not free is
 * watched for the lease that it advertises; one that beats means no, forced or not.
 *
 * Slots are judged by their own checks (magic, place, CRC), not by a superblock, which may be
 * damaged or already wiped while a host still has the volume mounted.
 */
#include "mkfs.h"

#include "base/log.h"
#include "cluster/host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS (LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS)
#define TABLE_BYTES (SLOTS * LUNFS_SLOT_STRIDE)
#define MAX_WATCH_MS 3600000u
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

struct live_table {
	uint8_t *first; /* the host table as first read */
	uint8_t *now;
	bool used[SLOTS]; /* not free in first */
	struct host_info host[SLOTS];
	bool quiet;
};

static int table_read(struct dev *d, uint8_t *buf, char *why, size_t why_len)
{
	int err = dev_read(d, LUNFS_HOST_TABLE_OFF, TABLE_BYTES, buf);

	if (err)
		snprintf(why, why_len, "Reading the host table failed: %s.", strerror(-err));
	return err;
}

/* Whose volume it is does not matter: the slot's own volume id is taken for granted. */
static bool slot_used(const struct dev *d, const uint8_t *table, unsigned slot,
		      struct host_info *hi)
{
	const struct lunfs_slot_rec *rec = (const void *)(table + slot * LUNFS_SLOT_STRIDE);
	struct geo any = {.slots = LUNFS_MAX_SLOTS, .sector_bytes = d->id.sector_bytes};

	memcpy(any.vol_id, rec->hdr.vol_id, sizeof(any.vol_id));
	return slot_decode(&any, rec, slot, hi) == 0 && hi->state != LUNFS_SLOT_FREE;
}

/* The one slot that changed between two readings, SLOTS if none did. */
static unsigned changed_slot(const uint8_t *a, const uint8_t *b)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (memcmp(a + i * LUNFS_SLOT_STRIDE, b + i * LUNFS_SLOT_STRIDE, 512) != 0)
			return i;
	return SLOTS;
}

static int refuse_change(struct dev *d, struct live_table *t, char *why, size_t why_len)
{
	unsigned slot = changed_slot(t->first, t->now);
	struct host_info hi;

	if (slot == SLOTS)
		return 0;
	if (slot_used(d, t->now, slot, &hi) || slot_used(d, t->first, slot, &hi))
		snprintf(why, why_len,
			 "It holds a lunfs volume that is in use: host %s is live in slot %u; "
			 "unmount it there, or let fsck.lunfs end there, first.",
			 hi.hostname, slot);
	else
		snprintf(
		    why, why_len,
		    "It is in use: slot %u of its host table is being changed; unmount it first.",
		    slot);
	return -EBUSY;
}

/* How long the longest lease among the used slots is, with a beat on top; 0 = none is used. */
static uint32_t watch_ms(const struct dev *d, const struct live_table *t)
{
	uint32_t longest = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		const struct host_info *hi = &t->host[i];
		uint32_t ms = hi->lease_ms + hi->beat_ms;

		if (!t->used[i] || (d->id.kind == DEV_KIND_FILE && slot_owner_proven_gone(hi)))
			continue;
		if (ms > MAX_WATCH_MS)
			ms = MAX_WATCH_MS;
		if (ms > longest)
			longest = ms;
	}
	return longest;
}

static void say_watch(const struct live_table *t, uint32_t ms)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (t->used[i])
			printf("Slot %u was used by host %s: watching for up to %u.%03u s whether "
			       "it is alive.\n",
			       i, t->host[i].hostname, ms / 1000, ms % 1000);
	fflush(stdout);
}

static void say_left(const struct live_table *t, uint64_t left_ns)
{
	if (t->quiet || !isatty(STDOUT_FILENO))
		return;
	if (left_ns)
		printf("\rWatching: %llu s left ", (unsigned long long)(left_ns / NS_PER_S + 1));
	else
		printf("\rWatching: done       \n");
	fflush(stdout);
}

static int watch(struct dev *d, struct clock *clk, struct live_table *t, uint32_t ms, char *why,
		 size_t why_len)
{
	uint64_t end = clock_now_ns(clk) + ms * NS_PER_MS;
	uint64_t step = ms / 32 * NS_PER_MS + NS_PER_MS;

	for (;;) {
		uint64_t now = clock_now_ns(clk);
		bool last = now >= end;
		int err = table_read(d, t->now, why, why_len);

		if (!err)
			err = refuse_change(d, t, why, why_len);
		say_left(t, err || last ? 0 : end - now);
		if (err || last)
			return err;
		clock_sleep_ns(clk, step);
	}
}

int live_watch(struct dev *d, struct clock *clk, bool quiet, struct live_table **out, char *why,
	       size_t why_len)
{
	struct live_table *t = calloc(1, sizeof(*t));
	uint32_t ms;
	int err;

	lunfs_assert(t != NULL);
	t->quiet = quiet;
	t->first = dev_buf_alloc(TABLE_BYTES);
	t->now = dev_buf_alloc(TABLE_BYTES);
	err = table_read(d, t->first, why, why_len);
	for (unsigned i = 0; !err && i < SLOTS; i++)
		t->used[i] = slot_used(d, t->first, i, &t->host[i]);
	ms = err ? 0 : watch_ms(d, t);
	if (ms && !quiet)
		say_watch(t, ms);
	if (ms)
		err = watch(d, clk, t, ms, why, why_len);
	if (err) {
		live_free(t);
		return err;
	}
	*out = t;
	return 0;
}

int live_recheck(struct dev *d, struct live_table *t, char *why, size_t why_len)
{
	int err = table_read(d, t->now, why, why_len);

	return err ? err : refuse_change(d, t, why, why_len);
}

void live_free(struct live_table *t)
{
	if (!t)
		return;
	free(t->first);
	free(t->now);
	free(t);
}
