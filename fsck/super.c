/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding a superblock where the usual search finds none: at a given block, or anywhere. Copies
 * stand at multiples of 64 KiB: the main one, the one at the end, and at the start of groups.
 */
#include "fsck/super.h"
#include "base/log.h"
#include "base/text.h"
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#define STEP_BYTES (64ull << 10)
#define BATCH 64u

int super_at(struct dev *dev, uint64_t blk, struct geo *out, char *why, size_t why_len)
{
	void *sb = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	int rc = -EINVAL;

	if (blk < dev->id.size_bytes / LUNFS_BLOCK_BYTES)
		rc = dev_read(dev, blk * LUNFS_BLOCK_BYTES, LUNFS_BLOCK_BYTES, sb);
	if (rc == 0)
		rc = sb_decode(sb, out, NULL);
	if (rc)
		snprintf(why, why_len,
			 "No valid superblock stands at block %llu of %s (%s); "
			 "'fsck.lunfs --find-superblock' lists where there are some.",
			 (unsigned long long)blk, dev->id.name,
			 rc == -EINVAL ? "none at all" : strerror(-rc));
	free(sb);
	return rc;
}

void super_say_contradicted(const struct super_choice *c, const char *device, char *why,
			    size_t why_len)
{
	char says[UUID_STR_LEN], named[UUID_STR_LEN];

	uuid_unparse_lower(c->geo.vol_id, says);
	uuid_unparse_lower(c->vol_id, named);
	snprintf(why, why_len,
		 "The superblock of %s names volume id %s, but %u of %u sectors at fixed places "
		 "name %s; nothing was changed",
		 device, says, c->naming, c->fixed, named);
}

struct search {
	struct dev *dev;
	const uint8_t *vol_id;
	FILE *to;
	struct super_search *out;
};

/* NULL: it can be used. */
static const char *unfit(const struct search *s, uint64_t off, const struct geo *g)
{
	if (s->vol_id && memcmp(s->vol_id, g->vol_id, sizeof(g->vol_id)) != 0)
		return ", of another volume";
	if (!super_at_home(g, off))
		return ", not in its place";
	if (g->dev_blks > s->dev->id.size_bytes / LUNFS_BLOCK_BYTES)
		return ", larger than the device";
	return NULL;
}

static void add_json(struct super_search *out, uint64_t off, const struct geo *g, const char *uuid,
		     const char *no)
{
	struct json_object *o = json_object_new_object();
	char *label = text_plain_dup(g->label);

	json_object_object_add(o, "block", json_object_new_uint64(off / LUNFS_BLOCK_BYTES));
	json_object_object_add(o, "uuid", json_object_new_string(uuid));
	json_object_object_add(o, "label", json_object_new_string(label ? label : ""));
	json_object_object_add(o, "bytes", json_object_new_uint64(g->dev_blks * LUNFS_BLOCK_BYTES));
	json_object_object_add(o, "hosts", json_object_new_uint64(g->journals));
	json_object_object_add(o, "sequence", json_object_new_uint64(g->sb_seq));
	json_object_object_add(o, "usable", json_object_new_boolean(!no));
	json_object_array_add(out->list, o);
	free(label);
}

static void found_one(const struct search *s, uint64_t off, const struct geo *g)
{
	const char *no = unfit(s, off, g);
	char *label = text_plain_dup(g->label);
	struct super_search *out = s->out;
	char uuid[UUID_STR_LEN];

	uuid_unparse_lower(g->uuid, uuid);
	fprintf(s->to, "block %llu: UUID %s, label '%s', %llu bytes, %u hosts, sequence %llu%s\n",
		(unsigned long long)(off / LUNFS_BLOCK_BYTES), uuid, label ? label : "",
		(unsigned long long)(g->dev_blks * LUNFS_BLOCK_BYTES), g->journals,
		(unsigned long long)g->sb_seq, no ? no : "");
	free(label);
	out->found++;
	add_json(out, off, g, uuid, no);
	if (no)
		return;
	if (out->fit && memcmp(out->best.vol_id, g->vol_id, sizeof(g->vol_id)) != 0)
		out->others++;
	if (!out->fit++ || g->sb_seq > out->best.sb_seq)
		out->best = *g;
}

static void search_batch(const struct search *s, uint64_t off, uint8_t *buf)
{
	struct dev_io io[BATCH];
	size_t n = 0;

	for (; n < BATCH && off + LUNFS_BLOCK_BYTES <= s->dev->id.size_bytes;
	     off += STEP_BYTES, n++)
		io[n] = (struct dev_io){.op = DEV_READ,
					.off_bytes = off,
					.len_bytes = LUNFS_BLOCK_BYTES,
					.buf = buf + n * LUNFS_BLOCK_BYTES};
	dev_batch(s->dev, io, n);
	for (size_t i = 0; i < n; i++) {
		struct geo g;

		if (!io[i].result && sb_decode(io[i].buf, &g, NULL) == 0)
			found_one(s, io[i].off_bytes, &g);
	}
}

void super_search(struct dev *dev, const uint8_t *vol_id, FILE *to, struct super_search *out)
{
	struct search s = {.dev = dev, .vol_id = vol_id, .to = to, .out = out};
	uint8_t *buf = dev_buf_alloc((size_t)BATCH * LUNFS_BLOCK_BYTES);

	memset(out, 0, sizeof(*out));
	out->list = json_object_new_array();
	for (uint64_t off = 0; off < dev->id.size_bytes; off += BATCH * STEP_BYTES)
		search_batch(&s, off, buf);
	if (!out->found)
		fprintf(to, "%s: no superblock was found anywhere\n", dev->id.name);
	free(buf);
}
