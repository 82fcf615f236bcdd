/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One image of a cut medium: mounted, read, unmounted, checked; and its recovery cut in its turn.
 */
#include "crash.h"

#include "simdev_impl.h"
#include "simrand.h"

#include <stdio.h>
#include <stdlib.h>

#define IO_BYTES 65536u
#define LIST_MAX 256u
#define DEEP 16u
#define RECOVERERS 3u
#define STEPS_MAX 50000000u
#define RECOVERY_NS (10 * SC_S)

struct look {
	struct obs *o;
	struct simcluster t;
	struct sim_run run;
	struct rec rec;
	bool record;
	uint64_t seed;
	unsigned host;
	uint8_t *buf;
	struct volume *v;
};

static void wrong(struct look *l, const char *what, const char *why)
{
	if (!l->o->wrong[0])
		snprintf(l->o->wrong, sizeof(l->o->wrong), "%s: %.600s", what, why);
}

/* ---- reading --------------------------------------------------------------------------------- */

static struct hop *begin(struct look *l, enum hop_kind kind, struct nodeid id)
{
	struct hop *h = hop_begin(&l->run, l->host, 0, kind);

	if (!h) {
		wrong(l, "reading", "there is more in the tree than was ever put there: a loop?");
		return NULL;
	}
	h->id = id;
	return h;
}

static void end(struct look *l, struct hop *h, int rc, const struct vattr *va)
{
	char text[400];

	hop_end(&l->run, h, rc, va);
	if (rc == -EIO || rc == -EUCLEAN)
		wrong(l, "reading", hop_text(h, text, sizeof(text)));
}

static void keep(struct hop *h, const void *buf, size_t len)
{
	h->done = len;
	if (len == 0)
		return;
	h->data = malloc(len);
	lunfs_assert(h->data);
	memcpy(h->data, buf, len);
}

static void read_data(struct look *l, struct nodeid id, uint64_t size)
{
	for (uint64_t off = 0; off < size && off < 32 * IO_BYTES; off += IO_BYTES) {
		struct hop *h = begin(l, HOP_READ, id);
		size_t done = 0;
		int rc;

		if (!h)
			return;
		h->off = off;
		h->len = IO_BYTES;
		hop_call(&l->run, h);
		rc = vol_read(l->v, &h->ctx, id, off, IO_BYTES, l->buf, &done);
		if (rc == 0)
			keep(h, l->buf, done);
		end(l, h, rc, NULL);
	}
}

static void read_xattr(struct look *l, struct nodeid id, const char *name)
{
	struct hop *h = begin(l, HOP_GETXATTR, id);
	size_t len = 0;
	int rc;

	if (!h)
		return;
	snprintf(h->name, sizeof(h->name), "%s", name);
	hop_call(&l->run, h);
	rc = vol_getxattr(l->v, &h->ctx, id, h->name, l->buf, IO_BYTES, &len);
	if (rc == 0)
		keep(h, l->buf, len);
	end(l, h, rc, NULL);
}

static void read_link(struct look *l, struct nodeid id)
{
	struct hop *h = begin(l, HOP_READLINK, id);
	char buf[64] = "";
	int rc;

	if (!h)
		return;
	hop_call(&l->run, h);
	rc = vol_readlink(l->v, &h->ctx, id, buf, sizeof(buf));
	snprintf(h->name, sizeof(h->name), "%.11s", buf);
	end(l, h, rc, NULL);
}

static struct hop *list(struct look *l, struct nodeid dir)
{
	struct vdirent *vd = calloc(LIST_MAX, sizeof(*vd));
	struct hop *h = begin(l, HOP_READDIR, dir);
	struct hop_entry *e = calloc(LIST_MAX, sizeof(*e));
	size_t n = 0;
	int rc;

	lunfs_assert(vd && e);
	if (!h)
		goto out;
	hop_call(&l->run, h);
	rc = vol_readdir(l->v, &h->ctx, dir, 0, VATTRS_NONE, vd, LIST_MAX, &n);
	for (size_t k = 0; k < n; k++) {
		snprintf(e[k].name, sizeof(e[k].name), "%.11s", vd[k].de.name);
		e[k].ino = vd[k].de.ino;
		e[k].generation = vd[k].de.generation;
		e[k].type = vd[k].de.type;
	}
	keep(h, e, n * sizeof(*e));
	h->done = n;
	end(l, h, rc, NULL);
out:
	free(vd);
	free(e);
	return h;
}

static void read_dir(struct look *l, struct nodeid dir, unsigned depth);

static void read_entry(struct look *l, struct nodeid dir, const char *name, unsigned depth)
{
	struct hop *h = begin(l, HOP_LOOKUP, dir);
	struct vattr va = {0};
	int rc;

	if (!h)
		return;
	memcpy(h->name, name, sizeof(h->name));
	hop_call(&l->run, h);
	rc = vol_lookup(l->v, &h->ctx, dir, h->name, &va);
	end(l, h, rc, &va);
	if (rc)
		return;
	if (S_ISDIR(va.st.st_mode))
		read_dir(l, va.id, depth + 1);
	else if (S_ISLNK(va.st.st_mode))
		read_link(l, va.id);
	if (!S_ISREG(va.st.st_mode))
		return;
	read_data(l, va.id, (uint64_t)va.st.st_size);
	read_xattr(l, va.id, "user.x");
	read_xattr(l, va.id, "user.y");
}

static void read_dir(struct look *l, struct nodeid dir, unsigned depth)
{
	struct hop *h = depth < DEEP ? list(l, dir) : NULL;

	for (uint64_t k = 0; h && k < h->done; k++) {
		const struct hop_entry *e = (const struct hop_entry *)h->data + k;

		if (strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0)
			read_entry(l, dir, e->name, depth);
	}
}

/* ---- the digest of a tree -------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, const void *p, size_t len)
{
	const uint8_t *b = p;

	for (size_t k = 0; k < len; k++)
		h = (h ^ b[k]) * 0x100000001b3ull;
	return h;
}

static uint64_t digest_of(const struct obs *o)
{
	uint64_t d = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < o->n_hops; i++) {
		const struct hop *h = &o->hop[i];
		size_t len =
		    h->kind == HOP_READDIR ? h->done * sizeof(struct hop_entry) : (size_t)h->done;

		d = mix(d, &h->kind, sizeof(h->kind));
		d = mix(d, &h->rc, sizeof(h->rc));
		d = mix(d, h->name, sizeof(h->name));
		d = mix(d, &h->out, sizeof(h->out));
		d = mix(d, &h->mode, sizeof(h->mode));
		d = mix(d, &h->nlink, sizeof(h->nlink));
		d = mix(d, &h->size, sizeof(h->size));
		if (h->data)
			d = mix(d, h->data, len);
	}
	return d;
}

/* ---- a look ---------------------------------------------------------------------------------- */

static void check_medium(struct look *l)
{
	unsigned long long stale, n = run_fsck(&l->t, &stale);
	char text[64];

	snprintf(text, sizeof(text), "%llu problems (%llu lost writes)", n, stale);
	if (n)
		wrong(l, "fsck", text);
}

/* Every slot but the reader's own is free: whoever died has been recovered. */
static bool all_recovered(struct look *l)
{
	struct host_info slot[LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS];
	unsigned n = geo_all_slots(&l->t.geo), own = host_slot(vol_host(l->v));

	host_table(vol_host(l->v), slot, n);
	for (unsigned s = 0; s < n; s++)
		if (s != own && slot[s].state != LUNFS_SLOT_FREE)
			return false;
	return true;
}

static void wait_recovered(struct look *l)
{
	uint64_t until_ns = clock_now_ns(l->t.clk) + RECOVERY_NS;

	while (!all_recovered(l)) {
		if (clock_now_ns(l->t.clk) > until_ns) {
			wrong(l, "recovery", "a dead host was not recovered in ten seconds");
			return;
		}
		clock_sleep_ns(l->t.clk, RECOVERY_NS / 200);
	}
}

static void look_task(void *arg)
{
	struct look *l = arg;
	char why[400] = "";
	struct nodeid root;
	int rc;

	l->rec.on = l->record;
	rc = crash_mount(&l->t, l->host, 1000 + l->seed % 1000, l->record ? &l->rec : NULL, &l->v,
			 why, sizeof(why));
	if (rc) {
		wrong(l, "mount", why);
		return;
	}
	rc = vol_root(l->v, &root);
	if (rc)
		wrong(l, "root", strerror(-rc));
	else
		read_dir(l, root, 0);
	wait_recovered(l);
	if (l->seed & 1)
		orphans_settle(l->v->orphans, 20 * SC_S);
	rc = vol_unmount(l->v);
	if (rc)
		wrong(l, "unmount", strerror(-rc));
	l->rec.on = false;
	check_medium(l);
}

static void look_begin(struct look *l, const struct base *b, struct simdev_medium *m)
{
	static const uint8_t who[4] = {0, 0, 1, 2};

	l->host = who[l->seed >> 8 & 3];
	l->run.t = &l->t;
	l->t.seed = l->seed;
	l->t.geo = b->geo;
	l->t.medium = m;
	l->t.clk = simclock_new();
	m->clk = l->t.clk;
	simdev_seed(m, l->seed);
	simclock_set_limits(l->t.clk, STEPS_MAX, 0);
	l->run.hist = history_new(&l->run, OBS_HOPS);
	for (unsigned h = 0; h < RECOVERERS; h++)
		l->run.host[h].inc = &l->run.inc[0];
	l->buf = dev_buf_alloc(IO_BYTES);
	the_run = &l->run;
	crash_complaint[0] = '\0';
}

static void look_end(struct look *l)
{
	the_run = NULL;
	if (crash_complaint[0])
		wrong(l, "an error was logged", crash_complaint);
	hist_keep(&l->run, &l->o->hop, &l->o->n_hops);
	l->o->digest = digest_of(l->o);
	simdev_medium_end(l->t.medium);
	l->t.clk->ops->destroy(l->t.clk);
	free(l->buf);
}

/* ---- and once more --------------------------------------------------------------------------- */

static void cut_recovery(struct look *l, const struct base *b, struct cutter *c, uint64_t *rng)
{
	unsigned list[CHOICES_MAX], n = cutter_choices(c, list);
	unsigned v = list[sim_rand_below(rng, n)];
	uint64_t hash = cutter_hash(c, v);
	struct obs *o = image_look(b, cutter_image(c), l->seed ^ hash, 0);
	char text[600];

	l->o->second++;
	snprintf(text, sizeof(text), "cut at event %zu, choice %u: %.400s", c->at, v,
		 o->wrong[0] ? o->wrong : "another tree than the first recovery found");
	if (o->wrong[0] || o->digest != l->o->digest)
		wrong(l, "a recovery that was cut off", text);
	if (crash_trace && (o->wrong[0] || o->digest != l->o->digest))
		cutter_say(c, v);
	obs_free(o);
}

static void cut_again(struct look *l, const struct base *b, struct simdev_medium *m, unsigned again)
{
	size_t left = l->rec.n_events;
	uint64_t rng = l->seed;
	struct cutter c;

	cutter_init(&c, m, b->sector_bytes, &l->rec);
	for (; left > 0 && again > 0; left--) {
		if (!cutter_step(&c) || sim_rand_below(&rng, left) >= again)
			continue;
		cut_recovery(l, b, &c, &rng);
		again--;
	}
	cutter_free(&c);
}

struct obs *image_look(const struct base *b, struct simdev_medium *m, uint64_t seed, unsigned again)
{
	struct look *l = calloc(1, sizeof(*l));
	struct simdev_medium *before = again ? simdev_medium_clone(m) : NULL;
	struct obs *o = calloc(1, sizeof(*o));

	lunfs_assert(l && o);
	l->o = o;
	l->seed = seed;
	l->record = again;
	look_begin(l, b, m);
	simclock_run(l->t.clk, look_task, l, seed);
	look_end(l);
	if (again && !o->wrong[0])
		cut_again(l, b, before, again);
	if (before)
		simdev_medium_put(before);
	rec_clear(&l->rec);
	free(l);
	return o;
}

void obs_free(struct obs *o)
{
	for (size_t i = 0; i < o->n_hops; i++)
		free(o->hop[i].data);
	free(o->hop);
	free(o);
}
