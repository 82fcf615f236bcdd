/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs hosts: the host table as it stands on the device, with the beat watched for a moment, and
 * the reservation keys that the device knows, set against the hosts they belong to.
 */
#include "base/log.h"
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
	unsigned keys; /* paths registered with its nonce */
};

struct table {
	const struct geo *geo;
	struct row *rows;
	bool keys_known; /* the device has told its keys */
	struct dev_pr_state pr;
	uint64_t key[DEV_PR_KEYS_MAX];
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

/* ---- reservations ---------------------------------------------------------------------------- */

static void read_keys(struct dev *dev, struct table *t)
{
	t->pr.keys = t->key;
	t->keys_known = dev->ops->pr && dev->ops->pr->read_state(dev, &t->pr) == 0 &&
			t->pr.nkeys <= DEV_PR_KEYS_MAX;
	if (!t->keys_known)
		t->pr = (struct dev_pr_state){.keys = t->key};
	for (unsigned s = 0; s < geo_all_slots(t->geo); s++)
		for (size_t i = 0; i < t->pr.nkeys; i++)
			t->rows[s].keys += t->rows[s].ok && t->rows[s].hi.nonce == t->key[i];
}

/* The slot whose host registered it, alive or not; the number of slots when nobody's. */
static unsigned slot_of_key(const struct table *t, uint64_t key)
{
	unsigned s = 0;

	while (s < geo_all_slots(t->geo) && !(t->rows[s].ok && t->rows[s].hi.nonce == key))
		s++;
	return s;
}

static const char *key_word(const struct table *t, const struct row *r)
{
	if (r->hi.fence != LUNFS_FENCE_PR)
		return "-";
	if (!t->keys_known)
		return "?";
	return r->keys ? "yes" : "no";
}

static void print_keys(const struct table *t)
{
	if (!t->keys_known)
		return;
	if (t->pr.reserved)
		printf("reserved: type %u%s\n", t->pr.type,
		       t->pr.type == DEV_PR_TYPE_WE_AR ? " (registered hosts write, nobody else)"
						       : " (not by lunfs)");
	for (size_t i = 0; i < t->pr.nkeys; i++) {
		unsigned s = slot_of_key(t, t->key[i]);

		if (s == geo_all_slots(t->geo))
			printf("key %016llx is registered by nobody known\n",
			       (unsigned long long)t->key[i]);
		else if (t->rows[s].hi.state == LUNFS_SLOT_FREE)
			printf("key %016llx was left over by %s (slot %u)\n",
			       (unsigned long long)t->key[i], t->rows[s].hi.hostname, s);
	}
}

/* ---- output ---------------------------------------------------------------------------------- */

/* Who recovers it, if its slot still says who that is; else NULL. */
static const struct row *recoverer_of(const struct table *t, const struct row *r)
{
	unsigned s = LUNFS_OWNER_SLOT(r->hi.recoverer);

	if (r->hi.state != LUNFS_SLOT_RECOVERING || s >= geo_all_slots(t->geo) || !t->rows[s].ok ||
	    t->rows[s].hi.generation != LUNFS_OWNER_GEN(r->hi.recoverer))
		return NULL;
	return &t->rows[s];
}

static void print_row(const struct table *t, unsigned slot)
{
	const struct row *r = &t->rows[slot], *by;

	if (!r->ok) {
		printf("%4u  damaged\n", slot);
		return;
	}
	if (r->hi.state == LUNFS_SLOT_FREE)
		return;
	by = recoverer_of(t, r);
	printf("%4u  %-10s  %-3s  %10llu  %-8s  %-3s  %6u/%u/%u  %s%s", slot,
	       state_name(r->hi.state), r->beating ? "yes" : "no",
	       (unsigned long long)r->hi.generation, fence_name(r->hi.fence), key_word(t, r),
	       r->hi.beat_ms, r->hi.deadline_ms, r->hi.lease_ms, r->hi.hostname,
	       r->hi.flags & 1 ? " (read-only)" : "");
	if (r->hi.state == LUNFS_SLOT_RECOVERING)
		printf(", recovered by %s (slot %u)", by ? by->hi.hostname : "a host that is gone",
		       LUNFS_OWNER_SLOT(r->hi.recoverer));
	putchar('\n');
}

static void print_text(const struct table *t)
{
	unsigned used = 0;

	printf("slot  state       beats generation  fence     key  beat/deadline/lease ms  host\n");
	for (unsigned s = 0; s < geo_all_slots(t->geo); s++) {
		print_row(t, s);
		used += t->rows[s].ok && t->rows[s].hi.state != LUNFS_SLOT_FREE;
	}
	print_keys(t);
	printf("%u of %u hosts\n", used, t->geo->journals);
}

static void add_recoverer(struct json_object *o, const struct table *t, const struct row *r)
{
	const struct row *by = recoverer_of(t, r);

	if (r->hi.state != LUNFS_SLOT_RECOVERING)
		return;
	json_object_object_add(o, "recovered_by_slot",
			       json_object_new_uint64(LUNFS_OWNER_SLOT(r->hi.recoverer)));
	json_object_object_add(o, "recovered_by_generation",
			       json_object_new_uint64(LUNFS_OWNER_GEN(r->hi.recoverer)));
	if (by)
		cli_add_text(o, "recovered_by_host", by->hi.hostname);
}

static void add_hex(struct json_object *o, const char *key, uint64_t value)
{
	char text[20];

	snprintf(text, sizeof(text), "%016llx", (unsigned long long)value);
	json_object_object_add(o, key, json_object_new_string(text));
}

static struct json_object *row_json(const struct table *t, unsigned slot)
{
	struct json_object *o = json_object_new_object();
	const struct geo *geo = t->geo;
	const struct row *r = &t->rows[slot];

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
	add_hex(o, "nonce", r->hi.nonce);
	if (t->keys_known)
		json_object_object_add(o, "registered", json_object_new_boolean(r->keys != 0));
	json_object_object_add(o, "beat_ms", json_object_new_uint64(r->hi.beat_ms));
	json_object_object_add(o, "deadline_ms", json_object_new_uint64(r->hi.deadline_ms));
	json_object_object_add(o, "lease_ms", json_object_new_uint64(r->hi.lease_ms));
	json_object_object_add(o, "claimed_at", json_object_new_uint64(r->hi.claim_time_s));
	json_object_object_add(o, "pid", json_object_new_uint64(r->hi.pid));
	json_object_object_add(o, "read_only", json_object_new_boolean(r->hi.flags & 1));
	add_recoverer(o, t, r);
	return o;
}

static struct json_object *keys_json(const struct table *t)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < t->pr.nkeys; i++) {
		struct json_object *k = json_object_new_object();
		unsigned s = slot_of_key(t, t->key[i]);

		add_hex(k, "key", t->key[i]);
		if (s < geo_all_slots(t->geo))
			json_object_object_add(k, "slot", json_object_new_uint64(s));
		json_object_array_add(list, k);
	}
	return list;
}

static void print_json(const struct table *t)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	for (unsigned s = 0; s < geo_all_slots(t->geo); s++)
		json_object_array_add(list, row_json(t, s));
	json_object_object_add(o, "slots", json_object_new_uint64(t->geo->slots));
	json_object_object_add(o, "journals", json_object_new_uint64(t->geo->journals));
	json_object_object_add(o, "hosts", list);
	if (t->keys_known) {
		json_object_object_add(o, "reserved", json_object_new_boolean(t->pr.reserved));
		if (t->pr.reserved)
			json_object_object_add(o, "reservation_type",
					       json_object_new_uint64(t->pr.type));
		json_object_object_add(o, "keys", keys_json(t));
	}
	cli_print_json(o);
}

int cmd_hosts(const struct cli *c)
{
	struct table *t;
	struct dev *dev;
	struct geo geo;
	int rc;

	if (cli_open(c->target, &dev, &geo))
		return EX_CLI_FAIL;
	t = calloc(1, sizeof(*t));
	lunfs_assert(t);
	t->geo = &geo;
	t->rows = calloc(geo_all_slots(&geo), sizeof(*t->rows));
	lunfs_assert(t->rows);
	read_rows(dev, &geo, t->rows);
	rc = watch(dev, &geo, t->rows);
	read_keys(dev, t);
	if (c->json)
		print_json(t);
	else
		print_text(t);
	free(t->rows);
	free(t);
	dev_close(dev);
	return rc ? EX_CLI_FAIL : EX_CLI_OK;
}
