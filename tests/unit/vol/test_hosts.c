/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Several hosts at once. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

static void two_up(struct simcluster *t, struct nodeid *root)
{
	sc_up(t, 0);
	sc_up(t, 1);
	*root = sc_root_id(t, 0);
}

/* ---- seeing each other ----------------------------------------------------------------------- */

static void sees_body(struct simcluster *t)
{
	struct nodeid root, f, id;
	char buf[16];

	two_up(t, &root);
	f = sc_mkfile(t, 0, root, "f");
	assert_int_equal(sc_lookup(t, 1, root, "f", &id), 0);
	assert_true(id.ino == f.ino && id.generation == f.generation);
	for (unsigned k = 0; k < 10; k++) {
		unsigned w = k % 2;
		size_t n = (size_t)snprintf(buf, sizeof(buf), "round %u", k);

		sc_write(t, w, f, k * 3000, buf, n);
		memset(buf, 0, sizeof(buf));
		assert_int_equal(sc_read(t, !w, f, k * 3000, buf, sizeof(buf)), n);
		assert_int_equal(atoi(buf + 6), k);
		assert_int_equal(sc_stat(t, !w, f).st_size, k * 3000 + n);
	}
	assert_int_equal(vol_unlink(t->v[1], &sc_root, root, "f"), 0);
	assert_int_equal(sc_lookup(t, 0, root, "f", NULL), -ENOENT);
}

static void what_one_host_did_the_other_sees_at_once(void **s)
{
	(void)s;
	sc_run_seeds(sees_body, 5);
}

/* ---- append ---------------------------------------------------------------------------------- */

#define APPENDS 25u

struct appender {
	struct simcluster *t;
	unsigned host;
	struct nodeid id;
};

static void append_task(void *arg)
{
	struct appender *a = arg;
	char rec[100];

	for (unsigned k = 0; k < APPENDS; k++) {
		size_t done;

		memset(rec, (int)('A' + a->host), sizeof(rec));
		snprintf(rec, sizeof(rec), "%u:%04u", a->host, k);
		assert_int_equal(vol_write(a->t->v[a->host], &sc_root, a->id, 0, sizeof(rec), rec,
					   VWRITE_APPEND, &done, NULL),
				 0);
		assert_int_equal(done, sizeof(rec));
	}
}

static void append_body(struct simcluster *t)
{
	struct nodeid root, id;
	struct appender a[SC_HOSTS];
	struct task *task[SC_HOSTS];
	unsigned next[SC_HOSTS] = {0};
	char rec[100];

	for (unsigned n = 0; n < SC_HOSTS; n++)
		sc_up(t, n);
	root = sc_root_id(t, 0);
	id = sc_mkfile(t, 0, root, "log");
	for (unsigned n = 0; n < SC_HOSTS; n++) {
		a[n] = (struct appender){t, n, id};
		task[n] = sc_task(t, n, append_task, &a[n]);
	}
	for (unsigned n = 0; n < SC_HOSTS; n++)
		sc_join(t, task[n]);
	assert_int_equal(sc_stat(t, 0, id).st_size, SC_HOSTS * APPENDS * sizeof(rec));
	for (unsigned k = 0; k < SC_HOSTS * APPENDS; k++) {
		unsigned host;

		sc_read(t, 1, id, k * sizeof(rec), rec, sizeof(rec));
		host = (unsigned)(rec[0] - '0');
		assert_true(host < SC_HOSTS && rec[99] == (char)('A' + host));
		assert_int_equal(atoi(rec + 2), next[host]++);
	}
}

static void appends_of_all_hosts_stand_one_after_the_other(void **s)
{
	(void)s;
	sc_run_seeds(append_body, 4);
}

/* ---- open elsewhere -------------------------------------------------------------------------- */

static void open_elsewhere_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(1 << 16);
	struct nodeid root, f;
	struct vattr va;

	two_up(t, &root);
	f = sc_mkfile(t, 0, root, "f");
	memset(buf, 'o', 1 << 16);
	sc_write(t, 0, f, 0, buf, 1 << 16);
	assert_int_equal(vol_open(t->v[1], &sc_root, f), 0);
	assert_int_equal(vol_unlink(t->v[0], &sc_root, root, "f"), 0);
	sc_settle(t, 0);
	clock_sleep_ns(t->clk, 2 * SC_S);
	memset(buf, 0, 1 << 16);
	assert_int_equal(sc_read(t, 1, f, 0, buf, 1 << 16), 1 << 16);
	assert_int_equal(buf[12345], 'o');
	vol_release(t->v[1], f);
	sc_settle(t, 1);
	assert_int_equal(vol_getattr(t->v[1], &sc_root, f, &va), -ESTALE);
	assert_int_equal(vol_getattr(t->v[0], &sc_root, f, &va), -ESTALE);
	free(buf);
}

static void file_open_on_another_host_keeps_its_data(void **s)
{
	(void)s;
	sc_run_seeds(open_elsewhere_body, 5);
}

static void opener_dies_body(struct simcluster *t)
{
	struct nodeid root, f;
	struct vattr va;
	int rc = 0;

	two_up(t, &root);
	f = sc_mkfile(t, 0, root, "f");
	sc_write(t, 0, f, 0, "data", 4);
	assert_int_equal(vol_open(t->v[1], &sc_root, f), 0);
	assert_int_equal(vol_unlink(t->v[0], &sc_root, root, "f"), 0);
	sc_settle(t, 0);
	assert_int_equal(vol_getattr(t->v[0], &sc_root, f, &va), 0);
	sc_kill(t, 1);
	for (unsigned k = 0; k < 100 && rc == 0; k++) {
		clock_sleep_ns(t->clk, SC_S / 10);
		sc_settle(t, 0);
		rc = vol_getattr(t->v[0], &sc_root, f, &va);
	}
	assert_int_equal(rc, -ESTALE);
}

static void unlinked_file_goes_when_its_opener_has_died(void **s)
{
	(void)s;
	sc_run_seeds(opener_dies_body, 5);
}

/* ---- stale handles --------------------------------------------------------------------------- */

static void stale_body(struct simcluster *t)
{
	struct nodeid root, d, f;
	struct vattr va;
	int rc;

	two_up(t, &root);
	d = sc_mkdir(t, 0, root, "d");
	f = sc_mkfile(t, 0, root, "f");
	sc_stat(t, 1, d);
	sc_stat(t, 1, f);
	assert_int_equal(vol_rmdir(t->v[0], &sc_root, root, "d"), 0);
	assert_int_equal(vol_unlink(t->v[0], &sc_root, root, "f"), 0);
	if (sc_random(t, 2))
		sc_settle(t, 0);
	rc = vol_mknod(t->v[1], &sc_root, d, "x", S_IFREG | 0600, 0, &va);
	assert_true(rc == -ENOENT || rc == -ESTALE);
	assert_int_equal(vol_open(t->v[1], &sc_root, f), -ESTALE);
	sc_settle(t, 0);
	for (unsigned k = 0; k < 20; k++) { /* the cells are used again */
		char name[16];

		snprintf(name, sizeof(name), "n%u", k);
		sc_mkfile(t, 0, root, name);
	}
	assert_int_equal(vol_getattr(t->v[1], &sc_root, f, &va), -ESTALE);
	rc = vol_mknod(t->v[1], &sc_root, d, "x", S_IFREG | 0600, 0, &va);
	assert_int_equal(rc, -ESTALE);
}

static void handle_of_what_another_host_removed_is_stale(void **s)
{
	(void)s;
	sc_run_seeds(stale_body, 6);
}

/* ---- crash ----------------------------------------------------------------------------------- */

struct worker {
	struct simcluster *t;
	unsigned host;
	struct nodeid root;
	unsigned synced; /* files 0 .. synced-1 are fsynced */
};

static void crash_task(void *arg)
{
	struct worker *w = arg;
	struct volume *v = w->t->v[w->host];
	char name[32], body[5000];

	for (unsigned k = 0; k < 1000; k++) {
		struct vattr va;
		size_t done;

		snprintf(name, sizeof(name), "h%u-%u", w->host, k);
		memset(body, (int)('a' + k % 26), sizeof(body));
		if (vol_mknod(v, &sc_root, w->root, name, S_IFREG | 0600, 0, &va) ||
		    vol_write(v, &sc_root, va.id, 0, k % 2 ? sizeof(body) : 500, body, 0, &done,
			      NULL) ||
		    vol_fsync(v, &sc_root, va.id, false))
			return;
		w->synced = k + 1;
		if (k > 4) {
			snprintf(name, sizeof(name), "h%u-%u", w->host, k - 5);
			if (vol_unlink(v, &sc_root, w->root, name))
				return;
		}
	}
}

static void check_synced(struct simcluster *t, unsigned host, const struct worker *w)
{
	char name[32], body[5000];

	for (unsigned k = w->synced > 5 ? w->synced - 5 : 0; k < w->synced; k++) {
		size_t len = k % 2 ? sizeof(body) : 500;
		struct nodeid id;

		snprintf(name, sizeof(name), "h%u-%u", w->host, k);
		if (k + 5 <= w->synced && sc_lookup(t, host, w->root, name, &id) == -ENOENT)
			continue; /* its deletion was under way */
		assert_int_equal(sc_lookup(t, host, w->root, name, &id), 0);
		assert_int_equal(sc_read(t, host, id, 0, body, sizeof(body)), len);
		for (size_t b = 0; b < len; b++)
			assert_int_equal(body[b], 'a' + k % 26);
	}
}

static void crash_body(struct simcluster *t)
{
	struct worker w[2];
	struct nodeid root;

	two_up(t, &root);
	for (unsigned n = 0; n < 2; n++) {
		w[n] = (struct worker){.t = t, .host = n, .root = root};
		sc_task(t, n, crash_task, &w[n]);
	}
	while (w[0].synced + w[1].synced < 4 + sc_random(t, 30))
		clock_sleep_ns(t->clk, SC_S / 1000);
	for (uint64_t n = sc_random(t, 300); n > 0; n--)
		simclock_yield(t->clk);
	sc_kill(t, 0);
	if (sc_random(t, 2)) { /* the other goes on for a while, or dies too */
		clock_sleep_ns(t->clk, 3 * SC_S);
	}
	sc_kill(t, 1);
	if (sc_random(t, 2))
		simdev_power_cut(t->medium, sc_random(t, 1 << 30));
	sc_up(t, 2);
	check_synced(t, 2, &w[0]);
	check_synced(t, 2, &w[1]);
	sc_settle(t, 2);
}

static void what_was_fsynced_survives_any_crash(void **s)
{
	(void)s;
	sc_run_seeds(crash_body, 20);
}

/* ---- chaos in names -------------------------------------------------------------------------- */

#define DIRS 6u

struct mover {
	struct simcluster *t;
	unsigned host;
	struct nodeid root;
	uint64_t rng;
};

/* Move directories d0 .. d5 about, wherever they are, below each other. */
static int find_dir(struct mover *m, struct nodeid at, const char *name, struct nodeid *parent,
		    unsigned depth)
{
	struct vdirent *vd;
	size_t n = 0;
	int rc;

	if (depth > DIRS)
		return -ENOENT;
	vd = calloc(16, sizeof(*vd));
	rc = vol_readdir(m->t->v[m->host], &sc_root, at, 2, VATTRS_NONE, vd, 16, &n);
	if (rc == 0)
		rc = -ENOENT;
	for (size_t k = 0; k < n && rc; k++) {
		struct nodeid sub = {vd[k].de.ino, vd[k].de.generation};

		if (strcmp(vd[k].de.name, name) == 0) {
			*parent = at;
			rc = 0;
		} else if (vd[k].de.type == 4) {
			rc = find_dir(m, sub, name, parent, depth + 1);
		}
	}
	free(vd);
	return rc;
}

static uint64_t rnd(struct mover *m, uint64_t below)
{
	m->rng = m->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (m->rng >> 33) % below;
}

static void move_task(void *arg)
{
	struct mover *m = arg;
	struct volume *v = m->t->v[m->host];

	for (unsigned k = 0; k < 25; k++) {
		struct nodeid from, up, to;
		char a[8], b[8];

		snprintf(a, sizeof(a), "d%u", (unsigned)rnd(m, DIRS));
		snprintf(b, sizeof(b), "d%u", (unsigned)rnd(m, DIRS));
		if (find_dir(m, m->root, a, &from, 0) || find_dir(m, m->root, b, &up, 0))
			continue;
		to = m->root;
		if (rnd(m, 4) && sc_lookup(m->t, m->host, up, b, &to))
			continue;
		vol_rename(v, &sc_root, from, a, to, a, 0);
	}
}

static void movers_body(struct simcluster *t)
{
	struct mover m[SC_HOSTS];
	struct task *task[SC_HOSTS];
	struct nodeid root, parent;
	char name[8];

	for (unsigned n = 0; n < SC_HOSTS; n++)
		sc_up(t, n);
	root = sc_root_id(t, 0);
	for (unsigned k = 0; k < DIRS; k++) {
		snprintf(name, sizeof(name), "d%u", k);
		sc_mkdir(t, 0, root, name);
	}
	for (unsigned n = 0; n < SC_HOSTS; n++) {
		m[n] = (struct mover){t, n, root, t->rng + n};
		task[n] = sc_task(t, n, move_task, &m[n]);
	}
	for (unsigned n = 0; n < SC_HOSTS; n++)
		sc_join(t, task[n]);
	for (unsigned k = 0; k < DIRS; k++) { /* none has been cut off in a circle */
		snprintf(name, sizeof(name), "d%u", k);
		assert_int_equal(find_dir(&m[0], root, name, &parent, 0), 0);
	}
}

static void moving_directories_from_all_hosts_makes_no_circle(void **s)
{
	(void)s;
	sc_run_seeds(movers_body, 5);
}

/* Whoever calls a lock back must not wait for the volume's. */
static void revoker_body(struct simcluster *t)
{
	const struct op_ctx revoker = {.drain = true};
	uint64_t volume = geo_anchor_cell(LUNFS_ANCHOR_VOLUME);
	struct nodeid f;
	struct vattr va;
	struct lock *l;

	sc_up(t, 0);
	sc_up(t, 1);
	f = sc_mkfile(t, 0, sc_root_id(t, 0), "f");
	SC_OK(t, vol_getattr(t->v[0], &revoker, f, &va));
	SC_OK(t, lock_pin(t->v[1]->locks, volume, LOCK_EX, LOCAL_EXCL, 0, NULL, &l));
	assert_int_equal(vol_getattr(t->v[0], &revoker, f, &va), -EAGAIN);
	lock_unpin(t->v[1]->locks, l, LOCAL_EXCL);
	SC_OK(t, vol_getattr(t->v[0], &sc_root, f, &va));
	SC_OK(t, vol_getattr(t->v[0], &revoker, f, &va));
}

static void a_revoke_does_not_wait_for_the_volume(void **s)
{
	(void)s;
	sc_run(revoker_body, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_one_host_did_the_other_sees_at_once),
	    cmocka_unit_test(appends_of_all_hosts_stand_one_after_the_other),
	    cmocka_unit_test(file_open_on_another_host_keeps_its_data),
	    cmocka_unit_test(unlinked_file_goes_when_its_opener_has_died),
	    cmocka_unit_test(handle_of_what_another_host_removed_is_stale),
	    cmocka_unit_test(what_was_fsynced_survives_any_crash),
	    cmocka_unit_test(moving_directories_from_all_hosts_makes_no_circle),
	    cmocka_unit_test(a_revoke_does_not_wait_for_the_volume),
	};

	return cmocka_run_group_tests_name("vol-hosts", tests, NULL, NULL);
}
