/* SPDX-License-Identifier: GPL-2.0-or-later */
/* POSIX ACLs: validity, and their meeting with the mode, as Linux has it. */
#include "fake.h"

#include <errno.h>
#include <string.h>

enum { UO = 1, U = 2, GO = 4, G = 8, M = 16, O = 32 };

struct entry {
	uint16_t tag, perm;
	uint32_t id;
};

struct acl {
	uint8_t b[256];
	size_t len;
};

static struct acl make(const struct entry *e, size_t n)
{
	struct acl a = {.len = 4 + 8 * n};

	a.b[0] = 2;
	for (size_t k = 0; k < n; k++) {
		uint8_t *p = a.b + 4 + 8 * k;

		p[0] = (uint8_t)e[k].tag;
		p[2] = (uint8_t)e[k].perm;
		p[3] = (uint8_t)(e[k].perm >> 8);
		for (int i = 0; i < 4; i++)
			p[4 + i] = (uint8_t)(e[k].id >> (8 * i));
	}
	return a;
}

#define ACL(...)                                                                                   \
	make((const struct entry[]){__VA_ARGS__},                                                  \
	     sizeof((const struct entry[]){__VA_ARGS__}) / sizeof(struct entry))

static unsigned perm_of(const struct acl *a, size_t k)
{
	return a->b[4 + 8 * k + 2];
}

#define NOID 0xffffffffu
#define MINIMAL ACL({UO, 6, NOID}, {GO, 4, NOID}, {O, 4, NOID})
#define FULL                                                                                       \
	ACL({UO, 7, NOID}, {U, 6, 1000}, {GO, 5, NOID}, {G, 3, 100}, {M, 6, NOID}, {O, 1, NOID})

static void only_well_formed_lists_are_valid(void **state)
{
	struct acl a = FULL;
	const struct acl bad[] = {
	    ACL({UO, 6, NOID}, {GO, 4, NOID}),				    /* no other */
	    ACL({GO, 4, NOID}, {UO, 6, NOID}, {O, 4, NOID}),		    /* order */
	    ACL({UO, 6, NOID}, {UO, 6, NOID}, {GO, 4, NOID}, {O, 4, NOID}), /* twice */
	    ACL({UO, 6, NOID}, {U, 6, 5}, {GO, 4, NOID}, {O, 4, NOID}),	    /* no mask */
	    ACL({UO, 6, NOID}, {U, 6, NOID}, {GO, 4, NOID}, {M, 4, NOID}, {O, 4, NOID}),
	    ACL({UO, 8, NOID}, {GO, 4, NOID}, {O, 4, NOID}), /* perm */
	    ACL({UO, 6, NOID}, {GO, 4, NOID}, {O, 4, NOID}, {O, 4, NOID}),
	    ACL({UO, 6, NOID}, {GO, 4, NOID}, {G, 4, 5}, {U, 4, 5}, {M, 4, NOID}, {O, 4, NOID}),
	    ACL({UO, 6, NOID}, {GO, 4, NOID}, {64, 4, NOID}, {O, 4, NOID}),
	    ACL({UO, 0x106, NOID}, {GO, 4, NOID}, {O, 4, NOID}),
	};

	(void)state;
	assert_int_equal(acl_check(a.b, a.len), 0);
	assert_int_equal(acl_check(a.b, a.len - 1), -EINVAL);
	assert_int_equal(acl_check(a.b, 3), -EINVAL);
	assert_int_equal(acl_check(a.b, 4), -EINVAL);
	a.b[0] = 3;
	assert_int_equal(acl_check(a.b, a.len), -EINVAL);
	a = MINIMAL;
	assert_int_equal(acl_check(a.b, a.len), 0);
	a = ACL({UO, 6, NOID}, {GO, 4, NOID}, {M, 4, NOID}, {O, 4, NOID});
	assert_int_equal(acl_check(a.b, a.len), 0);
	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		assert_int_equal(acl_check(bad[k].b, bad[k].len), -EINVAL);
}

static void the_mask_is_the_group_bits_of_the_mode(void **state)
{
	struct acl a = FULL;
	uint32_t mode = S_IFREG | 04000;
	bool minimal;

	(void)state;
	assert_int_equal(acl_to_mode(a.b, a.len, &mode, &minimal), 0);
	assert_int_equal(mode, S_IFREG | 04761);
	assert_false(minimal);
	a = MINIMAL;
	assert_int_equal(acl_to_mode(a.b, a.len, &mode, &minimal), 0);
	assert_int_equal(mode, S_IFREG | 04644);
	assert_true(minimal);
}

static void chmod_changes_the_mask_and_not_the_group(void **state)
{
	struct acl a = FULL;

	(void)state;
	assert_int_equal(acl_chmod(a.b, a.len, 0640), 0);
	assert_int_equal(perm_of(&a, 0), 6);
	assert_int_equal(perm_of(&a, 1), 6);
	assert_int_equal(perm_of(&a, 2), 5);
	assert_int_equal(perm_of(&a, 4), 4);
	assert_int_equal(perm_of(&a, 5), 0);
	a = MINIMAL;
	assert_int_equal(acl_chmod(a.b, a.len, 0751), 0);
	assert_int_equal(perm_of(&a, 1), 5);
}

static void a_new_file_gets_no_more_than_was_asked_for(void **state)
{
	struct acl a = FULL, access;
	uint32_t mode = S_IFREG | 0640;
	bool minimal;

	(void)state;
	assert_int_equal(acl_inherit(a.b, a.len, &mode, access.b, &minimal), 0);
	assert_int_equal(mode, S_IFREG | 0640);
	assert_false(minimal);
	assert_int_equal(perm_of(&access, 0), 6); /* 7 & 6 */
	assert_int_equal(perm_of(&access, 1), 6);
	assert_int_equal(perm_of(&access, 2), 5);
	assert_int_equal(perm_of(&access, 4), 4); /* mask 6 & 4 */
	assert_int_equal(perm_of(&access, 5), 0);
	a = MINIMAL;
	mode = S_IFDIR | 02777;
	assert_int_equal(acl_inherit(a.b, a.len, &mode, access.b, &minimal), 0);
	assert_int_equal(mode, S_IFDIR | 02644);
	assert_true(minimal);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_well_formed_lists_are_valid),
	    cmocka_unit_test(the_mask_is_the_group_bits_of_the_mode),
	    cmocka_unit_test(chmod_changes_the_mask_and_not_the_group),
	    cmocka_unit_test(a_new_file_gets_no_more_than_was_asked_for),
	};

	return cmocka_run_group_tests_name("node-acl", tests, NULL, NULL);
}
