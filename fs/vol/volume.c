/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mount and unmount. All objects are made before the claim, since a claim may have to recover a
 * dead host, which replays a journal and takes locks; threads are started after it, lowest layer
 * first.
 */
#include "vol/vol_impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- checks before anything is written ------------------------------------------------------- */

static int check_features(const struct geo *g, const struct dev *d, bool read_only, char *why,
			  size_t len)
{
	if (!read_only && (g->ro_compat & ~LUNFS_RO_COMPAT_KNOWN)) {
		snprintf(why, len,
			 "%s uses features (ro-compat %#llx) that this version of lunfs may only "
			 "read; mount it with -o ro, or use a newer version",
			 d->id.name, (unsigned long long)(g->ro_compat & ~LUNFS_RO_COMPAT_KNOWN));
		return -EROFS;
	}
	if (memcmp(g->dev_id, (uint8_t[64]){0}, 64) != 0 &&
	    memcmp(d->id.dev_id, (uint8_t[64]){0}, 64) != 0 &&
	    memcmp(g->dev_id, d->id.dev_id, 64) != 0) {
		snprintf(why, len,
			 "%s is a clone or snapshot: the volume on it was made on another LUN; it "
			 "is not mounted before it has an identity of its own",
			 d->id.name);
		return -ENOTUNIQ;
	}
	return 0;
}

static int check_contents(const struct geo *g, const struct dev *d, char *why, size_t len)
{
	if (!(g->incompat & LUNFS_INCOMPAT_IMAGE))
		return 0;
	snprintf(why, len,
		 "%s is an image of a volume's metadata (lunfs image): its files have no contents; "
		 "look at it with 'lunfs dump' and fsck.lunfs",
		 d->id.name);
	return -EMEDIUMTYPE;
}

static int check_device(const struct geo *g, struct dev *d, char *why, size_t len)
{
	if (d->id.read_only) {
		snprintf(why, len,
			 "%s is write-protected; every mount, read-only ones too, writes its host "
			 "slot and locks",
			 d->id.name);
		return -EROFS;
	}
	if (g->sector_bytes != d->id.sector_bytes) {
		snprintf(why, len,
			 "the volume was made for sectors of %u bytes, but %s has sectors of %u; "
			 "it cannot be used here",
			 g->sector_bytes, d->id.name, d->id.sector_bytes);
		return -EMEDIUMTYPE;
	}
	if (d->id.size_bytes / BLK < g->dev_blks) {
		snprintf(why, len,
			 "%s has %llu bytes, but the volume on it takes %llu; the device has "
			 "shrunk or is not all there",
			 d->id.name, (unsigned long long)d->id.size_bytes,
			 (unsigned long long)(g->dev_blks * BLK));
		return -ENOSPC;
	}
	return 0;
}

static int check_volume(const struct geo *g, struct dev *d, const struct vol_options *opt,
			char *why, size_t len)
{
	int rc = check_features(g, d, opt->read_only, why, len);

	if (rc == 0)
		rc = check_contents(g, d, why, len);
	return rc ? rc : check_device(g, d, why, len);
}

/* ---- objects --------------------------------------------------------------------------------- */

void vol_destroy(struct volume *v)
{
	if (v->aheads)
		aheads_free(v->aheads);
	if (v->orphans)
		orphans_free(v->orphans);
	if (v->alloc)
		alloc_free(v->alloc);
	if (v->txns)
		txns_free(v->txns);
	if (v->locks)
		locks_free(v->locks);
	if (v->host)
		host_free(v->host);
	if (v->firsts)
		firsts_free(v->firsts);
	if (v->onodes)
		onodes_free(v->onodes);
	ats_destroy(&v->ats);
	mtx_destroy(&v->super_mtx);
	free(v);
}

int vol_make_objects(struct volume *v, const struct vol_options *opt)
{
	struct host_config cfg = opt->host;
	struct host_cb hcb = vol_host_cb(v);
	struct lock_cb lcb = vol_lock_cb(v);
	int rc;

	cfg.read_only = opt->read_only;
	if (cfg.name[0] == '\0' && gethostname(cfg.name, sizeof(cfg.name) - 1) != 0)
		snprintf(cfg.name, sizeof(cfg.name), "localhost");
	memcpy(v->host_name, cfg.name, sizeof(v->host_name));
	v->firsts = firsts_new(v->env.clk);
	v->onodes = onodes_new(v->env.clk);
	v->orphans = orphans_new(v);
	v->aheads = aheads_new(v);
	rc = host_new(&v->env, &v->ats, &cfg, &hcb, &v->host);
	if (rc == 0)
		rc = locks_new(&v->env, &v->ats, v->host, &lcb, &v->locks);
	if (rc == 0)
		rc = txns_new(&v->env, v->host, v->locks, &v->txns);
	if (rc == 0)
		rc = alloc_new(&v->env, v->host, v->locks, v->txns, &v->alloc);
	if (rc == 0)
		host_io_init(&v->io, &v->env, v->host, txns_halted(v->txns));
	v->ne = (struct node_env){.env = &v->env, .txns = v->txns, .alloc = v->alloc};
	return rc;
}

struct volume *vol_new(struct dev *dev, struct clock *clk, const struct geo *g,
		       const struct vol_options *opt)
{
	struct volume *v = calloc(1, sizeof(*v));

	lunfs_assert(v);
	v->geo = *g;
	v->env = (struct env){.dev = dev, .clk = clk, .geo = &v->geo};
	v->cb = opt->cb;
	v->env.waits = opt->cb.waits;
	v->env.waits_ctx = opt->cb.ctx;
	v->read_only = opt->read_only;
	mtx_init(&v->super_mtx, clk);
	ats_init(&v->ats, &v->env);
	v->env.health = &v->ats.health;
	return v;
}

/* ---- starting and stopping ------------------------------------------------------------------- */

static int start(struct volume *v, const char **what)
{
	int rc;

	*what = "the locks could not be started";
	rc = locks_start(v->locks);
	if (rc)
		return rc;
	*what = "the journal could not be started";
	rc = v->read_only ? 0 : txns_start(v->txns);
	if (rc)
		return rc;
	*what = "the allocator could not be started";
	rc = alloc_start(v->alloc);
	if (rc)
		return rc;
	*what = "the orphan worker could not be started";
	rc = orphans_start(v->orphans);
	if (rc)
		return rc;
	*what = "reading ahead could not be started";
	return aheads_start(v->aheads);
}

/* Under the volume lock for the first time: the superblock again, and the root directory. */
static int first_look(struct volume *v, const char **what)
{
	struct vattr va;
	int rc;

	*what = "the root directory cannot be read; run fsck.lunfs";
	atomic_store(&v->super_stale, true);
	rc = vol_getattr(v, NULL, (struct nodeid){v->geo.root_ino, 0}, &va);
	if (rc == -ESTALE || (rc == 0 && !S_ISDIR(va.st.st_mode)))
		rc = -EUCLEAN;
	return rc;
}

/* Everything after the claim. 0: the slot is free again. */
static int stop(struct volume *v)
{
	int rc;

	v->running = false;
	if (atomic_load(&v->lost) || txn_failed(v->txns))
		host_give_up(v->host);
	aheads_stop(v->aheads);
	orphans_stop(v->orphans);
	locks_stop(v->locks);
	if (atomic_load(&v->lost) || txn_failed(v->txns)) {
		txns_abandon(v->txns);
		rc = -EIO;
	} else {
		rc = v->read_only ? 0 : txns_stop(v->txns);
	}
	alloc_stop(v->alloc);
	if (rc == 0)
		rc = host_release(v->host);
	else /* the others replay what is left */
		host_abandon(v->host);
	return rc;
}

int vol_mount(struct dev *dev, struct clock *clk, const struct vol_options *opt,
	      struct volume **out, char *why, size_t why_len)
{
	const char *what = "out of memory or threads";
	struct volume *v;
	struct geo g;
	bool copy;
	int rc;

	rc = vol_read_super(dev, &g, &copy, why, why_len);
	if (rc == 0)
		rc = check_volume(&g, dev, opt, why, why_len);
	if (rc)
		return rc;
	dev_set_deadline(dev, opt->host.deadline_ms ? opt->host.deadline_ms : g.deadline_ms);
	v = vol_new(dev, clk, &g, opt);
	rc = vol_make_objects(v, opt);
	if (rc) {
		snprintf(why, why_len, "%s: %s: %s", dev->id.name, what, strerror(-rc));
		vol_destroy(v);
		return rc;
	}
	rc = host_claim(v->host, why, why_len);
	if (rc) {
		vol_destroy(v);
		return rc;
	}
	v->running = true;
	rc = start(v, &what);
	if (rc == 0)
		rc = first_look(v, &what);
	if (rc) {
		snprintf(why, why_len, "%s: %s (%s)", dev->id.name, what, strerror(-rc));
		stop(v);
		vol_destroy(v);
		return rc;
	}
	orphans_scan(v->orphans);
	*out = v;
	return 0;
}

int vol_unmount(struct volume *v)
{
	struct dev *dev = v->env.dev;
	int rc = stop(v);

	if (rc)
		log_err("unmount",
			"%s was not unmounted cleanly; another host recovers it, or the next mount "
			"does.",
			dev->id.name);
	vol_destroy(v);
	dev_close(dev);
	return rc;
}

void vol_crash(struct volume *v)
{
	struct dev *dev = v->env.dev;

	atomic_store(&v->lost, true);
	v->running = false;
	host_abandon(v->host);
	txns_abandon(v->txns);
	aheads_stop(v->aheads);
	orphans_stop(v->orphans);
	locks_stop(v->locks);
	alloc_stop(v->alloc);
	vol_destroy(v);
	dev_close(dev);
}

const struct geo *vol_geo(const struct volume *v)
{
	return &v->geo;
}

struct host *vol_host(struct volume *v)
{
	return v->host;
}

bool vol_read_only(const struct volume *v)
{
	return v->read_only;
}
