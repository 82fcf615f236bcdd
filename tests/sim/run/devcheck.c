/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devcheck.h"
void devcheck_start(struct sim_run *r)
{
	(void)r;
}
void devcheck_stop(struct sim_run *r)
{
	(void)r;
}
