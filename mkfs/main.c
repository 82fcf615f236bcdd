/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkfs.lunfs: make a lunfs volume. Looks before it writes: at the device, at what stands on it, at
 * whether somebody uses that. Exit codes are those of mke2fs: 0 done, 1 not done.
 */
#include "mkfs.h"

#include "base/log.h"
#include "cluster/pr.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uuid/uuid.h>

struct run {
	struct mkfs_options o;
	struct dev *d;
	struct clock *clk;
	struct geo g;
	struct mkfs_found found;
	struct live_table *old;
	struct pr_temporary pr;
	char why[MKFS_WHY_BYTES];
};

static void size_text(uint64_t bytes, char *out, size_t len)
{
	static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
	unsigned u = 0;
	double x = (double)bytes / 1024;

	while (x >= 1024 && u < 4) {
		x /= 1024;
		u++;
	}
	snprintf(out, len, x < 100 && x != (double)(uint64_t)x ? "%.1f %s" : "%.0f %s", x, unit[u]);
}

static void describe(const struct run *r)
{
	const struct geo *g = &r->g;
	char size[32], journal[32], group[32], uuid[37];

	size_text(g->dev_blks * LUNFS_BLOCK_BYTES, size, sizeof(size));
	size_text((uint64_t)g->journal_blks * LUNFS_BLOCK_BYTES, journal, sizeof(journal));
	size_text((uint64_t)g->group_blks * LUNFS_BLOCK_BYTES, group, sizeof(group));
	uuid_unparse(g->uuid, uuid);
	printf("%s: %s, sectors of %u bytes, metadata cells of %u bytes\n", r->o.device, size,
	       g->sector_bytes, geo_cell_bytes(g));
	printf("UUID %s%s%s\n", uuid, g->label[0] ? ", label " : "", g->label);
	printf("%u hosts with a journal of %s each, %u slots, %llu groups of %s\n", g->journals,
	       journal, g->slots, (unsigned long long)g->groups, group);
	printf("beat %u ms, I/O deadline %u ms, lease %u ms\n", g->beat_ms, g->deadline_ms,
	       g->lease_ms);
}

static int open_device(struct run *r)
{
	unsigned flags = DEV_OPEN_EXCL | (r->o.dry_run ? DEV_OPEN_RDONLY : 0) |
			 (r->o.force_file ? DEV_OPEN_FORCE_FILE : 0);
	int err = dev_open(r->o.device, flags, r->o.sector_bytes, &r->d, r->why, sizeof(r->why));

	if (err)
		return err;
	if (r->d->id.read_only && !r->o.dry_run) {
		snprintf(r->why, sizeof(r->why), "It is read-only.");
		return -EROFS;
	}
	return 0;
}

static int plan(struct run *r)
{
	struct geo *g = &r->g;
	struct timespec now;
	int err = layout_make(&r->o, r->d->id.size_bytes, r->d->id.sector_bytes,
			      r->d->id.phys_bytes, g, r->why, sizeof(r->why));

	if (err)
		return err;
	memcpy(g->uuid, r->o.uuid, sizeof(g->uuid));
	memcpy(g->label, r->o.label, strlen(r->o.label));
	memcpy(g->dev_id, r->d->id.dev_id, sizeof(g->dev_id));
	uuid_generate_random(g->vol_id);
	r->clk->ops->random(r->clk, g->hash_key, sizeof(g->hash_key));
	r->clk->ops->realtime(r->clk, &now);
	g->mkfs_time_s = (uint64_t)now.tv_sec;
	return 0;
}

/* Nobody uses it, nothing of value stands there, and the device can do what lunfs lives by. */
static int permission(struct run *r)
{
	int err = live_watch(r->d, r->clk, r->o.quiet, &r->old, r->why, sizeof(r->why));

	if (!err)
		err = probe_signatures(r->d, &r->found, r->why, sizeof(r->why));
	if (err)
		return err;
	if (r->found.names[0] && !r->o.force) {
		snprintf(r->why, sizeof(r->why),
			 "It holds something already: %s. Use -f to overwrite it.", r->found.names);
		return -EEXIST;
	}
	if (r->o.dry_run)
		return 0;
	err = pr_temporary_take(&r->pr, r->d, r->clk, r->why, sizeof(r->why));
	if (err)
		return err;
	return dev_caw_probe(r->d, LUNFS_SCRATCH_OFF, r->why, sizeof(r->why));
}

static int format(struct run *r)
{
	int err = open_device(r);

	if (!err)
		err = plan(r);
	if (!err)
		err = permission(r);
	if (err)
		return err;
	if (!r->o.quiet)
		describe(r);
	if (r->o.dry_run) {
		if (!r->o.quiet)
			printf("Nothing was written (-n).\n");
		return 0;
	}
	err = volume_write(r->d, r->clk, &r->g, &r->found, r->old, r->why, sizeof(r->why));
	if (!err && !r->o.quiet)
		printf("Done.\n");
	return err;
}

static void say_why(const struct run *r, int err)
{
	const char *why = r->why[0] ? r->why : strerror(-err);

	if (strncmp(why, r->o.device, strlen(r->o.device)) == 0) /* it names the device itself */
		fprintf(stderr, "mkfs.lunfs: %s\n", why);
	else
		fprintf(stderr, "mkfs.lunfs: %s: %s\n", r->o.device, why);
}

int main(int argc, char **argv)
{
	static struct run r;
	int rc = options_parse(&r.o, argc, argv);

	if (rc)
		return rc < 0 ? 1 : 0;
	log_open("mkfs.lunfs", LOG_LVL_WARN, 0);
	if (clock_real_new(&r.clk) != 0) {
		fprintf(stderr, "mkfs.lunfs: there is no memory.\n");
		return 1;
	}
	rc = format(&r);
	if (rc)
		say_why(&r, rc);
	pr_temporary_end(&r.pr);
	live_free(r.old);
	found_free(&r.found);
	if (r.d)
		dev_close(r.d);
	r.clk->ops->destroy(r.clk);
	return rc ? 1 : 0;
}
