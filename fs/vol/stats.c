/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Statistics as one JSON object, for `lunfs stats`. Counters count since the mount. All keys are
 * documented in lunfs(8); a test compares.
 */
#include "base/text.h"
#include "vol/vol_impl.h"
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <uuid/uuid.h>

static void put(struct json_object *o, const char *key, unsigned long long v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void put_str(struct json_object *o, const char *key, const char *v)
{
	char *plain = text_plain_dup(v); /* JSON is UTF-8, a path need not be */

	json_object_object_add(o, key, json_object_new_string(plain ? plain : ""));
	free(plain);
}

static const char *state_word(enum host_state s)
{
	switch (s) {
	case HOST_ACTIVE:
		return "active";
	case HOST_SUSPENDED:
		return "suspended";
	case HOST_LOST:
		return "lost";
	default:
		return "none";
	}
}

static const char *fence_word(enum lunfs_fence_mode f)
{
	static const char *const word[] = {"none", "timer", "pidfd", "pr", "watchdog"};

	return (size_t)f < sizeof(word) / sizeof(word[0]) ? word[f] : "unknown";
}

static const char *kind_word(enum dev_kind k)
{
	static const char *const word[] = {"file", "sg", "iscsi", "sim"};

	return (size_t)k < sizeof(word) / sizeof(word[0]) ? word[k] : "unknown";
}

static void put_device(struct json_object *o, struct volume *v)
{
	const struct dev *d = v->env.dev;
	char uuid[37];

	put(o, "ats_commands", atomic_load(&v->ats.stats.commands));
	put(o, "dev_reads", atomic_load(&d->stats.reads));
	put(o, "dev_writes", atomic_load(&d->stats.writes));
	put(o, "dev_flushes", atomic_load(&d->stats.flushes));
	put(o, "dev_discards", atomic_load(&d->stats.discards));
	put(o, "dev_read_bytes", atomic_load(&d->stats.read_bytes));
	put(o, "dev_write_bytes", atomic_load(&d->stats.write_bytes));
	put_str(o, "device", d->id.name);
	put_str(o, "device_kind", kind_word(d->id.kind));
	uuid_unparse_lower(v->geo.uuid, uuid);
	put_str(o, "uuid", uuid);
	put_str(o, "label", v->geo.label);
	json_object_object_add(o, "read_only", json_object_new_boolean(v->read_only));
}

static struct json_object *host_json(struct volume *v)
{
	struct json_object *o = json_object_new_object();

	put_str(o, "name", v->host_name);
	put(o, "slot", host_slot(v->host));
	put(o, "generation", LUNFS_OWNER_GEN(host_owner(v->host)));
	put_str(o, "state", state_word(host_state(v->host)));
	put_str(o, "fence", fence_word(host_fence(v->host)));
	put(o, "lease_left_ms", host_lease_left_ns(v->host) / 1000000);
	return o;
}

/* Only buckets that hold something: pairs of upper bound and count. */
static struct json_object *dist_json(struct dist *d)
{
	struct json_object *o = json_object_new_object(), *buckets = json_object_new_array();
	uint64_t max = atomic_load(&d->max_us), p50, p99;
	struct dist_copy c;

	dist_read(d, &c);
	p50 = dist_quantile_us(&c, 500);
	p99 = dist_quantile_us(&c, 990);
	put(o, "count", c.n);
	put(o, "sum_us", c.sum_us);
	put(o, "max_us", max);
	put(o, "p50_us", p50 < max ? p50 : max);
	put(o, "p99_us", p99 < max ? p99 : max);
	for (unsigned k = 0; k < DIST_BUCKETS; k++) {
		struct json_object *pair;

		if (!c.bucket[k])
			continue;
		pair = json_object_new_array();
		json_object_array_add(pair, json_object_new_uint64(dist_floor_us(k + 1)));
		json_object_array_add(pair, json_object_new_uint64(c.bucket[k]));
		json_object_array_add(buckets, pair);
	}
	json_object_object_add(o, "buckets", buckets);
	return o;
}

static struct json_object *latency_json(struct volume *v)
{
	struct json_object *all = json_object_new_object();
	struct health *h = &v->ats.health;

	for (unsigned op = 0; op < HEALTH_OPS; op++) {
		struct json_object *o = json_object_new_object();

		if (op <= HEALTH_OTHER)
			json_object_object_add(o, "queue", dist_json(&h->queue[op]));
		json_object_object_add(o, "device", dist_json(&h->device[op]));
		json_object_object_add(all, health_op_name((enum health_op)op), o);
	}
	return all;
}

static struct json_object *beats_json(struct volume *v)
{
	struct json_object *o = json_object_new_object();
	struct health *h = &v->ats.health;
	uint64_t min = atomic_load(&h->lease_left_min_us);

	json_object_object_add(o, "delay", dist_json(&h->beat_delay));
	json_object_object_add(o, "lease_left", dist_json(&h->lease_left));
	put(o, "lease_left_min_us", min == UINT64_MAX ? v->geo.lease_ms * 1000ull : min);
	return o;
}

static struct json_object *warnings_json(struct volume *v)
{
	struct json_object *o = json_object_new_object();

	for (unsigned w = 0; w < HEALTH_WARNINGS; w++)
		put(o, health_warning_name((enum health_warning)w),
		    atomic_load(&v->ats.health.warnings[w]));
	return o;
}

static struct json_object *ats_json(struct volume *v)
{
	struct json_object *o = json_object_new_object(), *errors = json_object_new_object();
	struct ats_stats *s = &v->ats.stats;

	for (unsigned k = 0; k < ATS_OUTCOMES; k++)
		put(o, ats_outcome_name((enum ats_outcome)k), atomic_load(&s->outcome[k]));
	put(o, "retries", atomic_load(&s->retries));
	put(o, "miscompares", atomic_load(&s->miscompares));
	put(o, "false_miscompares", atomic_load(&s->false_miscompares));
	for (unsigned k = DEV_CAUSE_NONE + 1; k < DEV_CAUSES; k++)
		put(errors, dev_cause_name((enum dev_cause)k), atomic_load(&s->cause[k]));
	json_object_object_add(o, "errors", errors);
	return o;
}

static struct json_object *locks_json(struct volume *v)
{
	const struct lock_stats *s = locks_stats(v->locks);
	struct json_object *o = json_object_new_object();

	put(o, "cold", atomic_load(&s->cold));
	put(o, "ahead", atomic_load(&s->ahead));
	put(o, "asked_ahead", aheads_got_from_others(v->aheads));
	put(o, "cached", atomic_load(&s->cached));
	put(o, "asked", atomic_load(&s->asked));
	put(o, "received", atomic_load(&s->received));
	put(o, "handed_over", atomic_load(&s->handed_over));
	put(o, "released", atomic_load(&s->released));
	put(o, "upgraded", atomic_load(&s->upgraded));
	put(o, "waits", atomic_load(&s->waits));
	put(o, "wait_us", atomic_load(&s->wait_us));
	put(o, "board_reads", atomic_load(&s->board_reads));
	put(o, "board_writes", atomic_load(&s->board_writes));
	return o;
}

static struct json_object *txns_json(struct volume *v)
{
	const struct txn_stats *s = txns_stats(v->txns);
	struct json_object *o = json_object_new_object();

	put(o, "commits", atomic_load(&s->commits));
	put(o, "committed_blocks", atomic_load(&s->committed_blocks));
	put(o, "checkpoints", atomic_load(&s->checkpoints));
	put(o, "checkpointed_blocks", atomic_load(&s->checkpointed_blocks));
	put(o, "log_blocks", atomic_load(&s->log_blocks));
	put(o, "replays", atomic_load(&s->replays));
	put(o, "replayed_blocks", atomic_load(&s->replayed_blocks));
	put(o, "skipped_blocks", atomic_load(&s->skipped_blocks));
	put(o, "cache_hits", atomic_load(&s->cache_hits));
	put(o, "cache_misses", atomic_load(&s->cache_misses));
	put(o, "cache_refilled", atomic_load(&s->cache_refilled));
	put(o, "commit_us_max", atomic_load(&s->commit_us_max));
	return o;
}

char *vol_stats_json(struct volume *v)
{
	struct json_object *o = json_object_new_object(), *orphans = json_object_new_object();
	uint64_t waiting, freed;
	char *text;

	put_device(o, v);
	put(o, "uptime_ms", (clock_now_ns(v->env.clk) - v->ats.health.since_ns) / 1000000);
	json_object_object_add(o, "host", host_json(v));
	json_object_object_add(o, "ats", ats_json(v));
	json_object_object_add(o, "latency", latency_json(v));
	json_object_object_add(o, "beats", beats_json(v));
	json_object_object_add(o, "warnings", warnings_json(v));
	json_object_object_add(o, "locks", locks_json(v));
	json_object_object_add(o, "transactions", txns_json(v));
	orphans_count(v->orphans, &waiting, &freed);
	put(orphans, "waiting", waiting);
	put(orphans, "freed", freed);
	json_object_object_add(o, "orphans", orphans);
	text = strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
	lunfs_assert(text);
	return text;
}
