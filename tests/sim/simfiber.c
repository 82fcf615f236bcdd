/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fibers on ucontext. AddressSanitizer and ThreadSanitizer are told of every switch.
 *
 * swapcontext() costs two system calls for the signal mask, which no fiber has of its own, and with
 * AddressSanitizer two more to forget what was known of the stack. So only the first entry goes
 * that way; later switches are jumps between stacks: _longjmp(), as glibc's fortified longjmp would
 * refuse, and with AddressSanitizer, which has a longjmp of its own, the compiler's.
 * ThreadSanitizer does without them.
 */
#undef _FORTIFY_SOURCE
#include "simfiber.h"

#include "base/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define FIBER_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define FIBER_TSAN 1
#endif

#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#define STACK_BYTES (2ul << 20)
#else
#define STACK_BYTES (512ul << 10)
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined(FIBER_ASAN) && (defined(__x86_64__) || !defined(__clang__))
#define FIBER_JUMPS 1
#define PLAIN __attribute__((no_sanitize_address, noinline))
typedef void *place[5];
#define SET_PLACE __builtin_setjmp
#define GO_TO_PLACE __builtin_longjmp
#elif !defined(FIBER_ASAN) && !defined(FIBER_TSAN)
#define FIBER_JUMPS 1
#define PLAIN
typedef jmp_buf place;
#define SET_PLACE _setjmp
#define GO_TO_PLACE _longjmp
#else
#define PLAIN
#endif

#define GUARD_BYTES 4096ul

struct fiber {
	ucontext_t ctx;
#ifdef FIBER_JUMPS
	place at;     /* where it goes on, once it has run */
	bool entered; /* it has run: @at holds */
#endif
	void (*fn)(void *);
	void *arg;
	char *map;	    /* NULL: the thread's own stack */
	const void *bottom; /* for ASan; learned at the first switch away where map is NULL */
	size_t size_bytes;
	void *fake; /* ASan's fake stack while switched away */
	struct fiber *came_from;
	void *tsan;
};

static void arrived(struct fiber *self)
{
#ifdef FIBER_ASAN
	const void *bottom;
	size_t size;

	__sanitizer_finish_switch_fiber(self->fake, &bottom, &size);
	self->fake = NULL;
	if (self->came_from && !self->came_from->map) {
		self->came_from->bottom = bottom;
		self->came_from->size_bytes = size;
	}
#else
	(void)self;
#endif
}

static void fiber_main(unsigned hi, unsigned lo)
{
	struct fiber *f = (struct fiber *)((uintptr_t)hi << 32 | lo);

	arrived(f);
	f->fn(f->arg);
	abort();
}

struct fiber *fiber_main_new(void)
{
	struct fiber *f = calloc(1, sizeof(*f));

	lunfs_assert(f != NULL);
#ifdef FIBER_TSAN
	f->tsan = __tsan_get_current_fiber();
#endif
	return f;
}

struct fiber *fiber_new(void (*fn)(void *), void *arg)
{
	struct fiber *f = calloc(1, sizeof(*f));
	uintptr_t p = (uintptr_t)f;

	lunfs_assert(f != NULL);
	f->map = mmap(NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	lunfs_assert(f->map != MAP_FAILED && mprotect(f->map, GUARD_BYTES, PROT_NONE) == 0);
	f->bottom = f->map + GUARD_BYTES;
	f->size_bytes = STACK_BYTES;
	f->fn = fn;
	f->arg = arg;
	lunfs_assert(getcontext(&f->ctx) == 0);
	f->ctx.uc_stack.ss_sp = f->map + GUARD_BYTES;
	f->ctx.uc_stack.ss_size = STACK_BYTES;
	makecontext(&f->ctx, (void (*)(void))fiber_main, 2, (unsigned)(p >> 32), (unsigned)p);
#ifdef FIBER_TSAN
	f->tsan = __tsan_create_fiber(0);
#endif
	return f;
}

void fiber_free(struct fiber *f)
{
#ifdef FIBER_TSAN
	if (f->map)
		__tsan_destroy_fiber(f->tsan);
#endif
#ifdef FIBER_ASAN
	/* Whatever is mapped there next has no frames. */
	if (f->map)
		__asan_unpoison_memory_region(f->bottom, f->size_bytes);
#endif
	if (f->map)
		munmap(f->map, GUARD_BYTES + STACK_BYTES);
	free(f);
}

#ifdef FIBER_JUMPS
static PLAIN void leap(struct fiber *to)
{
	GO_TO_PLACE(to->at, 1);
}
#endif

static PLAIN void jump(struct fiber *from, struct fiber *to)
{
#ifdef FIBER_JUMPS
	from->entered = true;
	if (SET_PLACE(from->at) != 0)
		return;
	if (to->entered)
		leap(to);
#endif
	lunfs_assert(swapcontext(&from->ctx, &to->ctx) == 0);
}

static void go(struct fiber *from, struct fiber *to, void **fake)
{
	int saved = errno;

	to->came_from = from;
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(fake, to->bottom, to->size_bytes);
#else
	(void)fake;
#endif
#ifdef FIBER_TSAN
	__tsan_switch_to_fiber(to->tsan, 0);
#endif
	jump(from, to);
	arrived(from);
	errno = saved;
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
	go(from, to, &from->fake);
}

void fiber_switch_final(struct fiber *from, struct fiber *to)
{
	go(from, to, NULL);
	abort();
}
