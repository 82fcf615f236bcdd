/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs udev: what a rule of udev(7) imports, so that /dev/disk/by-uuid and by-label lead to the
 * volume, and with them UUID= and LABEL= of fstab(5). Of a device without a volume nothing is said:
 * the rule asks about every device that nobody else knows. Nor of one whose main superblock is
 * gone: the copy at the end outlives a new use of the device.
 */
#include "cli/cli.h"
#include <blkid/blkid.h>

/* As udev's own builtin does: the safe form for people, the encoded one for names of links. */
static void print_id(const char *name, const char *value)
{
	char safe[LUNFS_LABEL_BYTES * 4 + 1], enc[LUNFS_LABEL_BYTES * 4 + 1];

	if (!value[0] || blkid_safe_string(value, safe, sizeof(safe)) ||
	    blkid_encode_string(value, enc, sizeof(enc)))
		return;
	printf("ID_FS_%s=%s\nID_FS_%s_ENC=%s\n", name, safe, name, enc);
}

int cmd_udev(const struct cli *c)
{
	struct dev *dev;
	struct geo geo;
	char why[512], uuid[37];
	bool copy;
	int rc = dev_open(c->target, DEV_OPEN_RDONLY, 0, &dev, why, sizeof(why));

	if (rc)
		return EX_CLI_FAIL;
	rc = vol_read_super(dev, &geo, &copy, why, sizeof(why));
	dev_close(dev);
	if (rc || copy || (geo.incompat & LUNFS_INCOMPAT_IMAGE))
		return EX_CLI_FAIL;
	cli_uuid_string(geo.uuid, uuid);
	printf("ID_FS_TYPE=lunfs\nID_FS_USAGE=filesystem\nID_FS_VERSION=%u\n",
	       LUNFS_FORMAT_VERSION);
	print_id("UUID", uuid);
	print_id("LABEL", geo.label);
	return EX_CLI_OK;
}
