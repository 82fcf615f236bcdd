/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is made, for people and as JSON. */
#include "mkfs.h"

#include "base/text.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#define COPIES_SHOWN 6u
#define BLK ((uint64_t)LUNFS_BLOCK_BYTES)

static const char *size_text(uint64_t bytes, char out[32])
{
	static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned u = 0;
	double x = (double)bytes / 1024;

	while (x >= 1024 && u < 5) {
		x /= 1024;
		u++;
	}
	snprintf(out, 32, x < 100 && x != (double)(uint64_t)x ? "%.1f %s" : "%.0f %s", x, unit[u]);
	return out;
}

static uint64_t first_journal_off(const struct geo *g)
{
	return g->journal_blk[0] * BLK;
}

/* What is left for files and their metadata. */
static uint64_t usable_bytes(const struct geo *g)
{
	return (g->end_blk - g->group0_blk - g->groups * geo_group_meta_blks(g)) * BLK;
}

/* ---- for people ------------------------------------------------------------------------------ */

static void place(uint64_t off, const char *fmt, const char *a, const char *b)
{
	char at[32];

	printf("  %10s  ", size_text(off, at));
	printf(fmt, a, b); /* NOLINT: the two formats are constants below */
	putchar('\n');
}

/* ", more in groups 1, 3, 5 ..."; none has less than two groups. */
static void copies_text(const struct geo *g, char *out, size_t len)
{
	size_t at = (size_t)snprintf(out, len, "more in group%s", g->groups > 3 ? "s" : "");
	unsigned n = 0;

	for (uint64_t i = copy_group_after(0); i < g->groups; i = copy_group_after(i)) {
		if (n++ == COPIES_SHOWN) {
			snprintf(out + at, len - at, " ...");
			return;
		}
		at += (size_t)snprintf(out + at, len - at, "%s %llu", n > 1 ? "," : "",
				       (unsigned long long)i);
	}
}

static void print_places(const struct geo *g)
{
	uint64_t tail = sb_tail_off(g->dev_blks * BLK);
	char a[32], b[32], n[64];

	puts("Layout:");
	place(LUNFS_SB_OFF, "superblock", "", "");
	place(LUNFS_MAINT_OFF, "maintenance sector, anchors, scratch area", "", "");
	place(LUNFS_HOST_TABLE_OFF, "host table", "", "");
	place(LUNFS_BOARD_OFF, "request board, %s",
	      size_text(geo_all_slots(g) * g->board_row_bytes, a), "");
	snprintf(n, sizeof(n), "%u journals", g->journals);
	place(first_journal_off(g), "%s of %s", n, size_text(g->journal_blks * BLK, b));
	snprintf(n, sizeof(n), "%llu groups", (unsigned long long)g->groups);
	place(g->group0_blk * BLK, "%s of %s", n, size_text(g->group_blks * BLK, b));
	copies_text(g, n, sizeof(n));
	place(tail, "copy of the superblock; %s", n, "");
}

void report_layout(const struct mkfs_report *r)
{
	const struct geo *g = r->g;
	char size[32], journal[32], group[32], uuid[37], files[32];

	uuid_unparse(g->uuid, uuid);
	printf("%s: %s, sectors of %u bytes, physical blocks of %u bytes, metadata cells of %u "
	       "bytes\n",
	       r->o->shown, size_text(g->dev_blks * BLK, size), g->sector_bytes,
	       r->d->id.phys_bytes, geo_cell_bytes(g));
	printf("UUID %s%s%s\n", uuid, g->label[0] ? ", label " : "", g->label);
	printf("%u hosts with a journal of %s each, %u slots, %llu groups of %s, %s for files\n",
	       g->journals, size_text(g->journal_blks * BLK, journal), g->slots,
	       (unsigned long long)g->groups, size_text(g->group_blks * BLK, group),
	       size_text(usable_bytes(g), files));
	printf("beat %u ms, I/O deadline %u ms, lease %u ms\n", g->beat_ms, g->deadline_ms,
	       g->lease_ms);
	print_places(g);
	fflush(stdout);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void add_text(struct json_object *o, const char *key, const char *v)
{
	char *plain = text_plain_dup(v); /* labels and names come from wherever */

	json_object_object_add(o, key, json_object_new_string(plain ? plain : "?"));
	free(plain);
}

static void add_bool(struct json_object *o, const char *key, bool v)
{
	json_object_object_add(o, key, json_object_new_boolean(v));
}

static void add_device(struct json_object *o, const struct mkfs_report *r)
{
	static const char *const kind[] = {"file", "sg", "iscsi", "simulated"};
	struct json_object *t = json_object_new_object();

	add_text(o, "backend", kind[r->d->id.kind]);
	add_text(o, "product", r->d->id.product);
	add_u64(t, "logical_bytes", r->d->id.sector_bytes);
	add_u64(t, "physical_bytes", r->d->id.phys_bytes);
	add_u64(t, "minimum_io_bytes", r->topology->min_io_bytes);
	add_u64(t, "optimal_io_bytes", r->topology->opt_io_bytes);
	add_u64(t, "misaligned_bytes", r->topology->misaligned_bytes);
	json_object_object_add(o, "topology", t);
}

static struct json_object *offsets(const uint64_t *blk, unsigned n)
{
	struct json_object *a = json_object_new_array();

	for (unsigned i = 0; i < n; i++)
		json_object_array_add(a, json_object_new_uint64(blk[i] * BLK));
	return a;
}

static struct json_object *superblocks(const struct geo *g)
{
	struct json_object *a = json_object_new_array();

	json_object_array_add(a, json_object_new_uint64(LUNFS_SB_OFF));
	json_object_array_add(a, json_object_new_uint64(sb_tail_off(g->dev_blks * BLK)));
	for (uint64_t i = copy_group_after(0); i < g->groups; i = copy_group_after(i))
		json_object_array_add(a, json_object_new_uint64(geo_group_blk(g, i) * BLK));
	return a;
}

static void add_places(struct json_object *o, const struct geo *g)
{
	json_object_object_add(o, "superblocks", superblocks(g));
	add_u64(o, "maintenance_off", LUNFS_MAINT_OFF);
	add_u64(o, "host_table_off", LUNFS_HOST_TABLE_OFF);
	add_u64(o, "board_off", LUNFS_BOARD_OFF);
	add_u64(o, "board_bytes", geo_all_slots(g) * g->board_row_bytes);
	json_object_object_add(o, "journals", offsets(g->journal_blk, g->journals));
	add_u64(o, "group0_off", g->group0_blk * BLK);
	add_u64(o, "end_off", g->end_blk * BLK);
	add_u64(o, "root_inode", g->root_ino);
}

static void add_layout(struct json_object *o, const struct mkfs_report *r)
{
	const struct geo *g = r->g;
	char uuid[37];

	uuid_unparse_lower(g->uuid, uuid);
	add_text(o, "uuid", uuid);
	uuid_unparse_lower(g->vol_id, uuid);
	add_text(o, "internal_id", uuid);
	add_text(o, "label", g->label);
	add_u64(o, "size_bytes", g->dev_blks * BLK);
	add_u64(o, "usable_bytes", usable_bytes(g));
	add_u64(o, "block_bytes", BLK);
	add_u64(o, "sector_bytes", g->sector_bytes);
	add_u64(o, "cell_bytes", geo_cell_bytes(g));
	add_u64(o, "align_bytes", r->o->align_bytes);
	add_u64(o, "hosts", g->journals);
	add_u64(o, "slots", g->slots);
	add_u64(o, "journal_bytes", g->journal_blks * BLK);
	add_u64(o, "groups", g->groups);
	add_u64(o, "group_bytes", g->group_blks * BLK);
	add_u64(o, "beat_ms", g->beat_ms);
	add_u64(o, "deadline_ms", g->deadline_ms);
	add_u64(o, "lease_ms", g->lease_ms);
	add_places(o, g);
}

static void add_work(struct json_object *o, const struct mkfs_report *r)
{
	struct json_object *w = json_object_new_object();

	add_bool(w, "wanted", !r->o->keep);
	add_u64(w, "bytes", r->work ? r->work->discarded_bytes : 0);
	if (r->work && r->work->discard_note[0])
		add_text(w, "note", r->work->discard_note);
	json_object_object_add(o, "discard", w);
	add_bool(o, "dry_run", r->o->dry_run);
	add_bool(o, "made", r->work && !r->error);
}

void report_json(const struct mkfs_report *r)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "device", r->o->shown);
	if (r->d)
		add_device(o, r);
	if (r->found)
		add_text(o, "holds", r->found->names);
	if (r->g)
		add_layout(o, r);
	add_work(o, r);
	if (r->error)
		add_text(o, "error", r->error);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
						   JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
	json_object_put(o);
}
