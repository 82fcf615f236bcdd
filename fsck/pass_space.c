/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Space accounted a second time: what is referred to against the bitmaps, cells against owners. */
#include "base/bitmap.h"
#include "fsck/fsck.h"

static void report_run(struct fsck *f, uint64_t g, bool leak, uint32_t from, uint32_t to)
{
	uint64_t first = geo_group_blk(&f->geo, g) + from;

	problem(&f->problems, leak ? PROBLEM_LEAK : PROBLEM_NOT_MARKED, first,
		"blocks %llu to %llu (group %llu)", (unsigned long long)first,
		(unsigned long long)(first + (to - from) - 1), (unsigned long long)g);
}

static int difference(const struct fsck_group *fg, uint32_t b)
{
	return (int)bit_get(fg->on_disk, b) - (int)bit_get(fg->referred, b);
}

static void compare_group(struct fsck *f, uint64_t g)
{
	const struct fsck_group *fg = &f->group[g];

	for (uint32_t b = 0; b < fg->nblks;) {
		int diff = difference(fg, b);
		uint32_t from = b;

		while (b < fg->nblks && difference(fg, b) == diff)
			b++;
		if (diff)
			report_run(f, g, diff > 0, from, b);
	}
}

static void compare_cells(struct fsck *f, uint64_t g)
{
	const struct fsck_group *fg = &f->group[g];

	for (uint32_t b = 0; b < fg->nblks; b++)
		if (bit_get(fg->cell_used, b) && !bit_get(fg->cell_claimed, b))
			problem(&f->problems, PROBLEM_LOST_CELL, geo_group_blk(&f->geo, g) + b,
				"cell %llu", (unsigned long long)(geo_group_blk(&f->geo, g) + b));
}

int pass_space(struct fsck *f)
{
	for (uint64_t g = 0; g < f->watermark; g++) {
		if (!f->group[g].ok)
			continue;
		compare_group(f, g);
		compare_cells(f, g);
		progress(f, "space", g, f->watermark);
	}
	progress(f, "space", 1, 1);
	return 0;
}
