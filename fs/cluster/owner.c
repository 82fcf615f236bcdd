/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What has become of an incarnation? A generation once seen over is over for ever, so the cached
 * table may prove that; a generation or tag ahead of the cached one proves nothing, and the slot is
 * read again, after the record that names it.
 */
#include "cluster/host_impl.h"

#include <errno.h>
#include <stdio.h>

/*
 * Tags that may lie ahead of a cached generation, as counted round the tag's 14 bits. No slot is
 * claimed that often within the age of a cache entry; what lies further ahead is in truth behind.
 */
#define TAG_AHEAD 1024u

enum judged { J_OVER, J_ALIVE, J_RECOVERING, J_AHEAD };

static enum judged judge(const struct slot_seen *s, uint64_t gen)
{
	if (!s->valid || s->hi.generation < gen)
		return J_AHEAD;
	if (s->hi.generation > gen || s->hi.state == LUNFS_SLOT_FREE)
		return J_OVER;
	return s->hi.state == LUNFS_SLOT_LIVE ? J_ALIVE : J_RECOVERING;
}

static bool is_fresh(struct host *h, const struct slot_seen *s)
{
	return s->valid && !s->damaged && host_now(h) - s->read_ns < h->cfg.beat_ms * MS_NS;
}

const char *host_owner_name(void *host, uint64_t owner, char *buf, size_t len)
{
	unsigned slot = LUNFS_OWNER_SLOT(owner);
	struct host *h = host;
	char label[HOST_LABEL_BYTES];
	struct slot_seen s;

	if (owner && owner == host_owner(h)) {
		snprintf(buf, len, "this host (%s, slot %u, generation %llu)", h->cfg.name, slot,
			 (unsigned long long)LUNFS_OWNER_GEN(owner));
		return buf;
	}
	if (!owner || slot >= h->n)
		return NULL;
	watch_get(h, slot, &s);
	if (!s.valid || s.hi.generation != LUNFS_OWNER_GEN(owner))
		return NULL;
	snprintf(buf, len, "%s", host_label(&s.hi, label));
	return buf;
}

int host_owner_state(struct host *h, uint64_t owner, bool fresh, enum owner_state *out)
{
	unsigned slot = LUNFS_OWNER_SLOT(owner);
	uint64_t gen = LUNFS_OWNER_GEN(owner);
	enum host_state own = atomic_load(&h->state);
	struct slot_seen s;
	enum judged j;
	int r;

	if (!gen || slot >= h->n) {
		*out = OWNER_OVER;
		return 0;
	}
	if (owner == host_owner(h) && own != HOST_LOST && own != HOST_NONE) {
		*out = OWNER_ALIVE;
		return 0;
	}
	watch_get(h, slot, &s);
	j = judge(&s, gen);
	if (j != J_OVER && (fresh || j == J_AHEAD || !is_fresh(h, &s))) {
		r = watch_read_slot(h, slot, &s);
		if (r)
			return -EIO;
		j = judge(&s, gen);
	}
	if (j == J_AHEAD) {
		log_warn("owner-ahead",
			 "A record names generation %llu of slot %u, which is only at %llu: the "
			 "record or the slot is damaged; run fsck.lunfs.",
			 (unsigned long long)gen, slot, (unsigned long long)s.hi.generation);
		return -EIO;
	}
	*out = j == J_OVER ? OWNER_OVER : j == J_ALIVE ? OWNER_ALIVE : OWNER_RECOVERING;
	return 0;
}

bool host_owner_over_by(struct host *h, uint64_t owner, uint64_t ns)
{
	unsigned slot = LUNFS_OWNER_SLOT(owner);
	struct slot_seen s;

	if (slot >= h->n || owner == host_owner(h))
		return false;
	watch_get(h, slot, &s);
	return s.since_ns <= ns && judge(&s, LUNFS_OWNER_GEN(owner)) == J_OVER;
}

uint64_t host_live_owner(struct host *h, unsigned slot)
{
	struct slot_seen s;

	if (slot >= h->n)
		return 0;
	if (slot == h->slot && host_state(h) != HOST_LOST)
		return host_owner(h);
	watch_get(h, slot, &s);
	if (!s.valid || s.hi.state != LUNFS_SLOT_LIVE)
		return 0;
	return LUNFS_OWNER(s.hi.generation, slot);
}

/* The lowest generation from the cached one on that has this tag; none that was is below 1. */
static uint64_t generation_of_tag(const struct slot_seen *s, uint16_t tag, unsigned *ahead)
{
	uint64_t base = s->valid ? s->hi.generation : 1;

	*ahead = ((unsigned)tag - (unsigned)(base & LUNFS_ENT_TAG_MASK)) & LUNFS_ENT_TAG_MASK;
	return base + *ahead;
}

uint64_t host_tag_owner(struct host *h, unsigned slot, uint16_t tag)
{
	struct slot_seen s;
	unsigned ahead;
	uint64_t gen;

	tag &= LUNFS_ENT_TAG_MASK;
	if (slot >= h->n)
		return 0;
	if (slot == h->slot && host_state(h) != HOST_LOST)
		return tag == (h->generation & LUNFS_ENT_TAG_MASK) ? host_owner(h) : 0;
	watch_get(h, slot, &s);
	gen = generation_of_tag(&s, tag, &ahead);
	if (s.valid && !ahead)
		return s.hi.state == LUNFS_SLOT_FREE ? 0 : LUNFS_OWNER(gen, slot);
	if (ahead > TAG_AHEAD && is_fresh(h, &s))
		return 0;
	if (watch_read_slot(h, slot, &s))
		return LUNFS_OWNER(gen, slot); /* not proven over: it holds */
	gen = generation_of_tag(&s, tag, &ahead);
	return ahead || s.hi.state == LUNFS_SLOT_FREE ? 0 : LUNFS_OWNER(gen, slot);
}
