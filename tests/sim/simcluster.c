/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cluster of simcluster.h. */
#include "simcluster.h"

#include "mkfs.h"
#include "simrand.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

const struct op_ctx sc_root = {.umask = 022};

void sc_fail(const struct simcluster *t, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "seed %llu, at %.3f s: ", (unsigned long long)t->seed,
		(double)clock_now_ns(t->clk) / 1e9);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (%s:%d)\n", file, line);
	abort();
}

static void format(struct simcluster *t, const struct sc_shape *s)
{
	const struct mkfs_options opts = {.label = "",
					  .hosts = t->hosts,
					  .journal_bytes = s->journal_bytes,
					  .beat_ms = s->beat_ms ? s->beat_ms : 150,
					  .deadline_ms = s->deadline_ms ? s->deadline_ms : 400,
					  .lease_ms = s->lease_ms ? s->lease_ms : 800,
					  .quiet = true};

	uint64_t size = s->size_bytes ? s->size_bytes : 64ull << 20;
	uint32_t sector = s->sector_bytes ? s->sector_bytes : 512;
	char why[MKFS_WHY_BYTES] = "";

	t->first = simdev_new(t->clk, size, sector, sector);
	t->medium = simdev_medium_of(t->first);
	if (layout_make(&opts, size, sector, sector, &t->geo, why, sizeof(why)))
		sc_fail(t, __FILE__, __LINE__, "layout: %s", why);
	memset(t->geo.vol_id, 0x33, 16);
	memset(t->geo.uuid, 0x55, 16);
	memset(t->geo.hash_key, 0x44, 16);
}

static void write_volume(struct simcluster *t)
{

	struct mkfs_found none = {.patches = 0};
	struct live_table *old;
	char why[MKFS_WHY_BYTES] = "";

	if (live_watch(t->first, t->clk, true, &old, why, sizeof(why)) ||
	    volume_write(t->first, t->clk, &t->geo, &none, old, why, sizeof(why)))
		sc_fail(t, __FILE__, __LINE__, "mkfs: %s", why);
	live_free(old);
}

static void check(struct simcluster *t)
{
	const char *fsck = getenv("LUNFS_FSCK");
	char path[] = "/tmp/lunfs-vol-XXXXXX", cmd[512];
	int fd, rc;

	if (!fsck || t->no_fsck)
		return;
	fd = mkstemp(path);
	SC_CHECK(t, fd >= 0, "no temporary file");
	close(fd);
	SC_OK(t, simdev_save(t->medium, path));
	snprintf(cmd, sizeof(cmd), "'%s' -n %s", fsck, path);
	rc = system(cmd);
	if (rc == 0 || !getenv("LUNFS_KEEP"))
		unlink(path);
	if (rc != 0)
		sc_fail(t, __FILE__, __LINE__, "fsck.lunfs -n exits with %d (image %s)",
			WEXITSTATUS(rc), path);
}

struct run {
	struct simcluster *t;
	void (*body)(struct simcluster *t);
};

static void run_body(void *arg)
{
	struct run *r = arg;

	write_volume(r->t);
	r->body(r->t);
	for (unsigned n = 0; n < SC_HOSTS_ROOM; n++)
		if (r->t->v[n])
			sc_down(r->t, n);
}

void sc_run(void (*body)(struct simcluster *t), const struct sc_shape *shape)
{
	struct sc_shape s = shape ? *shape : (struct sc_shape){0};
	struct simcluster t = {.rng = s.seed,
			       .seed = s.seed,
			       .hosts = s.hosts ? s.hosts : SC_HOSTS,
			       .opt.host.claim_wait_ms = 20000,
			       .ctx = s.ctx,
			       .done = s.done};
	struct run r = {.t = &t, .body = body};

	log_open("test", LOG_LVL_ERR, 0);
	t.clk = simclock_new();
	format(&t, &s);
	simdev_seed(t.medium, s.seed);
	simclock_run(t.clk, run_body, &r, s.seed);
	if (t.done)
		t.done(&t);
	else
		check(&t);
	simdev_medium_end(t.medium); /* handles of killed hosts too */
	t.clk->ops->destroy(t.clk);
}

void sc_run_seeds(void (*body)(struct simcluster *t), unsigned n)
{
	const char *from = getenv("LUNFS_SEED"), *count = getenv("LUNFS_SEEDS");
	uint64_t first = from ? strtoull(from, NULL, 0) : 1;

	if (count)
		n = (unsigned)atoi(count);
	for (uint64_t seed = first; seed < first + n; seed++) {
		if (from || count)
			fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
		sc_run(body,
		       &(struct sc_shape){.seed = seed, .sector_bytes = seed % 4 ? 512 : 4096});
	}
}

/* ---- hosts ----------------------------------------------------------------------------------- */

int sc_mount(struct simcluster *t, unsigned host, bool read_only, char *why, size_t why_len)
{
	struct vol_options opt = t->opt;
	int rc;

	opt.read_only = read_only;
	snprintf(opt.host.name, sizeof(opt.host.name), "host%u", host);
	/* One machine a host, which comes back behind the same port. */
	memset(opt.host.machine_id, (int)host + 1, sizeof(opt.host.machine_id));
	t->boots++;
	memcpy(opt.host.boot_id, t->boot[host] ? &t->boot[host] : &t->boots, sizeof(t->boots));
	t->dev[host] = simdev_attach_nexus(t->medium, SC_NEXUS + host);
	if (t->label[host][0])
		simdev_set_label(t->dev[host], t->label[host]);
	simclock_set_group(t->clk, host + 1);
	rc = vol_mount(t->dev[host], t->clk, &opt, &t->v[host], why, why_len);
	simclock_set_group(t->clk, 0);
	if (rc) {
		dev_close(t->dev[host]);
		t->v[host] = NULL;
	}
	return rc;
}

void sc_up(struct simcluster *t, unsigned host)
{
	char why[512] = "";

	if (sc_mount(t, host, false, why, sizeof(why)))
		sc_fail(t, __FILE__, __LINE__, "mount: %s", why);
}

void sc_down(struct simcluster *t, unsigned host)
{
	struct volume *v = t->v[host];

	t->v[host] = NULL;
	SC_OK(t, vol_unmount(v));
}

void sc_kill(struct simcluster *t, unsigned host)
{
	simdev_kill(t->dev[host]);
	simclock_kill(t->clk, host + 1);
	t->v[host] = NULL;
}

struct task *sc_task(struct simcluster *t, unsigned host, void (*fn)(void *), void *arg)
{
	return simclock_start(t->clk, host + 1, "test", fn, arg);
}

void sc_join(struct simcluster *t, struct task *task)
{
	t->clk->ops->task_join(t->clk, task);
}

uint64_t sc_random(struct simcluster *t, uint64_t below)
{
	return sim_rand_below(&t->rng, below);
}

void sc_settle(struct simcluster *t, unsigned host)
{
	orphans_settle(t->v[host]->orphans, 20 * SC_S);
}

/* ---- operations ------------------------------------------------------------------------------ */

struct nodeid sc_root_id(struct simcluster *t, unsigned host)
{
	struct nodeid id;

	SC_OK(t, vol_root(t->v[host], &id));
	return id;
}

struct nodeid sc_mkfile(struct simcluster *t, unsigned host, struct nodeid dir, const char *name)
{
	struct vattr va;

	SC_OK(t, vol_mknod(t->v[host], &sc_root, dir, name, S_IFREG | 0644, 0, &va));
	return va.id;
}

struct nodeid sc_mkdir(struct simcluster *t, unsigned host, struct nodeid dir, const char *name)
{
	struct vattr va;

	SC_OK(t, vol_mkdir(t->v[host], &sc_root, dir, name, 0755, &va));
	return va.id;
}

void sc_write(struct simcluster *t, unsigned host, struct nodeid id, uint64_t off, const void *buf,
	      size_t len)
{
	size_t done = 0;

	SC_OK(t, vol_write(t->v[host], &sc_root, id, off, len, buf, 0, &done, NULL));
	SC_CHECK(t, done == len, "short write");
}

size_t sc_read(struct simcluster *t, unsigned host, struct nodeid id, uint64_t off, void *buf,
	       size_t len)
{
	size_t done = 0;

	SC_OK(t, vol_read(t->v[host], &sc_root, id, off, len, buf, &done));
	return done;
}

struct stat sc_stat(struct simcluster *t, unsigned host, struct nodeid id)
{
	struct vattr va;

	SC_OK(t, vol_getattr(t->v[host], &sc_root, id, &va));
	return va.st;
}

int sc_lookup(struct simcluster *t, unsigned host, struct nodeid dir, const char *name,
	      struct nodeid *id)
{
	struct vattr va;
	int rc = vol_lookup(t->v[host], &sc_root, dir, name, &va);

	if (rc == 0 && id)
		*id = va.id;
	return rc;
}

int sc_truncate(struct simcluster *t, unsigned host, struct nodeid id, uint64_t size)
{
	struct stat st = {.st_size = (off_t)size};
	struct vattr va;

	return vol_setattr(t->v[host], &sc_root, id, &st, VSET_SIZE, &va);
}

uint64_t sc_free_blks(struct simcluster *t, unsigned host)
{
	struct statvfs sv;

	SC_OK(t, vol_statfs(t->v[host], &sv));
	return sv.f_bfree;
}

/* What a killed host had allocated is lost: no report of leaks in these programs. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
