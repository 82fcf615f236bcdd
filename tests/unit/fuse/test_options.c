/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of mount.lunfs, as people, mount(8) and fstab write it. */
#include "fuse/options.h"

#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ARGS_MAX 12

static int parse(struct options *o, ...)
{
	char *argv[ARGS_MAX] = {(char *)(uintptr_t) "mount.lunfs"}, *arg;
	int argc = 1;
	va_list ap;

	memset(o, 0, sizeof(*o));
	va_start(ap, o);
	while ((arg = va_arg(ap, char *)))
		argv[argc++] = arg;
	va_end(ap);
	optind = 0; /* getopt starts over */
	return options_parse(argc, argv, o);
}

static void options_after_the_names_count_too(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(parse(&o, "/dev/null", "/", "-o", "rw,host=a,_netdev,x-y=z,noatime", NULL),
			 0);
	assert_string_equal(o.device, "/dev/null");
	assert_string_equal(o.mountpoint, "/");
	assert_string_equal(o.vol.host.name, "a");
	assert_false(o.vol.read_only);
	assert_non_null(strstr(o.kernel_opts, ",noatime"));
	assert_null(strstr(o.kernel_opts, "_netdev"));
	options_free(&o);
}

static void the_last_of_ro_and_rw_wins(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(parse(&o, "-o", "rw,ro", "/dev/null", "/", NULL), 0);
	assert_true(o.vol.read_only);
	options_free(&o);
	assert_int_equal(parse(&o, "-r", "-w", "/dev/null", "/", NULL), 0);
	assert_false(o.vol.read_only);
	options_free(&o);
}

static void a_url_is_no_path(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(parse(&o, "iscsi://h/iqn.x:y/0", "/", NULL), 0);
	assert_string_equal(o.device, "iscsi://h/iqn.x:y/0");
	options_free(&o);
}

static void shown(const char *name, const char *expected)
{
	char arg[128];
	struct options o;

	strcpy(arg, name);
	assert_int_equal(parse(&o, arg, "/", NULL), 0);
	assert_string_equal(o.device, name);
	assert_string_equal(o.shown, expected);
	assert_string_equal(arg, expected);
	for (size_t i = strlen(expected); i < strlen(name); i++)
		assert_int_equal(arg[i], 0);
	options_free(&o);
}

static void a_password_is_shown_nowhere(void **state)
{
	(void)state;
	shown("iscsi://h:1/iqn.x:y/0", "iscsi://h:1/iqn.x:y/0");
	shown("iscsi://user%secret@h/iqn.x:y/0", "iscsi://h/iqn.x:y/0");
	shown("iscsi://user@h/iqn.x:y/0", "iscsi://h/iqn.x:y/0");
	shown("iscsi://user%sec/ret@h/iqn.x:y/0", "iscsi://h/iqn.x:y/0");
	shown("iscsi://user%sec?ret@h/iqn.x:y/0", "iscsi://h/iqn.x:y/0");
	shown("iscsi://user%sec@ret@h/iqn.x:y/0", "iscsi://h/iqn.x:y/0");
	shown("iscsi://u%secret@h/iqn.x:y/0?target_user=t&target_password=s@t",
	      "iscsi://h/iqn.x:y/0");
	shown("/dev/null", "/dev/null");
}

static void named(const char *given, const char *real, const char *expected)
{
	char *name = options_device_name(given, real);

	assert_string_equal(name, expected);
	free(name);
}

static void a_multipath_device_keeps_the_name_that_mount_gives_it(void **state)
{
	(void)state;
	named("/dev/mapper/shared", "/dev/dm-3", "/dev/mapper/shared");
	named("../dev/mapper/shared", "/dev/dm-3", "/dev/dm-3");
	named("/dev/disk/by-id/scsi-1", "/dev/sdb", "/dev/sdb");
	named("lun.img", "/srv/lun.img", "/srv/lun.img");
}

static void bad_usage_is_refused(void **state)
{
	struct options o;
	static const char *const bad[] = {"nonsense",	       "host=",	    "host=a/b", "timeout=x",
					  "remount",	       "timeout=",  "fence=",	"fence=x",
					  "fence=watchdog:wd", "fence=pr:x"};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(parse(&o, "-o", bad[i], "/dev/null", "/", NULL),
				 1 + EX_MOUNT_USAGE);
		options_free(&o);
	}
	assert_int_equal(parse(&o, "/dev/null", NULL), 1 + EX_MOUNT_USAGE);
	options_free(&o);
	assert_int_equal(parse(&o, "/dev/null", "/no/such/directory", NULL), 1 + EX_MOUNT_FAIL);
	options_free(&o);
}

static void a_host_name_has_at_most_63_bytes(void **state)
{
	char opt[5 + 64 + 1] = "host=";
	struct options o;

	(void)state;
	memset(opt + 5, 'h', 64);
	assert_int_equal(parse(&o, "-o", opt, "/dev/null", "/", NULL), 1 + EX_MOUNT_USAGE);
	options_free(&o);
	opt[5 + 63] = 0;
	assert_int_equal(parse(&o, "-o", opt, "/dev/null", "/", NULL), 0);
	assert_int_equal(strlen(o.vol.host.name), 63);
	options_free(&o);
}

static void the_way_of_fencing_is_taken(void **state)
{
	static const struct {
		const char *opt;
		enum fence_choice fence;
		const char *path;
	} good[] = {
	    {"ro", FENCE_AUTO, ""},
	    {"fence=auto", FENCE_AUTO, ""},
	    {"fence=pr", FENCE_PR, ""},
	    {"fence=timer", FENCE_TIMER, ""},
	    {"fence=watchdog", FENCE_WATCHDOG, ""},
	    {"fence=watchdog:/dev/watchdog1", FENCE_WATCHDOG, "/dev/watchdog1"},
	    {"fence=watchdog:/dev/watchdog1,fence=pr", FENCE_PR, ""},
	};
	struct options o;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(parse(&o, "-o", good[i].opt, "/dev/null", "/", NULL), 0);
		assert_int_equal(o.vol.host.fence, good[i].fence);
		assert_string_equal(o.vol.host.watchdog_path, good[i].path);
		options_free(&o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(options_after_the_names_count_too),
	    cmocka_unit_test(the_last_of_ro_and_rw_wins),
	    cmocka_unit_test(a_url_is_no_path),
	    cmocka_unit_test(a_password_is_shown_nowhere),
	    cmocka_unit_test(a_multipath_device_keeps_the_name_that_mount_gives_it),
	    cmocka_unit_test(bad_usage_is_refused),
	    cmocka_unit_test(the_way_of_fencing_is_taken),
	    cmocka_unit_test(a_host_name_has_at_most_63_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
