/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fibers: stacks of their own with a guard page, switched by swapcontext, announced to sanitizers.
 */
#ifndef TESTS_SIMFIBER_H
#define TESTS_SIMFIBER_H

#include <stddef.h>

struct fiber;

/* The calling thread's own stack as a fiber, to come back to. */
struct fiber *fiber_main_new(void);
struct fiber *fiber_new(void (*fn)(void *), void *arg); /* @fn never returns: fiber_switch_final */
void fiber_free(struct fiber *f);			/* not running */
void fiber_switch(struct fiber *from, struct fiber *to);
void fiber_switch_final(struct fiber *from, struct fiber *to) __attribute__((noreturn));

#endif
