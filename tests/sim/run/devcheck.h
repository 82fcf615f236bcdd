/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See devcheck.c. */
#ifndef SIM_DEVCHECK_H
#define SIM_DEVCHECK_H

#include <stdbool.h>
#include <stdint.h>

struct sim_run;
void devcheck_start(struct sim_run *r); /* the volume is formatted and nobody is up */
void devcheck_stop(struct sim_run *r);
/*
 * Would the deaths of these hosts (bit n: host n) leave no spare slot that is free or whose owner
 * lives? From there nobody can recover them: not in this version of lunfs.
 */
bool devcheck_last_spare(const struct sim_run *r, unsigned hosts);
/* Was host @n given a lock by another one, whose test and set a power cut would undo? */
bool devcheck_given_in_cache(const struct sim_run *r, unsigned n);
/* A slot that is taken, but by nobody who lives; -1: there is none. */
int devcheck_unrecovered(const struct sim_run *r);
/*
 * devlost.c: the device loses this write to a payload, or goes back to what it was.
 * devcheck_unseen(): something that it lost can have been noticed by nobody.
 */
struct inc;
void devcheck_lose(struct sim_run *r, struct inc *i, uint64_t off_bytes);
/* The medium was copied, and (later) is as in that copy again. */
void devcheck_snapshot(struct sim_run *r);
void devcheck_roll_back(struct sim_run *r);
/* The medium has just lost its power, and with it what was not durable. */
void devcheck_power(struct sim_run *r);
bool devcheck_unseen(const struct sim_run *r);

#endif
