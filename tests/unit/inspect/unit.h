/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every test of inspect/ includes: a volume on the simulated LUN that a host has used. */
#ifndef INSPECT_UNIT_H
#define INSPECT_UNIT_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "inspect/inspect.h"
#include "simcluster.h"

/* /f (many extents), /small, /d with many names, /l (a long link), /x (attributes), on host 0. */
void use_volume(struct simcluster *t);
static inline struct insp insp_of(struct simcluster *t)
{
	return (struct insp){.dev = t->first, .geo = &t->geo};
}

#endif
