/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lunfs info: the superblock, for people and for scripts. */
#include "cli/cli.h"
#include <time.h>

static void print_text(const struct cli *c, const struct geo *g, const struct dev *dev)
{
	char uuid[37], vol[37], when[64];
	time_t t = (time_t)g->mkfs_time_s;
	struct tm tm;

	cli_uuid_string(g->uuid, uuid);
	cli_uuid_string(g->vol_id, vol);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z", localtime_r(&t, &tm));
	printf("Device:           %s%s%s\n", c->target, dev->id.product[0] ? ", " : "",
	       dev->id.product);
	printf("Label:            %s\n", g->label[0] ? g->label : "(none)");
	printf("UUID:             %s\n", uuid);
	printf("Internal id:      %s\n", vol);
	printf("Format:           %u\n", LUNFS_FORMAT_VERSION);
	printf("Features:         compat %#llx, ro-compat %#llx, incompat %#llx\n",
	       (unsigned long long)g->compat, (unsigned long long)g->ro_compat,
	       (unsigned long long)g->incompat);
	printf("Made:             %s\n", when);
	printf("Size:             %llu blocks of %u bytes (%.2f GiB)\n",
	       (unsigned long long)g->dev_blks, LUNFS_BLOCK_BYTES,
	       (double)g->dev_blks * LUNFS_BLOCK_BYTES / (1u << 30));
	printf("Sector:           %u bytes, cells of %u bytes\n", g->sector_bytes,
	       geo_cell_bytes(g));
	printf("Groups:           %llu of %u blocks\n", (unsigned long long)g->groups,
	       g->group_blks);
	printf("Hosts:            %u at once (slots %u), journals of %.1f MiB\n", g->journals,
	       g->slots, (double)g->journal_blks * LUNFS_BLOCK_BYTES / (1u << 20));
	printf("Timing:           beat %u ms, I/O deadline %u ms, lease %u ms\n", g->beat_ms,
	       g->deadline_ms, g->lease_ms);
}

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void print_json(const struct cli *c, const struct geo *g)
{
	struct json_object *o = json_object_new_object();
	char uuid[37], vol[37];

	cli_uuid_string(g->uuid, uuid);
	cli_uuid_string(g->vol_id, vol);
	cli_add_text(o, "device", c->target);
	cli_add_text(o, "label", g->label);
	json_object_object_add(o, "uuid", json_object_new_string(uuid));
	json_object_object_add(o, "internal_id", json_object_new_string(vol));
	add_u64(o, "format", LUNFS_FORMAT_VERSION);
	add_u64(o, "compat", g->compat);
	add_u64(o, "ro_compat", g->ro_compat);
	add_u64(o, "incompat", g->incompat);
	add_u64(o, "made_at", g->mkfs_time_s);
	add_u64(o, "size_bytes", g->dev_blks * LUNFS_BLOCK_BYTES);
	add_u64(o, "block_bytes", LUNFS_BLOCK_BYTES);
	add_u64(o, "sector_bytes", g->sector_bytes);
	add_u64(o, "cell_bytes", geo_cell_bytes(g));
	add_u64(o, "groups", g->groups);
	add_u64(o, "group_blocks", g->group_blks);
	add_u64(o, "slots", g->slots);
	add_u64(o, "journals", g->journals);
	add_u64(o, "journal_bytes", (uint64_t)g->journal_blks * LUNFS_BLOCK_BYTES);
	add_u64(o, "beat_ms", g->beat_ms);
	add_u64(o, "deadline_ms", g->deadline_ms);
	add_u64(o, "lease_ms", g->lease_ms);
	cli_print_json(o);
}

int cmd_info(const struct cli *c)
{
	struct dev *dev;
	struct geo geo;

	if (cli_open(c->target, &dev, &geo))
		return EX_CLI_FAIL;
	if (c->json)
		print_json(c, &geo);
	else
		print_text(c, &geo, dev);
	dev_close(dev);
	return EX_CLI_OK;
}
