/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lunfs hosts: the host table as it stands on the device, with the beat watched for a moment. */
#include "cli/cli.h"
#include <stdlib.h>
#include <string.h>

static const char *state_name(enum lunfs_slot_state s)
{
	switch (s) {
	case LUNFS_SLOT_FREE:
		return "free";
	case LUNFS_SLOT_LIVE:
		return "live";
	case LUNFS_SLOT_RECOVERING:
		return "recovering";
	}
	return "damaged";
}

static const char *fence_name(enum lunfs_fence_mode m)
{
	switch (m) {
	case LUNFS_FENCE_NONE:
		return "none";
	case LUNFS_FENCE_TIMER:
		return "timer";
	case LUNFS_FENCE_PIDFD:
		return "pidfd";
	case LUNFS_FENCE_PR:
		return "pr";
	case LUNFS_FENCE_WATCHDOG:
		return "watchdog";
	}
	return "unknown";
}

struct row {
	struct host_info hi;
	bool ok, beating;
};

static void read_rows(struct dev *dev, const struct geo *geo, struct row *rows)
{
	void *buf = dev_buf_alloc(geo->sector_bytes);

	for (unsigned s = 0; s < geo_all_slots(geo); s++)
		rows[s].ok = dev_read(dev, geo_slot_off(s), geo->sector_bytes, buf) == 0 &&
			     slot_decode(geo, buf, s, &rows[s].hi) == 0;
	free(buf);
}

static uint32_t longest_beat_ms(const struct geo *geo, const struct row *rows)
{
	uint32_t ms = 0;

	for (unsigned s = 0; s < geo_all_slots(geo); s++)
		if (rows[s].ok && rows[s].hi.state != LUNFS_SLOT_FREE && rows[s].hi.beat_ms > ms)
			ms = rows[s].hi.beat_ms;
	return ms;
}

/* Read again one and a half beats later: who moved is alive. */
static int watch(struct dev *dev, const struct geo *geo, struct row *rows)
{
	unsigned n = geo_all_slots(geo);
	uint32_t ms = longest_beat_ms(geo, rows);
	struct row *later;
	struct clock *clk;
	int rc;

	if (ms == 0)
		return 0;
	rc = clock_real_new(&clk);
	if (rc)
		return rc;
	clock_sleep_ns(clk, (uint64_t)ms * 1500000u);
	clk->ops->destroy(clk);
	later = calloc(n, sizeof(*later));
	if (!later)
		return -1;
	read_rows(dev, geo, later);
	for (unsigned s = 0; s < n; s++) {
		rows[s].beating = rows[s].ok && later[s].ok &&
				  (later[s].hi.beat_seq != rows[s].hi.beat_seq ||
				   later[s].hi.generation != rows[s].hi.generation);
		if (later[s].ok)
			rows[s].hi = later[s].hi;
	}
	free(later);
	return 0;
}

static void print_row(const struct row *r, unsigned slot)
{
	if (!r->ok) {
		printf("%4u  damaged\n", slot);
		return;
	}
	if (r->hi.state == LUNFS_SLOT_FREE)
		return;
	printf("%4u  %-10s  %-3s  %10llu  %-6s  %6u/%u/%u  %s%s\n", slot, state_name(r->hi.state),
	       r->beating ? "yes" : "no", (unsigned long long)r->hi.generation,
	       fence_name(r->hi.fence), r->hi.beat_ms, r->hi.deadline_ms, r->hi.lease_ms,
	       r->hi.hostname, r->hi.flags & 1 ? " (read-only)" : "");
}

static void print_text(const struct geo *geo, const struct row *rows)
{
	unsigned used = 0;

	printf("slot  state       beats generation  fence   beat/deadline/lease ms  host\n");
	for (unsigned s = 0; s < geo_all_slots(geo); s++) {
		print_row(&rows[s], s);
		used += rows[s].ok && rows[s].hi.state != LUNFS_SLOT_FREE;
	}
	printf("%u of %u hosts\n", used, geo->journals);
}

static struct json_object *row_json(const struct geo *geo, const struct row *r, unsigned slot)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "slot", json_object_new_int((int)slot));
	json_object_object_add(o, "state",
			       json_object_new_string(r->ok ? state_name(r->hi.state) : "damaged"));
	json_object_object_add(
	    o, "journal", json_object_new_boolean(slot < geo->slots && geo->journal_blk[slot]));
	if (!r->ok)
		return o;
	cli_add_text(o, "host", r->hi.hostname);
	json_object_object_add(o, "beating", json_object_new_boolean(r->beating));
	json_object_object_add(o, "generation", json_object_new_uint64(r->hi.generation));
	json_object_object_add(o, "beat_seq", json_object_new_uint64(r->hi.beat_seq));
	json_object_object_add(o, "fence", json_object_new_string(fence_name(r->hi.fence)));
	json_object_object_add(o, "beat_ms", json_object_new_uint64(r->hi.beat_ms));
	json_object_object_add(o, "deadline_ms", json_object_new_uint64(r->hi.deadline_ms));
	json_object_object_add(o, "lease_ms", json_object_new_uint64(r->hi.lease_ms));
	json_object_object_add(o, "claimed_at", json_object_new_uint64(r->hi.claim_time_s));
	json_object_object_add(o, "pid", json_object_new_uint64(r->hi.pid));
	json_object_object_add(o, "read_only", json_object_new_boolean(r->hi.flags & 1));
	if (r->hi.state == LUNFS_SLOT_RECOVERING)
		json_object_object_add(o, "recovered_by_slot",
				       json_object_new_uint64(LUNFS_OWNER_SLOT(r->hi.recoverer)));
	return o;
}

static void print_json(const struct geo *geo, const struct row *rows)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	for (unsigned s = 0; s < geo_all_slots(geo); s++)
		json_object_array_add(list, row_json(geo, &rows[s], s));
	json_object_object_add(o, "slots", json_object_new_uint64(geo->slots));
	json_object_object_add(o, "journals", json_object_new_uint64(geo->journals));
	json_object_object_add(o, "hosts", list);
	cli_print_json(o);
}

int cmd_hosts(const struct cli *c)
{
	struct dev *dev;
	struct geo geo;
	struct row *rows;
	int rc;

	if (cli_open(c->target, &dev, &geo))
		return EX_CLI_FAIL;
	rows = calloc(geo_all_slots(&geo), sizeof(*rows));
	if (!rows)
		return EX_CLI_FAIL;
	read_rows(dev, &geo, rows);
	rc = watch(dev, &geo, rows);
	if (c->json)
		print_json(&geo, rows);
	else
		print_text(&geo, rows);
	free(rows);
	dev_close(dev);
	return rc ? EX_CLI_FAIL : EX_CLI_OK;
}
