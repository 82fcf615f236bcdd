/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which superblock a check goes by. A valid checksum does not make one true: by a superblock with a
 * wrong id or layout all else looks foreign, and a repair would leave nothing of the volume. So the
 * one that the usual search finds has to stand up to the others:
 *
 *   its id      to what most sectors at fixed places name. A copy that they agree with replaces it;
 *               if there is none, nobody is believed.
 *   its layout  to what most copies of the same id and time say.
 *
 * One that is passed over is reported by pass_super() as a damaged one.
 */
#include "fsck/super_rebuild.h"
#include "vol/volume.h"

#define MAX_COPIES 64u

struct copies { /* valid ones that stand where one of their volume stands */
	struct dev *dev;
	struct geo geo[MAX_COPIES];
	uint64_t off[MAX_COPIES];
	unsigned n;
};

bool super_at_home(const struct geo *g, uint64_t off)
{
	uint64_t blk = off / LUNFS_BLOCK_BYTES, group;

	if (off == LUNFS_SB_OFF || off == sb_tail_off(g->dev_blks * LUNFS_BLOCK_BYTES))
		return true;
	if (blk < g->group0_blk || blk >= g->end_blk)
		return false;
	group = geo_group_of(g, blk);
	return geo_group_blk(g, group) == blk && sb_group_has_copy(group);
}

/* ---- the copies ------------------------------------------------------------------------------ */

static bool known(const struct copies *c, uint64_t off)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->off[i] == off)
			return true;
	return false;
}

/* NULL: none that could be used stands there. */
static const struct geo *look(struct copies *c, uint64_t off)
{
	uint64_t size = c->dev->id.size_bytes;
	const struct geo *found = NULL;
	struct geo g;
	void *sb;

	if (c->n == MAX_COPIES || known(c, off) || off > size || size - off < BLK)
		return NULL;
	sb = dev_buf_alloc(BLK);
	if (dev_read(c->dev, off, BLK, sb) == 0 && sb_decode(sb, &g, NULL) == 0 &&
	    super_at_home(&g, off) && g.dev_blks <= size / BLK) {
		c->off[c->n] = off;
		c->geo[c->n] = g;
		found = &c->geo[c->n++];
	}
	free(sb);
	return found;
}

static void look_where(struct copies *c, const struct geo *g)
{
	uint64_t end = c->dev->id.size_bytes / BLK;

	look(c, sb_tail_off(g->dev_blks * BLK));
	for (uint64_t i = 1; i < g->groups && geo_group_blk(g, i) < end; i++)
		if (sb_group_has_copy(i))
			look(c, geo_blk_off(geo_group_blk(g, i)));
}

/* @g may be wrong about where the others are; the one at the end is found without it. */
static struct copies *copies_of(struct dev *dev, const struct geo *g)
{
	struct copies *c = calloc(1, sizeof(*c));
	const struct geo *tail;

	lunfs_assert(c);
	c->dev = dev;
	look(c, LUNFS_SB_OFF);
	tail = look(c, sb_tail_off(dev->id.size_bytes));
	look_where(c, g);
	if (tail)
		look_where(c, tail);
	return c;
}

/* ---- the id ---------------------------------------------------------------------------------- */

static void read_votes(struct dev *dev, struct votes *v)
{
	uint8_t *fixed = dev_buf_alloc(FIXED_BYTES), *table = dev_buf_alloc(TABLE_BYTES);

	if (dev->id.size_bytes >= LUNFS_MIN_BYTES) {
		read_fixed(dev, fixed, table);
		vote_fixed(v, fixed, table);
	}
	free(fixed);
	free(table);
}

/*
 * Most of the fixed places must be of one mind, and with the copies of theirs be more than those
 * that are of @g's: a single sector that is left does not outvote the superblock and its copies.
 * Where none of the fixed places is left the copies decide.
 */
static bool id_contradicted(const struct copies *c, const struct geo *g, struct super_choice *out)
{
	struct votes *v = calloc(1, sizeof(*v));
	bool against = false;

	lunfs_assert(v);
	read_votes(c->dev, v);
	out->fixed = v->n;
	out->naming = count_votes(v, out->vol_id);
	for (unsigned i = 0; i < c->n; i++)
		vote(v, c->geo[i].vol_id);
	if (out->fixed == 0)
		count_votes(v, out->vol_id);
	if (v->n && (out->fixed == 0 || out->naming * 2 > out->fixed))
		against = votes_for(v, out->vol_id) > votes_for(v, g->vol_id);
	free(v);
	return against;
}

static const struct geo *newest(const struct copies *c, const uint8_t id[16])
{
	const struct geo *best = NULL;

	for (unsigned i = 0; i < c->n; i++)
		if (!memcmp(c->geo[i].vol_id, id, 16) && (!best || c->geo[i].sb_seq > best->sb_seq))
			best = &c->geo[i];
	return best;
}

/* ---- the layout ------------------------------------------------------------------------------ */

static unsigned say_the_same(const struct copies *c, const struct geo *g)
{
	uint8_t *want = dev_buf_alloc(BLK), *sb = dev_buf_alloc(BLK);
	unsigned n = 0;

	sb_encode(g, want);
	for (unsigned i = 0; i < c->n; i++) {
		sb_encode(&c->geo[i], sb);
		n += !memcmp(want, sb, BLK);
	}
	free(want);
	free(sb);
	return n;
}

/* What most copies of its time say; *@g itself, unless more say another. */
static void prefer_most(const struct copies *c, struct geo *g)
{
	const struct geo was = *g;
	unsigned best = say_the_same(c, &was);

	for (unsigned i = 0; i < c->n; i++) {
		const struct geo *o = &c->geo[i];
		unsigned n;

		if (memcmp(o->vol_id, was.vol_id, sizeof(was.vol_id)) != 0 ||
		    o->sb_seq != was.sb_seq)
			continue;
		n = say_the_same(c, o);
		if (n > best) {
			best = n;
			*g = *o;
		}
	}
}

/* ---- the choice ------------------------------------------------------------------------------ */

bool super_contradicted(struct dev *dev, const struct geo *g, struct super_choice *out)
{
	struct copies *c = copies_of(dev, g);
	bool against;

	out->geo = *g;
	against = id_contradicted(c, g, out);
	free(c);
	return against && out->fixed > 0;
}

int super_choose(struct dev *dev, struct super_choice *out, char *why, size_t why_len)
{
	const struct geo *other;
	struct copies *c;
	bool copy; /* reported as a problem */
	int rc;

	memset(out, 0, sizeof(*out));
	rc = vol_read_super(dev, &out->geo, &copy, why, why_len);

	if (rc)
		return rc;
	c = copies_of(dev, &out->geo);
	if (id_contradicted(c, &out->geo, out)) {
		other = newest(c, out->vol_id);
		memcpy(out->passed_over, out->geo.vol_id, sizeof(out->passed_over));
		if (other)
			out->geo = *other;
		else
			rc = -ESTALE;
	}
	if (rc == 0)
		prefer_most(c, &out->geo);
	free(c);
	return rc;
}
