/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Statistics as one JSON object, for `lunfs stats`. Counters count since the mount. Keys:
 *
 *   ats_commands                         COMPARE AND WRITE commands sent, retries included
 *   dev_reads, dev_writes, dev_flushes, dev_discards, dev_read_bytes, dev_write_bytes
 *   device, device_kind                  name and backend (file, sg, iscsi, sim)
 *   uuid, label, read_only
 *   host                                 name, slot, generation, state (active, suspended, lost),
 *                                        fence (none, timer, pidfd, pr, watchdog), lease_left_ms
 *   ats                                  outcomes by name, retries, max_device_us,
 *                                        latency_us: queue and device, {"<2^n": count}
 *   locks                                cold (read and taken), cached (no I/O), asked, received,
 *                                        handed_over, released, upgraded, waits, wait_us,
 *                                        board_reads, board_writes
 *   transactions                         commits, committed_blocks, checkpoints,
 *                                        checkpointed_blocks, log_blocks, replays, replayed_blocks,
 *                                        skipped_blocks, cache_hits, cache_misses, commit_us_max
 *   orphans                              waiting (looked after now), freed
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

static struct json_object *hist_json(atomic_ullong *hist)
{
	struct json_object *o = json_object_new_object();
	char key[24];

	for (unsigned k = 0; k < ATS_HIST_BUCKETS; k++) {
		unsigned long long n = atomic_load(&hist[k]);

		snprintf(key, sizeof(key), "%s%llu", k + 1 < ATS_HIST_BUCKETS ? "<" : ">=",
			 k + 1 < ATS_HIST_BUCKETS ? 1ull << k : 1ull << (k - 1));
		if (n)
			put(o, key, n);
	}
	return o;
}

static struct json_object *ats_json(struct volume *v)
{
	struct json_object *o = json_object_new_object(), *lat = json_object_new_object();
	struct ats_stats *s = &v->ats.stats;

	for (unsigned k = 0; k < ATS_OUTCOMES; k++)
		put(o, ats_outcome_name((enum ats_outcome)k), atomic_load(&s->outcome[k]));
	put(o, "retries", atomic_load(&s->retries));
	put(o, "max_device_us", atomic_load(&s->max_device_us));
	json_object_object_add(lat, "queue", hist_json(s->hist_queue));
	json_object_object_add(lat, "device", hist_json(s->hist_device));
	json_object_object_add(o, "latency_us", lat);
	return o;
}

static struct json_object *locks_json(struct volume *v)
{
	const struct lock_stats *s = locks_stats(v->locks);
	struct json_object *o = json_object_new_object();

	put(o, "cold", atomic_load(&s->cold));
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
	put(o, "commit_us_max", atomic_load(&s->commit_us_max));
	return o;
}

char *vol_stats_json(struct volume *v)
{
	struct json_object *o = json_object_new_object(), *orphans = json_object_new_object();
	uint64_t waiting, freed;
	char *text;

	put_device(o, v);
	json_object_object_add(o, "host", host_json(v));
	json_object_object_add(o, "ats", ats_json(v));
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
