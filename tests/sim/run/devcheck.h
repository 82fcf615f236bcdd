/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See devcheck.c. */
#ifndef SIM_DEVCHECK_H
#define SIM_DEVCHECK_H

struct sim_run;
void devcheck_start(struct sim_run *r); /* the volume is formatted and nobody is up */
void devcheck_stop(struct sim_run *r);
/* A slot that is taken, but by nobody who lives; -1: there is none. */
int devcheck_unrecovered(const struct sim_run *r);

#endif
