/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fsck, mkfs and mounts that race for one device. */
#include "scen.h"

#include "mkfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t new_id[16] = "a new volume";

struct making { /* mkfs.lunfs on a machine of its own */
	struct simcluster *t;
	struct dev *dev;
	uint64_t wait_ns;
	unsigned commands;
	char why[MKFS_WHY_BYTES];
	int rc;
	struct task *task;
};

static int make(struct making *m)
{
	const struct mkfs_options opts = {.label = "",
					  .hosts = m->t->hosts,
					  .beat_ms = 150,
					  .deadline_ms = 400,
					  .lease_ms = 800,
					  .quiet = true};
	struct mkfs_found none = {.patches = 0};
	struct live_table *old;
	struct geo g;
	int rc = layout_make(&opts, m->dev->id.size_bytes, m->dev->id.sector_bytes,
			     m->dev->id.sector_bytes, &g, m->why, sizeof(m->why));

	if (rc)
		return rc;
	memcpy(g.vol_id, new_id, 16);
	memset(g.uuid, 0x56, 16);
	memset(g.hash_key, 0x45, 16);
	rc = live_watch(m->dev, m->t->clk, true, &old, m->why, sizeof(m->why));
	if (rc)
		return rc;
	rc = volume_write(m->dev, m->t->clk, &g, &none, old, m->why, sizeof(m->why));
	live_free(old);
	return rc;
}

/* It is slow, above all before its first writes. */
static void slow_mkfs(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		      struct simdev_fault *out)
{
	struct making *m = ctx;

	(void)out;
	if (d == m->dev && cmd->op != SIMDEV_READ && m->commands++ < 6)
		clock_sleep_ns(m->t->clk, simclock_random(m->t->clk) % (50 * MS));
}

static void make_main(void *arg)
{
	struct making *m = arg;

	clock_sleep_ns(m->t->clk, m->wait_ns);
	m->rc = make(m);
}

static void make_start(struct simcluster *t, struct making *m)
{
	m->t = t;
	m->dev = simdev_attach(t->medium);
	simclock_set_group(t->clk, 20);
	SC_OK(t, t->clk->ops->task_start(t->clk, "mkfs", make_main, m, &m->task));
	simclock_set_group(t->clk, 0);
}

static void make_end(struct making *m)
{
	sc_join(m->t, m->task);
	dev_close(m->dev);
}

struct mounting {
	struct simcluster *t;
	unsigned host;
	uint64_t wait_ns;
	char why[512];
	int rc;
	struct task *task;
};

static void mount_main(void *arg)
{
	struct mounting *m = arg;

	clock_sleep_ns(m->t->clk, m->wait_ns);
	m->rc = sc_mount(m->t, m->host, false, m->why, sizeof(m->why));
}

/* fsck.lunfs -n again and again; what it finds on a volume in use is not held against anybody. */
struct checking {
	struct simcluster *t;
	bool stop;
	unsigned done;
	struct task *task;
};

static void check_main(void *arg)
{
	struct checking *c = arg;

	for (; !c->stop; c->done++) {
		scen_try_fsck(c->t);
		clock_sleep_ns(c->t->clk, 20 * MS);
	}
}

static void which_volume(struct simcluster *t, uint8_t vol_id[16])
{
	char why[512] = "";
	struct geo g;

	SC_CHECK(t, vol_read_super(t->first, &g, NULL, why, sizeof(why)) == 0, "%s", why);
	memcpy(vol_id, g.vol_id, 16);
}

/* Who mounted works on, on the volume that is there. */
static void host_works(struct simcluster *t, unsigned host, unsigned round)
{
	uint8_t vol_id[16];
	struct nodeid f;
	char name[16];

	which_volume(t, vol_id);
	EXPECT(t, memcmp(vol_geo(t->v[host])->vol_id, vol_id, 16) == 0);
	snprintf(name, sizeof(name), "h%u-%u", host, round);
	f = sc_mkfile(t, host, sc_root_id(t, host), name);
	scen_fill(t, host, f, 'h', 5000);
	SC_OK(t, vol_fsync(t->v[host], &sc_root, f, false));
}

static unsigned made, refused, mounted;

SCENARIO(mkfs_and_mounts_that_race_leave_one_volume_on_which_all_that_are_mounted_work, 60)
{
	struct making mk = {.wait_ns = sc_random(t, 100 * MS)};
	struct checking ck = {.t = t};
	struct mounting mo[2];
	uint8_t vol_id[16];

	simclock_set_group(t->clk, 21);
	SC_OK(t, t->clk->ops->task_start(t->clk, "fsck", check_main, &ck, &ck.task));
	simclock_set_group(t->clk, 0);
	for (unsigned n = 0; n < 2; n++) {
		mo[n] = (struct mounting){.t = t, .host = n, .wait_ns = sc_random(t, 300 * MS)};
		SC_OK(t, t->clk->ops->task_start(t->clk, "mount", mount_main, &mo[n], &mo[n].task));
	}
	make_start(t, &mk);
	simdev_set_hook(t->medium, slow_mkfs, &mk);
	make_end(&mk);
	simdev_set_hook(t->medium, NULL, NULL);
	for (unsigned n = 0; n < 2; n++)
		sc_join(t, mo[n].task);
	which_volume(t, vol_id);
	SC_CHECK(t, mk.rc == 0 || mk.rc == -EBUSY, "mkfs: %s", mk.why);
	EXPECT(t, (mk.rc == 0) == (memcmp(vol_id, new_id, 16) == 0));
	made += mk.rc == 0;
	refused += mk.rc != 0;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned n = 0; n < 2; n++) {
			if (mo[n].rc == 0)
				host_works(t, n, round);
			else
				EXPECT(t, mo[n].why[0]);
		}
		rest(t, LEASE);
	}
	mounted += (mo[0].rc == 0) + (mo[1].rc == 0);
	ck.stop = true;
	sc_join(t, ck.task);
	EXPECT(t, ck.done > 10);
	if (mo[0].rc)
		sc_up(t, 0); /* now it can be mounted */
	host_works(t, 0, 3);
}

static void either_mkfs_or_a_mount_may_win(void **state)
{
	(void)state;
	print_message("mkfs: %u done, %u refused; %u mounts\n", made, refused, mounted);
	assert_true((made >= 5 && refused >= 5 && mounted >= 10) || getenv("LUNFS_SEED") ||
		    getenv("LUNFS_SEEDS"));
}

/* ---- a volume in use ------------------------------------------------------------------------- */

struct silent {
	struct simcluster *t;
	unsigned nexus;
};

static void writes_nothing(void *ctx, const struct simdev_landing *l)
{
	struct silent *s = ctx;

	EXPECT(s->t, l->nexus != s->nexus);
}

SCENARIO(mkfs_writes_nothing_to_a_volume_in_use, 4)
{
	struct making mk = {.wait_ns = sc_random(t, SC_S)};
	struct silent s = {.t = t};
	struct worker w[2];

	scen_up(t, 2);
	for (unsigned n = 0; n < 2; n++)
		worker_start(t, n, &w[n], 0);
	make_start(t, &mk);
	s.nexus = simdev_nexus(mk.dev);
	simdev_set_monitor(t->medium, writes_nothing, &s);
	make_end(&mk);
	EXPECT_EQ(t, mk.rc, -EBUSY);
	EXPECT(t, strstr(mk.why, "host0") || strstr(mk.why, "host1"));
	for (unsigned n = 0; n < 2; n++) {
		worker_end(&w[n]);
		EXPECT_EQ(t, w[n].rc, 0);
	}
	simdev_set_monitor(t->medium, NULL, NULL);
}

SCENARIO(fsck_beside_hosts_at_work_writes_nothing_and_ends, 4)
{
	struct checking ck = {.t = t};
	struct worker w[2];

	scen_up(t, 2);
	for (unsigned n = 0; n < 2; n++)
		worker_start(t, n, &w[n], 100);
	simclock_set_group(t->clk, 21);
	SC_OK(t, t->clk->ops->task_start(t->clk, "fsck", check_main, &ck, &ck.task));
	simclock_set_group(t->clk, 0);
	for (unsigned n = 0; n < 2; n++) {
		UNTIL(t, w[n].ended);
		worker_end(&w[n]);
		EXPECT_EQ(t, w[n].rc, 0);
		w[n].synced = w[n].done;
		worker_check(t, 1 - n, &w[n]);
	}
	ck.stop = true;
	sc_join(t, ck.task);
	EXPECT(t, ck.done > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(
		mkfs_and_mounts_that_race_leave_one_volume_on_which_all_that_are_mounted_work),
	    cmocka_unit_test(either_mkfs_or_a_mount_may_win),
	    cmocka_unit_test(mkfs_writes_nothing_to_a_volume_in_use),
	    cmocka_unit_test(fsck_beside_hosts_at_work_writes_nothing_and_ends),
	};

	if (getenv("LUNFS_SCENARIO")) /* this one only */
		cmocka_set_test_filter(getenv("LUNFS_SCENARIO"));
	return cmocka_run_group_tests_name("scenario-tools", tests, NULL, NULL);
}
