/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent reservations: what devices answer, several paths that fail one by one, and what goes
 * ahead of a COMPARE AND WRITE. The device here is a small one of its own: registrations by path.
 */
#include <errno.h>
#include <lunfs/dev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "dev/scout.h"
#include "dev/scsi_pr.h"

#define PATHS 3u
#define KEY_A 0xa1a2a3a4a5a6a7a8ull
#define KEY_B 0xb1b2b3b4b5b6b7b8ull

struct lun {
	uint64_t key[PATHS]; /* registered, of each path */
	uint64_t other;	     /* of another host's path */
	uint32_t generation;
	uint8_t reserved; /* type, or 0 */
	/* what goes wrong */
	int fail[PATHS]; /* the next REGISTER on that path ends so, or everything when down */
	bool lands;	 /* ... but takes effect */
	bool down[PATHS];
	bool shy;     /* another host registers between two questions */
	bool no_caps; /* REPORT CAPABILITIES is unknown */
	uint8_t caps[8];
	unsigned ready, questions; /* counted */
};

static void lun_init(struct lun *l)
{
	memset(l, 0, sizeof(*l));
	memcpy(l->caps, (uint8_t[]){0, 8, 1, 0x80, 0x80}, 5);
}

static int out_register(struct lun *l, unsigned path, uint64_t old, uint64_t key, bool anyway)
{
	int rc = l->fail[path];

	l->fail[path] = 0;
	if (rc && !l->lands)
		return rc;
	if (l->key[path] != old && !anyway)
		return rc ? rc : -EBADE;
	l->key[path] = key;
	l->generation++;
	return rc;
}

static int lun_out(struct lun *l, unsigned path, const struct spr_cmd *c)
{
	const uint8_t *p = c->buf;
	uint64_t key = sbc_be64(p), action_key = sbc_be64(p + 8);
	unsigned action = c->cdb[1];

	assert_int_equal(c->len_bytes, SPR_OUT_BYTES);
	if (action == 0 || action == 6) {
		assert_int_equal(p[20], 1); /* APTPL */
		return out_register(l, path, key, action_key, action == 6);
	}
	assert_int_equal(c->cdb[2], 7);
	if (!key || key != l->key[path])
		return -EBADE;
	if (action == 1) {
		if (l->reserved && l->reserved != 7)
			return -EBADE;
		l->reserved = 7;
		return 0;
	}
	assert_int_equal(action, 5);
	if (l->other != action_key)
		return -EBADE;
	l->other = 0;
	l->generation++;
	return 0;
}

static int lun_in(struct lun *l, struct spr_cmd *c)
{
	uint8_t *p = c->buf;
	size_t n = 0;

	l->questions++;
	sbc_put_be(p, l->generation, 4);
	c->got_bytes = c->len_bytes;
	if (c->cdb[1] == 2) {
		memcpy(p, l->caps, sizeof(l->caps));
		return l->no_caps ? -EINVAL : 0;
	}
	if (c->cdb[1] == 1) {
		sbc_put_be(p + 4, l->reserved ? 16 : 0, 4);
		p[21] = l->reserved;
		return 0;
	}
	for (unsigned i = 0; i <= PATHS; i++) {
		uint64_t key = i < PATHS ? l->key[i] : l->other;

		if (key)
			sbc_put_be(p + 8 + 8 * n++, key, 8);
	}
	sbc_put_be(p + 4, 8 * n, 4);
	l->generation += l->shy;
	l->shy = false;
	return 0;
}

static int lun_send(void *ctx, unsigned path, struct spr_cmd *c)
{
	struct lun *l = ctx;

	assert_true(path < PATHS);
	if (l->down[path])
		return -ETIMEDOUT;
	if (c->cdb[0] == 0x5f)
		return lun_out(l, path, c);
	if (c->cdb[0] == 0x5e)
		return lun_in(l, c);
	assert_int_equal(c->cdb[0], 0);
	l->ready++;
	return 0;
}

static struct spr_link link_of(struct lun *l, unsigned paths)
{
	return (struct spr_link){.ctx = l, .paths = paths, .send = lun_send};
}

/* ---- what devices answer ------------------------------------------------------------------ */

static void keys_are_read_only_as_far_as_they_came(void **state)
{
	uint8_t d[SPR_IN_BYTES + 8] = {0};
	uint64_t keys[DEV_PR_KEYS_MAX];
	struct dev_pr_state s = {.keys = keys};

	(void)state;
	sbc_put_be(d, 77, 4);
	sbc_put_be(d + 4, 16, 4);
	sbc_put_be(d + 8, KEY_A, 8);
	sbc_put_be(d + 16, KEY_B, 8);
	assert_int_equal(spr_decode_keys(d, 24, &s), 0);
	assert_int_equal(s.generation, 77);
	assert_int_equal(s.nkeys, 2);
	assert_true(keys[0] == KEY_A && keys[1] == KEY_B);
	assert_int_equal(spr_decode_keys(d, 23, &s), -EIO);
	assert_int_equal(spr_decode_keys(d, 7, &s), -EIO);
	assert_int_equal(spr_decode_keys(d, 0, &s), -EIO);
	sbc_put_be(d + 4, 15, 4);
	assert_int_equal(spr_decode_keys(d, sizeof(d), &s), -EIO);
	sbc_put_be(d + 4, 8 * DEV_PR_KEYS_MAX, 4);
	assert_int_equal(spr_decode_keys(d, SPR_IN_BYTES, &s), 0);
	sbc_put_be(d + 4, 8 * DEV_PR_KEYS_MAX + 8, 4);
	assert_int_equal(spr_decode_keys(d, sizeof(d), &s), -EOVERFLOW);
	sbc_put_be(d + 4, 0xfffffff8, 4);
	assert_int_equal(spr_decode_keys(d, sizeof(d), &s), -EOVERFLOW);
}

static void half_a_reservation_is_none_and_an_error(void **state)
{
	uint8_t d[24] = {[21] = 0x07};
	struct dev_pr_state s = {.reserved = true};

	(void)state;
	assert_int_equal(spr_decode_reservation(d, 8, &s), 0);
	assert_false(s.reserved);
	d[7] = 16;
	assert_int_equal(spr_decode_reservation(d, 24, &s), 0);
	assert_true(s.reserved);
	assert_int_equal(s.type, 7);
	assert_int_equal(spr_decode_reservation(d, 23, &s), -EIO);
	d[7] = 15;
	assert_int_equal(spr_decode_reservation(d, 24, &s), -EIO);
	assert_int_equal(spr_decode_reservation(d, 4, &s), -EIO);
}

static void a_device_is_used_only_if_it_can_what_is_needed(void **state)
{
	struct lun lun;
	struct spr_link l = link_of(&lun, PATHS);
	char why[256];

	(void)state;
	lun_init(&lun);
	assert_int_equal(spr_probe(&l, "it", why, sizeof(why)), 0);
	lun.caps[2] = 0;
	assert_int_equal(spr_probe(&l, "it", why, sizeof(why)), -EOPNOTSUPP);
	assert_non_null(strstr(why, "power loss"));
	lun.caps[2] = 1;
	lun.caps[4] = 0x7f;
	assert_int_equal(spr_probe(&l, "it", why, sizeof(why)), -EOPNOTSUPP);
	assert_non_null(strstr(why, "All Registrants"));
	lun.caps[3] = 0; /* it does not state types: it may know them */
	assert_int_equal(spr_probe(&l, "it", why, sizeof(why)), 0);
	lun.caps[1] = 4;
	assert_int_equal(spr_probe(&l, "it", why, sizeof(why)), -EOPNOTSUPP);
	lun_init(&lun);
	lun.no_caps = true;
	assert_int_equal(spr_probe(&l, "it", why, sizeof(why)), -EOPNOTSUPP);
	lun_init(&lun);
	lun.down[2] = true;
	assert_int_equal(spr_probe(&l, "it", why, sizeof(why)), -EOPNOTSUPP);
	l.paths = 0;
	assert_int_equal(spr_probe(&l, "it", why, sizeof(why)), -EOPNOTSUPP);
}

static void what_changes_between_the_questions_is_asked_again(void **state)
{
	uint64_t keys[DEV_PR_KEYS_MAX];
	struct dev_pr_state s = {.keys = keys};
	struct lun lun;
	struct spr_link l = link_of(&lun, PATHS);

	(void)state;
	lun_init(&lun);
	lun.shy = true;
	lun.other = KEY_B;
	lun.down[0] = true; /* another path will do */
	assert_int_equal(spr_read_state(&l, &s), 0);
	assert_int_equal(lun.questions, 4);
	assert_int_equal(s.nkeys, 1);
	assert_int_equal(s.generation, 1);
}

/* ---- several paths ------------------------------------------------------------------------ */

static bool all_have(const struct lun *l, uint64_t key)
{
	return l->key[0] == key && l->key[1] == key && l->key[2] == key;
}

static void a_registration_is_on_every_path_or_on_none(void **state)
{
	struct lun lun;
	struct spr_link l = link_of(&lun, PATHS);

	(void)state;
	for (unsigned bad = 0; bad < PATHS; bad++) {
		for (int landed = 0; landed < 2; landed++) {
			lun_init(&lun);
			lun.fail[bad] = -ETIMEDOUT;
			lun.lands = landed;
			assert_int_equal(spr_register(&l, 0, KEY_A), -ETIMEDOUT);
			assert_true(all_have(&lun, 0));
		}
		lun_init(&lun);
		lun.key[bad] = KEY_B;
		assert_int_equal(spr_register(&l, 0, KEY_A), -EBADE);
		assert_int_equal(lun.key[bad], KEY_B);
		assert_true(lun.key[(bad + 1) % PATHS] == 0 && lun.key[(bad + 2) % PATHS] == 0);
	}
	lun_init(&lun);
	assert_int_equal(spr_register(&l, 0, KEY_A), 0);
	assert_true(all_have(&lun, KEY_A));
	assert_int_equal(spr_register(&l, KEY_A, 0), 0);
	assert_true(all_have(&lun, 0));
}

static void a_key_that_is_replaced_may_be_missing_on_a_path(void **state)
{
	struct lun lun;
	struct spr_link l = link_of(&lun, PATHS);

	(void)state;
	lun_init(&lun);
	lun.key[0] = lun.key[2] = KEY_A;
	assert_int_equal(spr_register(&l, KEY_A, KEY_B), 0);
	assert_true(all_have(&lun, KEY_B));
}

/* Each path has the key from the moment at which it gets it, whatever happens to the others. */
static void registering_anyway_takes_no_key_off(void **state)
{
	struct lun lun;
	struct spr_link l = link_of(&lun, PATHS);

	(void)state;
	lun_init(&lun);
	lun.key[0] = KEY_A;
	lun.fail[1] = -EIO;
	assert_int_equal(spr_register_anyway(&l, KEY_A), -EIO);
	assert_true(lun.key[0] == KEY_A && lun.key[1] == 0);
	assert_int_equal(spr_register_anyway(&l, KEY_A), 0);
	assert_true(all_have(&lun, KEY_A));
}

/* It asks whether the key is there; making it anew would let a fenced path in again. */
static void a_key_that_stays_is_never_made_anew(void **state)
{
	struct lun lun;
	struct spr_link l = link_of(&lun, PATHS);

	(void)state;
	lun_init(&lun);
	lun.key[0] = lun.key[1] = KEY_A;
	assert_int_equal(spr_register(&l, KEY_A, KEY_A), -EBADE);
	assert_true(lun.key[0] == KEY_A && lun.key[1] == KEY_A && lun.key[2] == 0);
}

static void unregistering_goes_on_past_a_path_that_fails(void **state)
{
	struct lun lun;
	struct spr_link l = link_of(&lun, PATHS);

	(void)state;
	lun_init(&lun);
	lun.key[1] = lun.key[2] = KEY_A;
	lun.down[0] = true;
	assert_int_equal(spr_register(&l, KEY_A, 0), -ETIMEDOUT);
	assert_true(all_have(&lun, 0));
}

static void fencing_takes_any_path_that_works(void **state)
{
	struct lun lun;
	struct spr_link l = link_of(&lun, PATHS);

	(void)state;
	lun_init(&lun);
	lun.other = KEY_B;
	assert_int_equal(spr_register(&l, 0, KEY_A), 0);
	lun.down[0] = lun.down[1] = true;
	assert_int_equal(spr_reserve(&l, KEY_A), 0);
	assert_int_equal(spr_preempt_abort(&l, KEY_A, KEY_B), 0);
	assert_int_equal(lun.other, 0);
	assert_int_equal(spr_preempt_abort(&l, KEY_A, KEY_B), -EBADE);
	assert_int_equal(spr_preempt_abort(&l, KEY_A, 0), -EINVAL);
	assert_int_equal(spr_preempt_abort(&l, KEY_A, KEY_A), -EINVAL);
	lun.down[2] = true;
	assert_int_equal(spr_preempt_abort(&l, KEY_A, KEY_B), -ETIMEDOUT);
}

static void a_reservation_of_another_type_is_not_ours(void **state)
{
	struct lun lun;
	struct spr_link l = link_of(&lun, 1);

	(void)state;
	lun_init(&lun);
	lun.key[0] = KEY_A;
	lun.reserved = 5;
	assert_int_equal(spr_reserve(&l, KEY_A), -EBADE);
	lun.reserved = 7;
	assert_int_equal(spr_reserve(&l, KEY_A), 0);
	assert_int_equal(spr_reserve(&l, KEY_B), -EBADE);
}

/* ---- what goes ahead ---------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void a_host_that_was_fenced_meanwhile_is_told_before_it_compares(void **state)
{
	struct dev d = {.deadline_ms = 8000};
	struct scout s = {0};
	struct lun lun;
	struct spr_link l = link_of(&lun, 1);
	uint64_t until;

	(void)state;
	lun_init(&lun);
	lun.reserved = 7;
	scout_init(&s, &d);
	assert_int_equal(scout_ahead(&s, &l, &until), -EBADE); /* reserved, and we have no key */
	lun.key[0] = KEY_A;
	scout_registered(&s, KEY_A);
	assert_int_equal(scout_ahead(&s, &l, &until), 0);
	assert_true(until > now_ns() && until < now_ns() + 4100000000u);
	scout_answered(&s, now_ns(), DEV_CAW_MISCOMPARE, DEV_CAUSE_NONE);
	lun.questions = lun.ready = 0;
	assert_int_equal(scout_ahead(&s, &l, &until), 0);
	assert_int_equal(lun.questions + lun.ready, 0); /* it beats: nothing goes ahead */
	lun.key[0] = 0;					/* and now it stands still for long */
	atomic_store(&s.passed_ns, now_ns() - 5000000000u);
	assert_int_equal(scout_ahead(&s, &l, &until), -EBADE);
	lun.reserved = 0;
	assert_int_equal(scout_ahead(&s, &l, &until), 0);
	lun.down[0] = true;
	assert_int_equal(scout_ahead(&s, &l, &until), -EAGAIN);
}

static void a_linux_target_is_asked_before_each(void **state)
{
	struct dev d = {.id.product = "LIO-ORG IBLOCK 4.0"};
	struct scout s = {0};
	struct lun lun;
	struct spr_link l = link_of(&lun, 1);
	uint64_t until;

	(void)state;
	lun_init(&lun);
	scout_init(&s, &d);
	scout_answered(&s, now_ns(), DEV_CAW_GOOD, DEV_CAUSE_NONE);
	for (unsigned i = 1; i < 4; i++) {
		assert_int_equal(scout_ahead(&s, &l, &until), 0);
		assert_int_equal(lun.ready, i);
	}
	assert_int_equal(lun.questions, 0);
}

/* ---- multipathd --------------------------------------------------------------------------- */

static bool registers(const char *dir, const char *text)
{
	char file[128];
	bool yes;
	FILE *f;

	snprintf(file, sizeof(file), "%s/x.conf", dir);
	f = fopen(file, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	yes = spr_multipathd_registers("/nonexistent", dir);
	assert_int_equal(yes, spr_multipathd_registers(file, "/nonexistent"));
	unlink(file);
	return yes;
}

static void only_a_key_that_multipathd_would_register_counts(void **state)
{
	char dir[] = "/tmp/lunfs-multipath.XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_false(registers(dir, ""));
	assert_false(registers(dir, "defaults {\n\tuser_friendly_names yes\n}\n"));
	assert_false(registers(dir, "# reservation_key 0x1\n  #reservation_key file\n"));
	assert_false(registers(dir, "defaults { prkeys_file /x\n}\n"));
	assert_true(registers(dir, "defaults {\n\treservation_key 0x1234\n}\n"));
	assert_true(
	    registers(dir, "multipaths {\n multipath {\n  wwid 1\n reservation_key\tfile\n}}\n"));
	assert_true(registers(dir, "defaults { reservation_key \"0x1\" }\n"));
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(keys_are_read_only_as_far_as_they_came),
	    cmocka_unit_test(half_a_reservation_is_none_and_an_error),
	    cmocka_unit_test(a_device_is_used_only_if_it_can_what_is_needed),
	    cmocka_unit_test(what_changes_between_the_questions_is_asked_again),
	    cmocka_unit_test(a_registration_is_on_every_path_or_on_none),
	    cmocka_unit_test(a_key_that_is_replaced_may_be_missing_on_a_path),
	    cmocka_unit_test(registering_anyway_takes_no_key_off),
	    cmocka_unit_test(a_key_that_stays_is_never_made_anew),
	    cmocka_unit_test(unregistering_goes_on_past_a_path_that_fails),
	    cmocka_unit_test(fencing_takes_any_path_that_works),
	    cmocka_unit_test(a_reservation_of_another_type_is_not_ours),
	    cmocka_unit_test(a_host_that_was_fenced_meanwhile_is_told_before_it_compares),
	    cmocka_unit_test(a_linux_target_is_asked_before_each),
	    cmocka_unit_test(only_a_key_that_multipathd_would_register_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
