/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs clear-keys: takes all reservation keys and the reservation off a device that nobody uses,
 * for the rare left-over that stands in the way of every mount. The host table is watched for the
 * longest lease in it first; slots are left as they are, and the next mount recovers the dead.
 */
#include "cli/cli.h"
#include "cluster/pr.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000ull

static int read_table(struct dev *d, const struct geo *g, uint8_t *buf)
{
	int rc = dev_read(d, geo_slot_off(0), (size_t)geo_all_slots(g) * LUNFS_SLOT_STRIDE, buf);

	if (rc)
		fprintf(stderr, "lunfs: the host table of %s cannot be read: %s\n", d->id.name,
			strerror(-rc));
	return rc;
}

static uint32_t longest_ms(const struct geo *g, const uint8_t *table)
{
	uint32_t ms = 0;

	for (unsigned s = 0; s < geo_all_slots(g); s++) {
		struct host_info hi;

		if (slot_decode(g, table + s * LUNFS_SLOT_STRIDE, s, &hi) == 0 &&
		    hi.state != LUNFS_SLOT_FREE && hi.lease_ms + hi.beat_ms > ms)
			ms = hi.lease_ms + hi.beat_ms;
	}
	return ms;
}

static int refuse_change(struct dev *d, const struct geo *g, const uint8_t *before,
			 const uint8_t *now)
{
	for (unsigned s = 0; s < geo_all_slots(g); s++)
		if (memcmp(before + s * LUNFS_SLOT_STRIDE, now + s * LUNFS_SLOT_STRIDE, 512) != 0) {
			fprintf(stderr,
				"lunfs: %s is in use: slot %u of its host table is alive; unmount "
				"it everywhere first\n",
				d->id.name, s);
			return -EBUSY;
		}
	return 0;
}

/* Nobody is alive when no slot changes for the longest lease and a beat. */
static int watch(struct dev *d, const struct geo *g, struct clock *clk)
{
	size_t len = (size_t)geo_all_slots(g) * LUNFS_SLOT_STRIDE;
	uint8_t *before = dev_buf_alloc(len), *now = dev_buf_alloc(len);
	int rc = read_table(d, g, before);
	uint32_t ms = rc ? 0 : longest_ms(g, before);
	uint64_t end = clock_now_ns(clk) + ms * NS_PER_MS;
	bool last = rc != 0;

	while (!last) {
		last = clock_now_ns(clk) >= end;
		rc = read_table(d, g, now);
		if (!rc)
			rc = refuse_change(d, g, before, now);
		if (rc)
			break;
		if (!last)
			clock_sleep_ns(clk, ms / 32 * NS_PER_MS + NS_PER_MS);
	}
	free(before);
	free(now);
	return rc;
}

static int clear(struct dev *d, struct clock *clk)
{
	struct pr_temporary t;
	char why[512] = "";
	int rc;

	if (!d->ops->pr) {
		fprintf(stderr, "lunfs: %s has no persistent reservations\n", d->id.name);
		return -EOPNOTSUPP;
	}
	rc = pr_temporary_take(&t, d, clk, why, sizeof(why));
	pr_temporary_end(&t);
	if (rc)
		fprintf(stderr, "lunfs: %s\n", why);
	return rc;
}

int cmd_clear_keys(const struct cli *c)
{
	char why[512] = "";
	struct clock *clk;
	struct dev *d;
	struct geo g;
	int rc;

	if (cli_open(c->target, &d, &g))
		return EX_CLI_FAIL;
	dev_close(d);
	rc = dev_open(c->target, 0, g.sector_bytes, &d, why, sizeof(why));
	if (rc) {
		fprintf(stderr, "lunfs: %s\n", why);
		return EX_CLI_FAIL;
	}
	rc = clock_real_new(&clk);
	if (rc == 0) {
		rc = watch(d, &g, clk);
		if (rc == 0)
			rc = clear(d, clk);
		clk->ops->destroy(clk);
	}
	dev_close(d);
	return rc ? EX_CLI_FAIL : EX_CLI_OK;
}
