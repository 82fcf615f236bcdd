/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lunfs, the admin's program: one file a subcommand. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "vol/volume.h"
#include <json-c/json.h>
#include <stdio.h>

enum { /* exit codes of lunfs(8) */
       EX_CLI_OK = 0,
       EX_CLI_FAIL = 1, /* the command could not do its work */
       EX_CLI_USAGE = 2,
};

struct cli {
	bool json;
	const char *target; /* device or mount point */
};

int cmd_check_device(int argc, char **argv, bool json);
int cmd_clear_keys(const struct cli *c);
int cmd_dump(int argc, char **argv, bool json);
int cmd_hosts(const struct cli *c);
int cmd_image(int argc, char **argv, bool json);
int cmd_info(const struct cli *c);
int cmd_stats(int argc, char **argv, bool json);
int cmd_trim(int argc, char **argv, bool json);
int cmd_udev(const struct cli *c);

/* Open @name read-only and read its superblock; says what is wrong on standard error. */
int cli_open(const char *name, struct dev **dev, struct geo *geo);
/* JSON is UTF-8, and a path or a label need not be: other bytes show as '?'. */
void cli_add_text(struct json_object *o, const char *key, const char *text);
void cli_print_json(struct json_object *o); /* consumes it */
void cli_uuid_string(const uint8_t uuid[16], char out[37]);

#endif
