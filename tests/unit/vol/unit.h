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

#endif
