/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cluster of fixture.h. */
#include "fixture.h"

#include "mkfs.h"
#include "simrand.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

const struct op_ctx vt_root = {.umask = 022};

static void format(struct vt *t, const struct vt_shape *s)
{
	static const struct mkfs_options opts = {.label = "",
						 .hosts = VT_HOSTS,
						 .beat_ms = 150,
						 .deadline_ms = 400,
						 .lease_ms = 800,
						 .quiet = true};

	uint64_t size = s->size_bytes ? s->size_bytes : 64ull << 20;
	uint32_t sector = s->sector_bytes ? s->sector_bytes : 512;
	char why[MKFS_WHY_BYTES] = "";

	t->first = simdev_new(t->clk, size, sector, sector);
	t->medium = simdev_medium_of(t->first);
	if (layout_make(&opts, size, sector, sector, &t->geo, why, sizeof(why)))
		fail_msg("layout: %s", why);
	memset(t->geo.vol_id, 0x33, 16);
	memset(t->geo.uuid, 0x55, 16);
	memset(t->geo.hash_key, 0x44, 16);
}

static void write_volume(struct vt *t)
{

	struct mkfs_found none = {.patches = 0};
	struct live_table *old;
	char why[MKFS_WHY_BYTES] = "";

	if (live_watch(t->first, t->clk, true, &old, why, sizeof(why)) ||
	    volume_write(t->first, t->clk, &t->geo, &none, old, why, sizeof(why)))
		fail_msg("mkfs: %s", why);
	live_free(old);
}

static void check(struct vt *t)
{
	const char *fsck = getenv("LUNFS_FSCK");
	char path[] = "/tmp/lunfs-vol-XXXXXX", cmd[512];
	int fd, rc;

	if (!fsck || t->no_fsck)
		return;
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(simdev_save(t->medium, path), 0);
	snprintf(cmd, sizeof(cmd), "'%s' -n %s", fsck, path);
	rc = system(cmd);
	if (rc == 0 || !getenv("LUNFS_KEEP"))
		unlink(path);
	if (rc != 0)
		fail_msg("fsck.lunfs -n exits with %d (image %s)", WEXITSTATUS(rc), path);
}

struct run {
	struct vt *t;
	void (*body)(struct vt *t);
};

static void run_body(void *arg)
{
	struct run *r = arg;

	write_volume(r->t);
	r->body(r->t);
	for (unsigned n = 0; n < VT_HOSTS; n++)
		if (r->t->v[n])
			vt_down(r->t, n);
}

void vt_run(void (*body)(struct vt *t), const struct vt_shape *shape)
{
	struct vt_shape s = shape ? *shape : (struct vt_shape){0};
	struct vt t = {.rng = s.seed};
	struct run r = {.t = &t, .body = body};

	log_open("test", LOG_LVL_ERR, 0);
	t.clk = simclock_new();
	format(&t, &s);
	simdev_seed(t.medium, s.seed);
	simclock_run(t.clk, run_body, &r, s.seed);
	check(&t);
	dev_close(t.first);
	t.clk->ops->destroy(t.clk);
}

void vt_run_seeds(void (*body)(struct vt *t), unsigned n)
{
	const char *from = getenv("LUNFS_SEED"), *count = getenv("LUNFS_SEEDS");
	uint64_t first = from ? strtoull(from, NULL, 0) : 1;

	if (count)
		n = (unsigned)atoi(count);
	for (uint64_t seed = first; seed < first + n; seed++) {
		if (from || count)
			fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
		vt_run(body,
		       &(struct vt_shape){.seed = seed, .sector_bytes = seed % 4 ? 512 : 4096});
	}
}

/* ---- hosts ----------------------------------------------------------------------------------- */

int vt_mount(struct vt *t, unsigned host, bool read_only, char *why, size_t why_len)
{
	struct vol_options opt = {.read_only = read_only, .host.claim_wait_ms = 20000};
	int rc;

	snprintf(opt.host.name, sizeof(opt.host.name), "host%u", host);
	t->dev[host] = simdev_attach(t->medium);
	simclock_set_group(t->clk, host + 1);
	rc = vol_mount(t->dev[host], t->clk, &opt, &t->v[host], why, why_len);
	simclock_set_group(t->clk, 0);
	if (rc) {
		dev_close(t->dev[host]);
		t->v[host] = NULL;
	}
	return rc;
}

void vt_up(struct vt *t, unsigned host)
{
	char why[512] = "";

	if (vt_mount(t, host, false, why, sizeof(why)))
		fail_msg("mount: %s", why);
}

void vt_down(struct vt *t, unsigned host)
{
	struct volume *v = t->v[host];

	t->v[host] = NULL;
	assert_int_equal(vol_unmount(v), 0);
}

void vt_kill(struct vt *t, unsigned host)
{
	simdev_kill(t->dev[host]);
	simclock_kill(t->clk, host + 1);
	t->v[host] = NULL;
}

struct task *vt_task(struct vt *t, unsigned host, void (*fn)(void *), void *arg)
{
	struct task *task;

	simclock_set_group(t->clk, host + 1);
	assert_int_equal(t->clk->ops->task_start(t->clk, "test", fn, arg, &task), 0);
	simclock_set_group(t->clk, 0);
	return task;
}

void vt_join(struct vt *t, struct task *task)
{
	t->clk->ops->task_join(t->clk, task);
}

uint64_t vt_random(struct vt *t, uint64_t below)
{
	return sim_rand_below(&t->rng, below);
}

void vt_settle(struct vt *t, unsigned host)
{
	orphans_settle(t->v[host]->orphans, 20 * VT_S);
}

/* ---- operations ------------------------------------------------------------------------------ */

struct nodeid vt_root_id(struct vt *t, unsigned host)
{
	struct nodeid id;

	assert_int_equal(vol_root(t->v[host], &id), 0);
	return id;
}

struct nodeid vt_mkfile(struct vt *t, unsigned host, struct nodeid dir, const char *name)
{
	struct vattr va;

	assert_int_equal(vol_mknod(t->v[host], &vt_root, dir, name, S_IFREG | 0644, 0, &va), 0);
	return va.id;
}

struct nodeid vt_mkdir(struct vt *t, unsigned host, struct nodeid dir, const char *name)
{
	struct vattr va;

	assert_int_equal(vol_mkdir(t->v[host], &vt_root, dir, name, 0755, &va), 0);
	return va.id;
}

void vt_write(struct vt *t, unsigned host, struct nodeid id, uint64_t off, const void *buf,
	      size_t len)
{
	size_t done = 0;

	assert_int_equal(vol_write(t->v[host], &vt_root, id, off, len, buf, 0, &done, NULL), 0);
	assert_int_equal(done, len);
}

size_t vt_read(struct vt *t, unsigned host, struct nodeid id, uint64_t off, void *buf, size_t len)
{
	size_t done = 0;

	assert_int_equal(vol_read(t->v[host], &vt_root, id, off, len, buf, &done), 0);
	return done;
}

struct stat vt_stat(struct vt *t, unsigned host, struct nodeid id)
{
	struct vattr va;

	assert_int_equal(vol_getattr(t->v[host], &vt_root, id, &va), 0);
	return va.st;
}

int vt_lookup(struct vt *t, unsigned host, struct nodeid dir, const char *name, struct nodeid *id)
{
	struct vattr va;
	int rc = vol_lookup(t->v[host], &vt_root, dir, name, &va);

	if (rc == 0 && id)
		*id = va.id;
	return rc;
}

int vt_truncate(struct vt *t, unsigned host, struct nodeid id, uint64_t size)
{
	struct stat st = {.st_size = (off_t)size};
	struct vattr va;

	return vol_setattr(t->v[host], &vt_root, id, &st, VSET_SIZE, &va);
}

uint64_t vt_free_blks(struct vt *t, unsigned host)
{
	struct statvfs sv;

	assert_int_equal(vol_statfs(t->v[host], &sv), 0);
	return sv.f_bfree;
}

/* What a killed host had allocated is lost: no report of leaks in these programs. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
