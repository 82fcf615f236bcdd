/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See devcheck.c. */
#ifndef SIM_DEVCHECK_H
#define SIM_DEVCHECK_H

struct sim_run;
void devcheck_start(struct sim_run *r); /* the volume is formatted and nobody is up */
void devcheck_stop(struct sim_run *r);

#endif
