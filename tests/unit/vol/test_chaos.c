/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything at once: several tasks on each of three hosts do random operations in a few
 * directories with a few names, hosts die and come back; in the end the volume must be whole
 * (fsck), every operation must have ended with an answer that makes sense, and no file shows bytes
 * that nobody wrote to it.
 */
#include "unit.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>

#define TASKS 2u
#define DIRS 3u
#define NAMES 5u
#define OPS 60u
#define IO_BYTES 20000u

struct actor {
	struct simcluster *t;
	unsigned host;
	struct nodeid dir[DIRS];
	uint64_t rng;
	uint8_t *buf;
	bool ended;
};

static uint64_t rnd(struct actor *a, uint64_t below)
{
	a->rng = a->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (a->rng >> 33) % below;
}

static struct nodeid some_dir(struct actor *a)
{
	return a->dir[rnd(a, DIRS)];
}

static const char *some_name(struct actor *a, char *name)
{
	snprintf(name, 8, "n%u", (unsigned)rnd(a, NAMES));
	return name;
}

static bool sane(int rc)
{
	switch (rc) {
	case 0:
	case -ENOENT:
	case -EEXIST:
	case -ENOTDIR:
	case -EISDIR:
	case -ENOTEMPTY:
	case -EINVAL:
	case -ESTALE:
	case -EPERM:
	case -EIO: /* the device was taken from a host that dies */
	case -ENODATA:
		return true;
	default:
		return false;
	}
}

/* A file's bytes are 'd' and its own tag, everywhere where they are not zero. */
static void check_bytes(struct actor *a, struct nodeid id, size_t n)
{
	uint8_t tag = (uint8_t)(1 + id.generation % 251);

	for (size_t k = 0; k < n; k++)
		if (a->buf[k] && a->buf[k] != tag)
			fail_msg("file %llu shows byte %02x at %zu, which was never written to it",
				 (unsigned long long)id.ino, a->buf[k], k);
}

static int file_op(struct actor *a, struct nodeid id)
{
	struct volume *v = a->t->v[a->host];
	uint64_t off = rnd(a, 3) ? rnd(a, 60000) : rnd(a, 15) * 4096;
	size_t len = rnd(a, 3) ? 1 + rnd(a, IO_BYTES - 1) : 4096, done = 0;
	struct stat st = {.st_size = (off_t)rnd(a, 60000)};
	struct vattr va;
	int rc;

	switch (rnd(a, 8)) {
	case 0:
	case 1:
		memset(a->buf, (int)(1 + id.generation % 251), len);
		return vol_write(v, &sc_root, id, off, len, a->buf, rnd(a, 4) ? 0 : VWRITE_APPEND,
				 &done, NULL);
	case 2:
	case 3:
		rc = vol_read(v, &sc_root, id, off, len, a->buf, &done);
		check_bytes(a, id, done);
		return rc;
	case 4:
		return vol_setattr(v, &sc_root, id, &st, VSET_SIZE, &va);
	case 5:
		return vol_fallocate(v, &sc_root, id,
				     rnd(a, 2) ? 0 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     off, len);
	case 6:
		return vol_fsync(v, &sc_root, id, false);
	default:
		return vol_setxattr(v, &sc_root, id, rnd(a, 2) ? "user.x" : "user.y", a->buf,
				    rnd(a, 3000), 0);
	}
}

static int in_file(struct actor *a)
{
	struct volume *v = a->t->v[a->host];
	struct vattr va;
	char name[8];
	int rc = vol_lookup(v, &sc_root, some_dir(a), some_name(a, name), &va);

	if (rc || !S_ISREG(va.st.st_mode))
		return rc;
	rc = vol_open(v, &sc_root, va.id);
	if (rc)
		return rc;
	for (uint64_t n = 1 + rnd(a, 4); n > 0 && rc == 0; n--)
		rc = file_op(a, va.id);
	vol_release(v, va.id);
	return rc;
}

static int some_op(struct actor *a)
{
	struct volume *v = a->t->v[a->host];
	struct vdirent *vd;
	char name[8], other[8];
	struct vattr va;
	size_t n;
	int rc;

	switch (rnd(a, 12)) {
	case 0:
	case 1:
		rc = vol_create(v, &sc_root, some_dir(a), some_name(a, name), 0644, &va);
		if (rc == 0) {
			rc = file_op(a, va.id);
			vol_release(v, va.id);
		}
		return rc;
	case 2:
		return vol_mkdir(v, &sc_root, some_dir(a), some_name(a, name), 0755, &va);
	case 3:
		return vol_unlink(v, &sc_root, some_dir(a), some_name(a, name));
	case 4:
		return vol_rmdir(v, &sc_root, some_dir(a), some_name(a, name));
	case 5:
	case 6:
		some_name(a, name);
		return vol_rename(v, &sc_root, some_dir(a), name, some_dir(a), some_name(a, other),
				  rnd(a, 3)   ? 0
				  : rnd(a, 2) ? RENAME_EXCHANGE
				  : rnd(a, 2) ? RENAME_NOREPLACE
					      : RENAME_WHITEOUT);
	case 7:
		rc = vol_lookup(v, &sc_root, some_dir(a), some_name(a, name), &va);
		return rc ? rc
			  : vol_link(v, &sc_root, va.id, some_dir(a), some_name(a, other), &va);
	case 8:
		vd = calloc(8, sizeof(*vd));
		rc = vol_readdir(v, &sc_root, some_dir(a), 0, true, vd, 8, &n);
		free(vd);
		return rc;
	case 9:
		return vol_symlink(v, &sc_root, some_dir(a), some_name(a, name), "target", &va);
	default:
		return in_file(a);
	}
}

static void actor_task(void *arg)
{
	struct actor *a = arg;

	for (unsigned k = 0; k < OPS; k++) {
		int rc = some_op(a);

		if (!sane(rc))
			fail_msg("an operation answered %d (%s)", rc, strerror(-rc));
	}
	a->ended = true;
}

struct stage {
	struct actor a[SC_HOSTS][TASKS];
	struct task *task[SC_HOSTS][TASKS];
	struct nodeid dir[DIRS];
};

static void host_start(struct simcluster *t, struct stage *s, unsigned n)
{
	for (unsigned k = 0; k < TASKS; k++) {
		struct actor *a = &s->a[n][k];

		a->t = t;
		a->host = n;
		a->ended = false;
		a->rng = sc_random(t, UINT64_MAX);
		memcpy(a->dir, s->dir, sizeof(a->dir));
		s->task[n][k] = sc_task(t, n, actor_task, a);
	}
}

static void make_dirs(struct simcluster *t, struct stage *s)
{
	struct nodeid root = sc_root_id(t, 0);
	char name[8];

	for (unsigned k = 0; k < DIRS; k++) {
		snprintf(name, sizeof(name), "d%u", k);
		s->dir[k] = sc_mkdir(t, 0, k ? s->dir[0] : root, name);
	}
}

static void stage_begin(struct simcluster *t, struct stage *s)
{
	simdev_set_pr(t->medium, t->seed % 2, true);
	for (unsigned n = 0; n < SC_HOSTS; n++) {
		sc_up(t, n);
		for (unsigned k = 0; k < TASKS; k++)
			s->a[n][k].buf = dev_buf_alloc(IO_BYTES + 4096);
	}
	make_dirs(t, s);
	assert_int_equal(vol_syncfs(t->v[0]), 0);
	for (unsigned n = 0; n < SC_HOSTS; n++)
		host_start(t, s, n);
}

static void stage_end(struct simcluster *t, struct stage *s)
{
	for (unsigned n = 0; n < SC_HOSTS; n++)
		for (unsigned k = 0; k < TASKS; k++) {
			if (t->v[n])
				sc_join(t, s->task[n][k]);
			free(s->a[n][k].buf);
		}
}

/* Nothing is open any more, so every orphan can go. */
static void all_orphans_go(struct simcluster *t)
{
	uint64_t waiting = 1, freed;

	for (unsigned k = 0; k < 100 && waiting; k++) {
		waiting = 0;
		for (unsigned n = 0; n < SC_HOSTS; n++) {
			uint64_t here;

			sc_settle(t, n);
			orphans_count(t->v[n]->orphans, &here, &freed);
			waiting += here;
		}
		if (waiting)
			clock_sleep_ns(t->clk, SC_S / 4);
	}
	assert_int_equal(waiting, 0);
}

static void together_body(struct simcluster *t)
{
	struct stage *s = calloc(1, sizeof(*s));

	stage_begin(t, s);
	stage_end(t, s);
	all_orphans_go(t);
	free(s);
}

static void random_work_of_three_hosts_leaves_a_clean_volume(void **st)
{
	(void)st;
	sc_run_seeds(together_body, 6);
}

static void deaths_body(struct simcluster *t)
{
	struct stage *s = calloc(1, sizeof(*s));

	stage_begin(t, s);
	for (unsigned k = 0; k < 2; k++) {
		unsigned victim = (unsigned)sc_random(t, SC_HOSTS);

		for (uint64_t n = sc_random(t, 6000); n > 0; n--)
			simclock_yield(t->clk);
		sc_kill(t, victim);
		for (uint64_t n = sc_random(t, 2000); n > 0; n--)
			simclock_yield(t->clk);
		sc_up(t, victim);
		host_start(t, s, victim);
	}
	stage_end(t, s);
	free(s);
}

static void hosts_that_die_leave_a_clean_volume(void **st)
{
	(void)st;
	sc_run_seeds(deaths_body, 8);
}

static void all_die_body(struct simcluster *t)
{
	struct stage *s = calloc(1, sizeof(*s));

	stage_begin(t, s);
	for (uint64_t n = sc_random(t, 12000); n > 0; n--)
		simclock_yield(t->clk);
	for (unsigned n = 0; n < SC_HOSTS; n++)
		sc_kill(t, n);
	simdev_power_cut(t->medium, sc_random(t, UINT64_MAX));
	for (unsigned n = 0; n < SC_HOSTS; n++)
		for (unsigned k = 0; k < TASKS; k++)
			free(s->a[n][k].buf);
	free(s);
	sc_up(t, (unsigned)sc_random(t, SC_HOSTS));
}

static void power_failure_leaves_a_clean_volume(void **st)
{
	(void)st;
	sc_run_seeds(all_die_body, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(random_work_of_three_hosts_leaves_a_clean_volume),
	    cmocka_unit_test(hosts_that_die_leave_a_clean_volume),
	    cmocka_unit_test(power_failure_leaves_a_clean_volume),
	};

	return cmocka_run_group_tests_name("vol-chaos", tests, NULL, NULL);
}
