/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What hosts that do nothing cost the device, and how soon the death of one is noticed. */
#include "member.h"

#include "cluster/host_impl.h"
#include "cluster/lock_impl.h"

#define BIG_BEAT 3000u
#define BIG_DEADLINE 8000u
#define BIG_LEASE 16000u
#define HOSTS_MAX 64u

static void big_world(struct world *w)
{
	struct geo *g = &w->geo;

	g->slots = g->journals = HOSTS_MAX;
	g->beat_ms = BIG_BEAT;
	g->deadline_ms = BIG_DEADLINE;
	g->lease_ms = BIG_LEASE;
	for (unsigned i = 0; i < HOSTS_MAX; i++)
		g->journal_blk[i] = 2048 + i;
	for (unsigned i = 0; i < geo_all_slots(g); i++) {
		slot_format(g, w->buf, i, 42);
		simdev_poke(w->medium, geo_slot_off(i), g->sector_bytes, w->buf);
	}
}

static uint64_t ios(struct world *w)
{
	struct simdev_counts c;

	simdev_counts(w->medium, &c);
	return c.reads + c.writes + c.caws;
}

/* Hosts mounted at moments that have nothing to do with each other. */
static struct member *mount_many(struct world *w, unsigned n)
{
	struct member *m = calloc(n, sizeof(*m));

	big_world(w);
	for (unsigned i = 0; i < n; i++) {
		char name[16];

		snprintf(name, sizeof(name), "h%u", i);
		mount_host(&m[i], w, name);
		rest(w, 1 + (i * 7919u + 1234u) % (n > 8 ? BIG_BEAT / 4 : BIG_BEAT));
	}
	return m;
}

/* All but @gone. */
static void drop_many(struct member *m, unsigned n, unsigned gone)
{
	for (unsigned i = 0; i < n; i++) {
		if (i != gone)
			umount_host(&m[i]);
	}
	free(m);
}

static void idle_of(struct world *w, unsigned n)
{
	struct member *m = mount_many(w, n);
	double board = 1e9 / (double)BOARD_IDLE_NS, rate;
	uint64_t before;

	rest(w, n > 8 ? 180000 : 60000);
	before = ios(w);
	rest(w, 120000);
	rate = (double)(ios(w) - before) / 120 / n;
	print_message(
	    "%u hosts: %.2f device I/Os a second and host for beats and watching, %.2f for "
	    "the board\n",
	    n, rate, board);
	assert_true(rate + board <= 2.0);
	drop_many(m, n, n);
}

TEST(two_idle_hosts_need_two_device_ios_a_second_each_at_most)
{
	idle_of(w, 2);
}

TEST(eight_idle_hosts_need_two_device_ios_a_second_each_at_most)
{
	idle_of(w, 8);
}

static void idle_of_64(struct world *w)
{
	idle_of(w, HOSTS_MAX);
}

static void sixty_four_idle_hosts_need_two_device_ios_a_second_each_at_most(void **state)
{
	(void)state;
	world_run(idle_of_64, 1);
}

/* From the end of the dead host's lease, by its own clock, to the replay. */
static void death_of(struct world *w, unsigned n, uint64_t settle_ms)
{
	uint64_t allowed = ((uint64_t)BIG_LEASE * MS >> HOST_DRIFT_SHIFT) + HOST_DRIFT_NS, end,
		 late = 0;
	struct member *m = mount_many(w, n);
	unsigned victim = n / 2;

	rest(w, settle_ms);
	end = atomic_load(&m[victim].h->lease_end_ns);
	die(&m[victim]);
	rest(w, 25000);
	for (unsigned i = 0; i < n; i++) {
		if (i != victim && m[i].replay_ns)
			late = m[i].replay_ns - end;
	}
	print_message("%u hosts, after %llu ms: replay %llu ms after the lease\n", n,
		      (unsigned long long)settle_ms, (unsigned long long)(late / MS));
	assert_true(late != 0);
	assert_true(late <= allowed + BIG_BEAT * MS / WATCH_STEPS_A_BEAT + 50 * MS);
	unmake(&m[victim]);
	drop_many(m, n, victim);
}

TEST(a_death_among_two_is_noticed_an_eighth_of_a_beat_after_the_lease)
{
	death_of(w, 2, 9100);
}

TEST(a_death_after_a_long_rest_is_noticed_an_eighth_of_a_beat_after_the_lease)
{
	for (uint64_t ms = 61700; ms < 64700; ms += 700)
		death_of(w, 2, ms);
}

TEST(a_death_among_eight_is_noticed_an_eighth_of_a_beat_after_the_lease)
{
	death_of(w, 8, 102900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(two_idle_hosts_need_two_device_ios_a_second_each_at_most),
	    UNIT(eight_idle_hosts_need_two_device_ios_a_second_each_at_most),
	    UNIT(sixty_four_idle_hosts_need_two_device_ios_a_second_each_at_most),
	    UNIT(a_death_among_two_is_noticed_an_eighth_of_a_beat_after_the_lease),
	    UNIT(a_death_after_a_long_rest_is_noticed_an_eighth_of_a_beat_after_the_lease),
	    UNIT(a_death_among_eight_is_noticed_an_eighth_of_a_beat_after_the_lease),
	};

	log_open("test_idle", LOG_LVL_ERR, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
