/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lunfs-edit IMAGE EDIT...: change named fields of a volume in a file. */
#include "base/log.h"
#include "edit.h"
#include "open.h"

#include <stdio.h>
#include <string.h>

static int usage(void)
{
	fputs("Usage: lunfs-edit IMAGE EDIT...\n"
	      "       lunfs-edit IMAGE - <EDITS\n\n"
	      "Edits: WHAT.FIELD=VALUE (also += -= ^= |= &=), zero WHAT, random WHAT [SEED],\n"
	      "copy FROM TO, seal WHAT; 'nocrc' before one leaves the checksum alone.\n"
	      "See tests/images/README.md.\n",
	      stderr);
	return 2;
}

static int apply(const struct insp *in, const char *line)
{
	char why[1024];

	if (edit_apply(in, line, why, sizeof(why)) == 0)
		return 0;
	fprintf(stderr, "lunfs-edit: %s: %s\n", line, why);
	return 1;
}

static int apply_lines(const struct insp *in)
{
	char line[4096];
	int rc = 0;

	while (rc == 0 && fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] && line[0] != '#')
			rc = apply(in, line);
	}
	return rc;
}

int main(int argc, char **argv)
{
	char why[512] = "";
	struct dev *dev;
	struct geo geo;
	struct insp in;
	int rc;

	if (argc < 3)
		return usage();
	log_open("lunfs-edit", LOG_LVL_ERR, 0);
	rc = image_open(argv[1], &dev, &geo, why, sizeof(why));
	if (rc) {
		fprintf(stderr, "lunfs-edit: %s\n", why);
		return 1;
	}
	in = (struct insp){.dev = dev, .geo = &geo};
	if (argc == 3 && strcmp(argv[2], "-") == 0)
		rc = apply_lines(&in);
	else
		for (int i = 2; rc == 0 && i < argc; i++)
			rc = apply(&in, argv[i]);
	if (dev_flush(dev))
		rc = 1;
	dev_close(dev);
	return rc;
}
