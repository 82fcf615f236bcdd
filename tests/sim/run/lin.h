/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See lin.c. */
#ifndef SIM_LIN_H
#define SIM_LIN_H

struct sim_run;
/* The history can be explained, or the run fails with the first operation that cannot. */
void lin_check(struct sim_run *r);

#endif
