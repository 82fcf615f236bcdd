/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lunfs: finds the subcommand and its options. */
#include "base/log.h"
#include "cli/cli.h"
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const struct command {
	const char *name, *argument, *help;
	int (*run)(const struct cli *c);
	/* Instead of .run: it has options of its own; argv[0] is its name, @json was said before.
	 */
	int (*main)(int argc, char **argv, bool json);
} commands[] = {
    {"check-device", "DEVICE", "try whether hosts can share it", NULL, cmd_check_device},
    {"clear-keys", "DEVICE", "take left-over reservation keys away when nobody uses it",
     cmd_clear_keys},
    {"dump", "DEVICE", "print on-disk structures by name or block", NULL, cmd_dump},
    {"hosts", "DEVICE", "who has the volume mounted, slot by slot", cmd_hosts},
    {"image", "DEVICE FILE", "save the metadata in a sparse file", NULL, cmd_image},
    {"info", "DEVICE", "what the volume is: size, layout, timing, features", cmd_info},
    {"stats", "DIRECTORY", "counters and latencies of a mount point", NULL, cmd_stats},
    {"trim", "DIRECTORY", "give free space back to the device", NULL, cmd_trim},
    {"udev", "DEVICE", "what udev(7) links by UUID and label; silent without a volume", cmd_udev},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *to)
{
	fputs("Usage: lunfs COMMAND [--json] ARGUMENT\n\nCommands:\n", to);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-12s %-11s %s\n", commands[i].name, commands[i].argument,
			commands[i].help);
	fputs("\nOptions:\n  --json         one JSON object on standard output\n"
	      "  -V, --version  print the version\n  -h, --help     print this\n"
	      "\nExit codes: 0 done, 1 failed, 2 usage.\n",
	      to);
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
				      {"help", no_argument, NULL, 'h'},
				      {"version", no_argument, NULL, 'V'},
				      {NULL, 0, NULL, 0}};

/* Options up to the first argument (@how "+hV") or anywhere; -1: go on. */
static int options(int argc, char **argv, const char *how, bool *json)
{
	int o;

	while ((o = getopt_long(argc, argv, how, longs, NULL)) != -1) {
		if (o == 'j') {
			*json = true;
		} else if (o == 'V') {
			puts("lunfs " LUNFS_VERSION);
			return EX_CLI_OK;
		} else {
			usage(o == 'h' ? stdout : stderr);
			return o == 'h' ? EX_CLI_OK : EX_CLI_USAGE;
		}
	}
	return -1;
}

static int run_plain(const struct command *cmd, int argc, char **argv, bool json)
{
	struct cli c = {.json = json};
	int rc = options(argc, argv, "hV", &c.json);

	if (rc >= 0)
		return rc;
	if (argc - optind != 1) {
		fprintf(stderr, "lunfs: 'lunfs %s' takes one %s\n", cmd->name, cmd->argument);
		return EX_CLI_USAGE;
	}
	c.target = argv[optind];
	return cmd->run(&c);
}

int main(int argc, char **argv)
{
	const struct command *cmd;
	bool json = false;
	int rc;

	if (!standard_files_open())
		return EX_CLI_FAIL;
	rc = options(argc, argv, "+hV", &json);
	if (rc >= 0)
		return rc;
	if (optind == argc) {
		usage(stderr);
		return EX_CLI_USAGE;
	}
	cmd = find(argv[optind]);
	if (!cmd) {
		fprintf(stderr, "lunfs: unknown command '%s'; 'lunfs --help' lists them\n",
			argv[optind]);
		return EX_CLI_USAGE;
	}
	argc -= optind;
	argv += optind;
	optind = 0; /* from the start again */
	log_open("lunfs", LOG_LVL_WARN, 0);
	return cmd->main ? cmd->main(argc, argv, json) : run_plain(cmd, argc, argv, json);
}
