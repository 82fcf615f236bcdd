/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs dump and lunfs image of a damaged volume: they write nothing to it, and fsck.lunfs -n of
 * the image comes to an end, whatever was saved.
 */
#include "fuzz.h"

#include "cli/dump.h"
#include "cli/image.h"
#include "vol/volume.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"superblock",
				    "superblock:1",
				    "maint",
				    "slot:0",
				    "slot:1",
				    "board:0,1",
				    "anchor:watermark",
				    "journal:0",
				    "log:0",
				    "log:1",
				    "redo",
				    "journal:0:0",
				    "journal:0:1:image:0",
				    "group:0",
				    "bitmap:0,0",
				    "chunk:0,0",
				    "lock:inode:/frag",
				    "inode:root",
				    "inode:/inline",
				    "dir:root",
				    "dir:/many",
				    "dir:/tall",
				    "extents:/frag",
				    "extents:/big",
				    "attributes:/xattr-big",
				    "attributes:/acl",
				    "tree:/frag",
				    "xattrs:/xattr-big",
				    "dirent:/d1/d2/d3",
				    "xattr:/xattr-big,user.big,2",
				    "piece:/link-long,1",
				    "orphan:0",
				    "inode:orphan:0",
				    "block:256"};

static void dump_all(struct bed *b, struct clock *clk, const struct geo *geo)
{
	struct dump d = {.geo = *geo, .clk = clk, .all = true};
	char why[512];

	d.in = (struct insp){b->look, &d.geo};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct json_object *o;

		why[0] = '\0';
		o = dump_show(&d, names[i], why, sizeof(why));
		FUZZ_CHECK(o || why[0], "%s is not shown, and not a word why", names[i]);
		if (o)
			FUZZ_CHECK(json_object_to_json_string(o), "%s is no JSON", names[i]);
		json_object_put(o);
	}
}

static void copy(struct bed *b, struct clock *clk, const struct geo *geo, bool scramble)
{
	struct dev *to =
	    simdev_new(clk, b->look->id.size_bytes, geo->sector_bytes, geo->sector_bytes);
	struct image im = {.geo = *geo, .clk = clk, .scramble = scramble, .seed = 7};
	struct bed copied = {.medium = simdev_medium_of(to)};
	uint8_t *sb = dev_buf_alloc(LUNFS_BLOCK_BYTES);

	im.from = (struct insp){b->look, &im.geo};
	im.to = (struct insp){to, &im.geo};
	FUZZ_CHECK(image_copy(&im) == 0, "no image is made");
	if (scramble)
		FUZZ_CHECK(image_scramble(&im) == 0, "the names are not scrambled");
	insp_read(&im.from, LUNFS_SB_OFF, LUNFS_BLOCK_BYTES, sb);
	image_clean_super(&im, sb);
	insp_write(&im.to, LUNFS_SB_OFF, LUNFS_BLOCK_BYTES, sb);
	fuzz_check(&copied, clk, &(struct fuzz_fsck){0});
	free(sb);
	free(im.dirs.v);
	free(im.leaves.v);
	dev_close(to);
}

static void run(struct bed *b, struct clock *clk)
{
	struct geo geo;
	char why[512];

	bed_allow_writes(b, false, 0);
	if (vol_read_super(b->look, &geo, NULL, why, sizeof(why)) ||
	    geo.sector_bytes != b->look->id.sector_bytes ||
	    geo.dev_blks > b->look->id.size_bytes / LUNFS_BLOCK_BYTES)
		return;
	dump_all(b, clk, &geo);
	copy(b, clk, &geo, false);
	copy(b, clk, &geo, true);
}

const struct fuzz_target fuzz_target = {.bases = 1u << BASE_TREE | 1u << BASE_DEAD | 1u << BASE_4K,
					.run = run};
