/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC32C, SipHash and bitmaps against published vectors and against the plain way of doing it. */
#include "unit.h"

#include "base/bitmap.h"
#include "base/crc.h"
#include "base/siphash.h"

#include <stdlib.h>
#include <string.h>

static void crc32c_gives_the_check_value_of_rfc_3720(void **state)
{
	uint8_t zeroes[32] = {0}, up[32];

	(void)state;
	for (uint8_t i = 0; i < 32; i++)
		up[i] = i;
	assert_int_equal(crc32c("123456789", 9), 0xe3069283u);
	assert_int_equal(crc32c(zeroes, 32), 0x8a9136aau);
	assert_int_equal(crc32c(up, 32), 0x46dd794eu);
	assert_int_equal(crc32c("", 0), 0);
}

static void a_sealed_buffer_fails_after_any_bit_flips(void **state)
{
	uint8_t buf[64];

	(void)state;
	memset(buf, 0xa5, sizeof(buf));
	crc_seal(buf, sizeof(buf), 12);
	assert_true(crc_ok(buf, sizeof(buf), 12));
	for (unsigned bit = 0; bit < sizeof(buf) * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(crc_ok(buf, sizeof(buf), 12));
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void the_crc_field_counts_as_zero(void **state)
{
	uint8_t buf[40] = {1, 2, 3};
	uint32_t plain = crc32c(buf, sizeof(buf));

	(void)state;
	memset(buf + 36, 0xff, 4);
	assert_int_equal(crc32c_except(buf, sizeof(buf), 36), plain);
	memset(buf + 36, 0, 4);
	memset(buf + 20, 0xff, 4);
	assert_int_equal(crc32c_except(buf, sizeof(buf), 20), plain);
}

static void mem_is_zero_sees_a_single_byte(void **state)
{
	uint8_t buf[33] = {0};

	(void)state;
	assert_true(mem_is_zero(buf, sizeof(buf)));
	assert_true(mem_is_zero(NULL, 0));
	for (unsigned i = 0; i < sizeof(buf); i++) {
		buf[i] = 1;
		assert_false(mem_is_zero(buf, sizeof(buf)));
		buf[i] = 0;
	}
}

/* From the paper's appendix A and the reference implementation's vectors: key 00..0f, input 00 01
 * .. */
static void siphash_gives_the_reference_vectors(void **state)
{
	static const struct {
		size_t len;
		uint64_t hash;
	} v[] = {{0, 0x726fdb47dd0e0e31ull},  {1, 0x74f839c593dc67fdull},
		 {7, 0xab0200f58b01d137ull},  {8, 0x93f5f5799a932462ull},
		 {15, 0xa129ca6149be45e5ull}, {63, 0x958a324ceb064572ull}};
	uint8_t key[16], in[64];

	(void)state;
	for (uint8_t i = 0; i < 16; i++)
		key[i] = i;
	for (uint8_t i = 0; i < 64; i++)
		in[i] = i;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		assert_true(siphash24(key, in, v[i].len) == v[i].hash);
}

static size_t plain_find(const uint8_t *map, size_t from, size_t end, bool v)
{
	while (from < end && bit_get(map, from) != v)
		from++;
	return from < end ? from : end;
}

static void bit_find_agrees_with_looking_at_every_bit(void **state)
{
	(void)state;
	srandom(7);
	for (int round = 0; round < 300; round++) {
		size_t bits = 1 + (size_t)random() % 700, bytes = (bits + 7) / 8;
		uint8_t *map = malloc(bytes); /* exact, so that ASan sees a read too far */
		int density = round % 3;

		for (size_t i = 0; i < bytes; i++)
			map[i] = (uint8_t)(density == 0 ? 0 : density == 1 ? 0xff : random());
		for (int i = 0; i < 3; i++)
			map[(size_t)random() % bytes] ^= (uint8_t)(1u << random() % 8);
		for (size_t from = 0; from <= bits; from++) {
			assert_int_equal(bit_find(map, from, bits, true),
					 plain_find(map, from, bits, true));
			assert_int_equal(bit_find(map, from, bits, false),
					 plain_find(map, from, bits, false));
		}
		free(map);
	}
}

static void bit_count_counts_only_below_the_end(void **state)
{
	uint8_t map[40];
	size_t ones = 0;

	(void)state;
	srandom(3);
	for (size_t i = 0; i < sizeof(map); i++)
		map[i] = (uint8_t)random();
	for (size_t end = 0; end <= sizeof(map) * 8; end++) {
		assert_int_equal(bit_count(map, end), ones);
		if (end < sizeof(map) * 8)
			ones += bit_get(map, end);
	}
}

static void bit_find_from_past_the_end_is_the_end(void **state)
{
	uint8_t map[2] = {0xff, 0xff};

	(void)state;
	assert_int_equal(bit_find(map, 16, 10, true), 10);
	assert_int_equal(bit_find(map, 3, 3, true), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(crc32c_gives_the_check_value_of_rfc_3720),
	    cmocka_unit_test(a_sealed_buffer_fails_after_any_bit_flips),
	    cmocka_unit_test(the_crc_field_counts_as_zero),
	    cmocka_unit_test(mem_is_zero_sees_a_single_byte),
	    cmocka_unit_test(siphash_gives_the_reference_vectors),
	    cmocka_unit_test(bit_find_agrees_with_looking_at_every_bit),
	    cmocka_unit_test(bit_count_counts_only_below_the_end),
	    cmocka_unit_test(bit_find_from_past_the_end_is_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
