/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running a workload over the recording device. What there is to run is in plans.c. */
#include "crash.h"

#include "simdev_impl.h"
#include "txn/txn_impl.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>

#define BASES 4u
#define IO_BYTES 65536u
#define HOSTS_ON_DISK 3u

/* ---- hosts ----------------------------------------------------------------------------------- */

int crash_mount(struct simcluster *t, unsigned host, uint64_t boot, struct rec *rec,
		struct volume **v, char *why, size_t why_len)
{
	struct vol_options opt = {.host.claim_wait_ms = 20000};
	struct dev *d = simdev_attach_nexus(t->medium, SC_NEXUS + host);
	int rc;

	snprintf(opt.host.name, sizeof(opt.host.name), "host%u", host);
	memset(opt.host.machine_id, (int)host + 1, sizeof(opt.host.machine_id));
	memcpy(opt.host.boot_id, &boot, sizeof(boot));
	if (rec)
		d = rec_dev(rec, d, host);
	simclock_set_group(t->clk, host + 1);
	rc = vol_mount(d, t->clk, &opt, v, why, why_len);
	simclock_set_group(t->clk, 0);
	if (rc) {
		dev_close(d);
		*v = NULL;
	}
	return rc;
}

/* ---- one operation --------------------------------------------------------------------------- */

struct place { /* where a name of the workload leads */
	struct nodeid dir;
	char name[12];
};

static bool find_place(struct volume *v, const char *path, struct place *p)
{
	const char *slash = strchr(path, '/');
	char dir[12] = "";
	struct vattr va;

	if (vol_root(v, &p->dir))
		return false;
	snprintf(p->name, sizeof(p->name), "%s", slash ? slash + 1 : path);
	if (!slash)
		return true;
	memcpy(dir, path, (size_t)(slash - path));
	if (vol_lookup(v, &sc_root, p->dir, dir, &va) || !S_ISDIR(va.st.st_mode))
		return false;
	p->dir = va.id;
	return true;
}

static bool find_node(struct volume *v, const char *path, struct nodeid *id)
{
	struct place p;
	struct vattr va;

	if (!find_place(v, path, &p) || vol_lookup(v, &sc_root, p.dir, p.name, &va))
		return false;
	*id = va.id;
	return true;
}

static bool names_node(unsigned kind)
{
	switch (kind) {
	case HOP_CREATE:
	case HOP_MKNOD:
	case HOP_MKDIR:
	case HOP_SYMLINK:
	case HOP_UNLINK:
	case HOP_RMDIR:
	case HOP_RENAME:
	case HOP_SYNCFS:
		return false;
	default:
		return true;
	}
}

/* The arguments, as far as they are names. False: there is no such thing, the operation is left
 * out. */
static bool aim(struct volume *v, const struct wop *o, struct hop *h)
{
	struct place p;

	if (o->kind == HOP_SYNCFS)
		return true;
	if (names_node(o->kind)) {
		if (!find_node(v, o->a, &h->id))
			return false;
		if (o->kind != HOP_LINK)
			return true;
	} else {
		if (!find_place(v, o->a, &p))
			return false;
		h->id = p.dir;
		memcpy(h->name, p.name, sizeof(h->name));
	}
	if (o->kind != HOP_LINK && o->kind != HOP_RENAME)
		return true;
	if (!find_place(v, o->b, &p))
		return false;
	h->dir = p.dir;
	memcpy(o->kind == HOP_LINK ? h->name : h->name2, p.name, sizeof(h->name));
	return true;
}

static int do_write(struct volume *v, struct hop *h)
{
	uint8_t *buf = dev_buf_alloc(IO_BYTES);
	size_t done = 0;
	int rc;

	pattern_fill(buf, h->index + 1, h->flags ? 0 : h->off, (size_t)h->len);
	rc = vol_write(v, &h->ctx, h->id, h->off, (size_t)h->len, buf, h->flags, &done, &h->at);
	h->done = done;
	free(buf);
	return rc;
}

static int do_setxattr(struct volume *v, struct hop *h)
{
	uint8_t buf[4096];

	pattern_fill(buf, h->index + 1, 0, (size_t)h->len);
	return vol_setxattr(v, &h->ctx, h->id, h->name, buf, (size_t)h->len, (int)h->flags);
}

static int do_truncate(struct volume *v, struct hop *h, struct vattr *va)
{
	struct stat st = {.st_size = (off_t)h->len};

	return vol_setattr(v, &h->ctx, h->id, &st, VSET_SIZE, va);
}

static int call(struct volume *v, struct hop *h, struct vattr *va)
{
	switch (h->kind) {
	case HOP_CREATE:
		return vol_create(v, &h->ctx, h->id, h->name, 0644, va);
	case HOP_MKNOD:
		return vol_mknod(v, &h->ctx, h->id, h->name, S_IFREG | 0644, 0, va);
	case HOP_MKDIR:
		return vol_mkdir(v, &h->ctx, h->id, h->name, 0755, va);
	case HOP_SYMLINK:
		snprintf(h->name2, sizeof(h->name2), "t%u", h->index);
		return vol_symlink(v, &h->ctx, h->id, h->name, h->name2, va);
	case HOP_LINK:
		return vol_link(v, &h->ctx, h->id, h->dir, h->name, va);
	case HOP_UNLINK:
		return vol_unlink(v, &h->ctx, h->id, h->name);
	case HOP_RMDIR:
		return vol_rmdir(v, &h->ctx, h->id, h->name);
	case HOP_RENAME:
		return vol_rename(v, &h->ctx, h->id, h->name, h->dir, h->name2, h->flags);
	case HOP_WRITE:
		return do_write(v, h);
	case HOP_TRUNCATE:
		return do_truncate(v, h, va);
	case HOP_FALLOCATE:
		return vol_fallocate(v, &h->ctx, h->id, (int)h->flags, h->off, h->len);
	case HOP_SETXATTR:
		return do_setxattr(v, h);
	case HOP_RMXATTR:
		return vol_removexattr(v, &h->ctx, h->id, h->name);
	case HOP_OPEN:
		return vol_open(v, &h->ctx, h->id);
	case HOP_FSYNC:
		return vol_fsync(v, &h->ctx, h->id, h->flags);
	default:
		return vol_syncfs(v);
	}
}

static bool has_attrs(unsigned kind)
{
	return kind <= HOP_LINK || kind == HOP_TRUNCATE;
}

static void trim(struct record *r, const struct wop *o)
{
	struct volume *v = r->t.v[o->host];
	uint64_t done;
	int rc = vol_trim(v, &sc_root, geo_blk_off(v->geo.group0_blk) + o->off, o->len, 0, &done);

	if (rc && !r->wrong[0])
		snprintf(r->wrong, sizeof(r->wrong), "a trim answers %s", strerror(-rc));
}

static void run_op(struct record *r, const struct wop *o)
{
	struct volume *v = r->t.v[o->host];
	struct hop arg = {.flags = o->flags, .off = o->off, .len = o->len}, *h;
	struct vattr va = {0};
	int rc;

	if (o->kind == WORK_SLEEP) {
		clock_sleep_ns(r->t.clk, o->len * 1000000ull);
		return;
	}
	if (o->kind == WORK_TRIM) {
		trim(r, o);
		return;
	}
	if (o->kind == HOP_SETXATTR || o->kind == HOP_RMXATTR)
		memcpy(arg.name, o->b, sizeof(arg.name));
	if (!aim(v, o, &arg))
		return;
	h = hop_begin(&r->run, o->host, 0, (enum hop_kind)o->kind);
	lunfs_assert(h);
	h->id = arg.id;
	h->dir = arg.dir;
	h->flags = arg.flags;
	h->off = arg.off;
	h->len = arg.len;
	memcpy(h->name, arg.name, sizeof(h->name));
	memcpy(h->name2, arg.name2, sizeof(h->name2));
	hop_call(&r->run, h);
	rc = call(v, h, &va);
	hop_end(&r->run, h, rc, has_attrs(o->kind) ? &va : NULL);
	rec_mark(&r->rec);
	if ((rc == -EIO || rc == -EUCLEAN) && !r->wrong[0])
		snprintf(r->wrong, sizeof(r->wrong), "%s answers %s", hop_name(h->kind),
			 strerror(-rc));
}

/* What a host still has open when it leaves. */
static void release_all(struct record *r, unsigned host)
{
	size_t n = history_len(r->run.hist);

	for (size_t i = r->base ? r->base->n_hops : 0; i < n; i++) {
		const struct hop *o = history_at(r->run.hist, i);
		struct nodeid id = o->kind == HOP_CREATE ? o->out : o->id;
		struct hop *h;

		if (o->host != host || o->rc || (o->kind != HOP_OPEN && o->kind != HOP_CREATE))
			continue;
		h = hop_begin(&r->run, host, 0, HOP_RELEASE);
		lunfs_assert(h);
		h->id = id;
		hop_call(&r->run, h);
		vol_release(r->t.v[host], id);
		hop_end(&r->run, h, 0, NULL);
		rec_mark(&r->rec);
	}
}

/* ---- a run ----------------------------------------------------------------------------------- */

static void note(void *ctx, struct rec_event *e)
{
	const struct record *r = ctx;

	e->history = history_now(r->run.hist);
	for (unsigned h = 0; h < CRASH_HOSTS; h++) {
		const struct txns *t = r->t.v[h] ? r->t.v[h]->txns : NULL;

		e->host[h].up = r->up[h];
		if (r->up[h] == UP_YES && t) {
			e->host[h].lo = t->durable_tid;
			e->host[h].hi = t->durable_tid + 1;
		} else if (r->up[h] == UP_LEAVING) {
			e->host[h].lo = r->left_lo;
			e->host[h].hi = r->left_hi;
		}
	}
}

static void leave(struct record *r, unsigned host)
{
	const struct txns *t = r->t.v[host]->txns;
	struct volume *v = r->t.v[host];
	int rc;

	release_all(r, host);
	r->left_lo = t->durable_tid;
	r->left_hi = t->running->id + 1;
	r->up[host] = UP_LEAVING;
	r->t.v[host] = NULL;
	rc = vol_unmount(v);
	r->up[host] = UP_LEFT;
	history_tick(r->run.hist);
	rec_mark(&r->rec);
	if (rc && !r->wrong[0])
		snprintf(r->wrong, sizeof(r->wrong), "unmount: %s", strerror(-rc));
}

static void run_task(void *arg)
{
	struct record *r = arg;
	char why[400] = "";

	r->rec.on = true;
	for (unsigned h = 0; h < r->w->hosts; h++) {
		if (crash_mount(&r->t, h, h + 1, &r->rec, &r->t.v[h], why, sizeof(why))) {
			snprintf(r->wrong, sizeof(r->wrong), "mount: %s", why);
			return;
		}
		r->up[h] = UP_YES;
	}
	r->first = r->w->from_mount ? 0 : r->rec.n_events;
	rec_mark(&r->rec);
	for (unsigned k = 0; k < r->w->n; k++)
		run_op(r, &r->w->op[k]);
	for (unsigned h = 0; h < r->w->hosts; h++)
		leave(r, h);
	r->rec.on = false;
}

static void record_begin(struct record *r, const struct workload *w, size_t setup)
{
	r->w = w;
	r->run.t = &r->t;
	r->t.seed = w->seed;
	r->t.clk = simclock_new();
	r->run.hist = history_new(&r->run, setup + 2 * WORK_OPS);
	for (unsigned h = 0; h < CRASH_HOSTS; h++) {
		r->run.inc[1 + h].host = h;
		r->run.host[h].inc = &r->run.inc[1 + h];
	}
	r->rec.note = note;
	r->rec.ctx = r;
	the_run = &r->run;
}

static void record_end(struct record *r)
{
	the_run = NULL;
	simdev_medium_end(r->t.medium);
	r->t.medium = NULL;
	r->t.clk->ops->destroy(r->t.clk);
	r->t.clk = NULL;
}

void record_make(struct record *r, const struct workload *w)
{
	memset(r, 0, sizeof(*r));
	r->base = base_get(w->sector_bytes, w->wide);
	record_begin(r, w, r->base->n_hops);
	r->t.geo = r->base->geo;
	r->t.medium = simdev_medium_clone(r->base->medium);
	r->t.medium->clk = r->t.clk;
	r->run.root = r->base->root;
	hist_copy(&r->run, r->base->hop, r->base->n_hops, UINT64_MAX);
	simdev_seed(r->t.medium, w->seed);
	simclock_set_limits(r->t.clk, 50000000, 0);
	simclock_run(r->t.clk, run_task, r, w->seed);
	record_end(r);
}

void record_free(struct record *r)
{
	rec_clear(&r->rec);
	hist_end(&r->run);
}

/* ---- the base -------------------------------------------------------------------------------- */

static const struct wop setup[] = {
    {.kind = HOP_MKDIR, .a = "d"},
    {.kind = HOP_MKDIR, .a = "e"},
    {.kind = HOP_MKNOD, .a = "f"},
    {.kind = HOP_WRITE, .a = "f", .len = 10000},
    {.kind = HOP_SETXATTR, .a = "f", .b = "user.x", .len = 20},
    {.kind = HOP_MKNOD, .a = "d/g"},
    {.kind = HOP_WRITE, .a = "d/g", .len = 100},
    {.kind = HOP_MKNOD, .a = "d/h"},
    {.kind = HOP_WRITE, .a = "d/h", .len = 20480},
    {.kind = HOP_SYNCFS},
};

static struct record making; /* of the base */
static bool making_wide;

static void widen(struct record *r)
{
	struct wop o = {.kind = HOP_MKNOD};

	for (unsigned k = 0; k < WIDE_NAMES; k++) {
		snprintf(o.a, sizeof(o.a), "e/%u", k % 1000);
		run_op(r, &o);
	}
	o = (struct wop){.kind = HOP_WRITE, .a = "d/h", .len = 4096};
	for (unsigned k = 0; k < WIDE_EXTENTS; k++) {
		o.off = (2 * k + 6) * 4096ull;
		run_op(r, &o);
	}
	run_op(r, &(struct wop){.kind = HOP_SYNCFS});
}

static void setup_body(struct simcluster *t)
{
	struct record *r = &making;
	char why[400] = "";

	r->t.clk = t->clk;
	r->t.medium = t->medium;
	r->t.geo = t->geo;
	the_run = &r->run;
	SC_CHECK(t, crash_mount(&r->t, 0, 99, NULL, &r->t.v[0], why, sizeof(why)) == 0, "%s", why);
	SC_OK(t, vol_root(r->t.v[0], &r->run.root));
	for (size_t k = 0; k < sizeof(setup) / sizeof(setup[0]); k++)
		run_op(r, &setup[k]);
	if (making_wide)
		widen(r);
	SC_OK(t, vol_unmount(r->t.v[0]));
	the_run = NULL;
	r->t.medium = simdev_medium_clone(t->medium);
}

static void no_check(struct simcluster *t)
{
	(void)t;
}

static void base_make(struct base *b, uint32_t sector_bytes, bool wide)
{
	struct record *r = &making;

	memset(r, 0, sizeof(*r));
	making_wide = wide;
	r->run.t = &r->t;
	r->run.hist = history_new(&r->run, SETUP_HOPS);
	r->run.inc[0].end = INC_CLEAN;
	for (unsigned h = 0; h < CRASH_HOSTS; h++)
		r->run.host[h].inc = &r->run.inc[0];
	sc_run(setup_body, &(struct sc_shape){.seed = 1,
					      .hosts = HOSTS_ON_DISK,
					      .journal_bytes = 1u << 20,
					      .sector_bytes = sector_bytes,
					      .done = no_check});
	*b = (struct base){.sector_bytes = sector_bytes,
			   .geo = r->t.geo,
			   .medium = r->t.medium,
			   .root = r->run.root};
	hist_keep(&r->run, &b->hop, &b->n_hops);
}

const struct base *base_get(uint32_t sector_bytes, bool wide)
{
	static struct base base[BASES];
	struct base *b = &base[2 * wide + (sector_bytes == 4096)];

	if (!b->medium)
		base_make(b, sector_bytes, wide);
	return b;
}
