/* SPDX-License-Identifier: GPL-2.0-or-later */
/* More hosts than a random run has, on a device that takes time. */
#include "unit.h"

#include <stdio.h>

#define HOSTS 32u
#define AT_WORK_NS (3 * SC_S)

struct host {
	struct simcluster *t;
	unsigned n, done;
	uint64_t until_ns;
	struct nodeid dir;
};

static void mount_and_wait(void *arg)
{
	struct host *h = arg;

	sc_up(h->t, h->n);
}

static void create(void *arg)
{
	struct host *h = arg;
	char name[16];

	while (clock_now_ns(h->t->clk) < h->until_ns) {
		snprintf(name, sizeof(name), "%u-%u", h->n, h->done);
		sc_mkfile(h->t, h->n, h->dir, name);
		if (clock_now_ns(h->t->clk) < h->until_ns)
			h->done++;
	}
}

static void all(struct simcluster *t, struct host *h, void (*fn)(void *))
{
	struct task *task[HOSTS];

	for (unsigned n = 0; n < HOSTS; n++)
		task[n] = sc_task(t, n, fn, &h[n]);
	for (unsigned n = 0; n < HOSTS; n++)
		sc_join(t, task[n]);
}

/* Each needs a group of its own for its first file: two locks that all of them want. */
static void body(struct simcluster *t)
{
	struct host h[HOSTS];

	simclock_set_step(t->clk, 1);
	simdev_set_latency(t->medium, 300000, 300000);
	for (unsigned n = 0; n < HOSTS; n++)
		h[n] = (struct host){.t = t, .n = n};
	all(t, h, mount_and_wait);
	h[0].dir = sc_mkdir(t, 0, sc_root_id(t, 0), "shared");
	for (unsigned n = 0; n < HOSTS; n++) {
		h[n].dir = h[0].dir;
		h[n].until_ns = clock_now_ns(t->clk) + AT_WORK_NS;
	}
	all(t, h, create);
	for (unsigned n = 0; n < HOSTS; n++)
		SC_CHECK(t, h[n].done, "host %u got nowhere in that time", n);
}

static void many_hosts_that_create_in_one_directory_all_get_on(void **state)
{
	(void)state;
	sc_run(body, &(struct sc_shape){.seed = 1,
					.hosts = HOSTS,
					.size_bytes = 64ull << 30,
					.journal_bytes = 4ull << 20,
					.beat_ms = 3000,
					.deadline_ms = 8000,
					.lease_ms = 16000});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(many_hosts_that_create_in_one_directory_all_get_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
