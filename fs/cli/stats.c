/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lunfs stats: asks the daemon of a mount point by a virtual extended attribute of its root. */
#include "cli/cli.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define STATS_BYTES (64u << 10)

static void print_flat(struct json_object *o, const char *prefix)
{
	json_object_object_foreach(o, key, val)
	{
		char name[256];

		snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", key);
		if (json_object_is_type(val, json_type_object))
			print_flat(val, name);
		else
			printf("%-40s %s\n", name,
			       json_object_is_type(val, json_type_string)
				   ? json_object_get_string(val)
				   : json_object_to_json_string(val));
	}
}

int cmd_stats(const struct cli *c)
{
	char *buf = calloc(1, STATS_BYTES + 1);
	struct json_object *o;
	ssize_t n = buf ? getxattr(c->target, VOL_STATS_XATTR, buf, STATS_BYTES) : -1;

	if (n < 0) {
		fprintf(stderr, "lunfs: %s: %s\n", c->target,
			errno == ENODATA || errno == EOPNOTSUPP
			    ? "not the mount point of a lunfs volume"
			    : strerror(errno));
		free(buf);
		return EX_CLI_FAIL;
	}
	o = json_tokener_parse(buf);
	free(buf);
	if (!o) {
		fprintf(stderr, "lunfs: %s: the daemon's answer is no JSON\n", c->target);
		return EX_CLI_FAIL;
	}
	if (c->json) {
		cli_print_json(o);
	} else {
		print_flat(o, "");
		json_object_put(o);
	}
	return EX_CLI_OK;
}
