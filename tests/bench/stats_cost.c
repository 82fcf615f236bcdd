/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the statistics cost: CPU time of counting one request to the device, its two readings of the
 * clock included, by one, two and four threads at once. tests/README.md says what it was.
 */
#include "cluster/health.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define REQUESTS 2000000l
#define THREADS_MAX 4

static struct clock *clk;
static struct health *health;

static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *counted(void *arg)
{
	for (long i = 0; i < REQUESTS; i++) {
		uint64_t sent = clock_now_ns(clk);
		uint64_t spread_ns = 10000 + ((uint64_t)i & 1023) * 100;

		health_count_io(health, HEALTH_READ, clock_now_ns(clk) - sent + spread_ns);
	}
	return arg;
}

static void *timed_only(void *arg)
{
	volatile uint64_t sum = 0;

	for (long i = 0; i < REQUESTS; i++) {
		uint64_t sent = clock_now_ns(clk);

		sum += clock_now_ns(clk) - sent;
	}
	return arg;
}

static double cost_ns(void *(*fn)(void *), int threads)
{
	pthread_t t[THREADS_MAX];
	double from = cpu_ns();

	for (int i = 0; i < threads; i++)
		if (pthread_create(&t[i], NULL, fn, NULL) != 0)
			abort();
	for (int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	return (cpu_ns() - from) / (double)REQUESTS / threads;
}

int main(void)
{
	struct env env = {0};

	if (clock_real_new(&clk) != 0)
		return 1;
	env.clk = clk;
	health = calloc(1, sizeof(*health));
	if (!health)
		return 1;
	health_init(health, &env);
	for (int n = 1; n <= THREADS_MAX; n *= 2)
		printf("%d threads: %.0f ns a request, of these %.0f ns for reading the clock\n", n,
		       cost_ns(counted, n), cost_ns(timed_only, n));
	free(health);
	return 0;
}
