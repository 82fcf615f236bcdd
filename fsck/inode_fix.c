/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inodes that do not decode. */
#include "fsck/fsck.h"

int fix_inode(struct fsck *f, uint64_t addr, uint8_t *payload)
{
	(void)payload;
	if (problem(&f->problems, PROBLEM_INODE, addr, "inode %llu", (unsigned long long)addr))
		drop_cell(f, addr);
	return 1;
}
