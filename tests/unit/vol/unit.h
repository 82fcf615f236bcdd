/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every test of vol/ includes. */
#ifndef VOL_UNIT_H
#define VOL_UNIT_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "simcluster.h"

/* Of host 0: extents of the first @blks blocks of a file, none of which is a hole. */
static inline unsigned pieces_of(struct simcluster *t, struct nodeid id, uint64_t blks)
{
	struct op o;
	struct inode *i;
	unsigned n = 0;
	struct ext e;

	op_init(&o, t->v[0], &sc_root);
	op_plan(&o, id.ino, LOCK_EX, LOCAL_SHARED);
	assert_int_equal(op_try(&o), 0);
	assert_int_equal(op_get(&o, id, LOCK_EX, LOCAL_SHARED, &i), 0);
	for (uint64_t at = 0; at < blks; at += e.len, n++) {
		assert_int_equal(ext_map(&t->v[0]->ne, i, at, &e), 0);
		assert_true(e.blk != 0);
	}
	op_leave(&o);
	return n;
}

#endif
