/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Discard: does it stay within its range, and what is read afterwards? */
#include "check/check_impl.h"

#define BLOCKS 3u /* the middle one goes */

struct bits {
	struct check *c;
	uint64_t off_bytes;
	uint8_t *is, *seen;
};

static int fill(struct bits *b)
{
	struct check *c = b->c;
	struct image img = {.run = c->run, .setter = 3};

	for (uint64_t at = 0; at < BLOCKS * CELL_BYTES; at += c->sector) {
		img.seq++;
		image_make(b->is + at, c->sector, b->off_bytes + at, &img);
	}
	return io_write(c, 0, b->off_bytes, BLOCKS * CELL_BYTES, b->is);
}

static bool all_zero(const uint8_t *p, size_t len)
{
	while (len && !*p) {
		p++;
		len--;
	}
	return !len;
}

static void judge(struct bits *b, struct check_result *r)
{
	const uint8_t *middle = b->seen + CELL_BYTES;
	const char *what = "something else";

	if (memcmp(b->seen, b->is, CELL_BYTES) ||
	    memcmp(b->seen + (size_t)2 * CELL_BYTES, b->is + (size_t)2 * CELL_BYTES, CELL_BYTES)) {
		result_say(r, CHECK_BAD, "A discard of one block destroyed what stood beside it.");
		result_advise(
		    r, "Do not run lunfs trim or fstrim on it; look for a firmware that is sound.");
		return;
	}
	if (all_zero(middle, CELL_BYTES))
		what = "zeroes";
	else if (!memcmp(middle, b->is + CELL_BYTES, CELL_BYTES))
		what = "what stood there before";
	result_value(r, "reads_zeroes", all_zero(middle, CELL_BYTES));
	result_say(r, CHECK_OK,
		   "Discards work and stay within their range; afterwards a block of 4096 bytes "
		   "reads as %s (lunfs relies on neither).",
		   what);
}

static void try_discard(struct check *c, struct check_result *r)
{
	struct bits b = {.c = c, .off_bytes = own_off(c, OWN_TRIO)};
	const char *what = "Writing";
	int rc;

	b.is = dev_buf_alloc(BLOCKS * CELL_BYTES);
	b.seen = dev_buf_alloc(BLOCKS * CELL_BYTES);
	rc = fill(&b);
	if (!rc) {
		what = "Discarding";
		rc = dev_discard(c->s[0].dev, b.off_bytes + CELL_BYTES, CELL_BYTES);
	}
	if (!rc) {
		what = "Reading what was discarded";
		rc = io_read(c, 1 % c->sessions, b.off_bytes, BLOCKS * CELL_BYTES, b.seen);
	}
	if (!rc) {
		judge(&b, r);
	} else {
		result_say(r, CHECK_NOTE, "%s fails: %s.", what, io_error(rc));
		result_advise(r, "Freed space stays occupied on a thin "
				 "LUN.");
	}
	free(b.is);
	free(b.seen);
}

void test_discard(struct check *c)
{
	struct check_result r;

	result_init(&r, "discard");
	check_progress(c, "discard", 97);
	if (!c->s[0].dev->id.has_discard)
		result_say(&r, CHECK_NOTE,
			   "The device takes no discards: space that is freed is not given back to "
			   "it.");
	else if (!c->cfg.destructive)
		result_say(&r, CHECK_SKIPPED,
			   "The device takes discards; they are tried with --destructive only.");
	else if (!result_excused(c, &r))
		try_discard(c, &r);
	result_add(c, &r);
}
