/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lin.h"
void lin_check(struct sim_run *r)
{
	(void)r;
}
