/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Searching and counting in bitmaps, 64 bits at a time. Reads no byte past the one of bit end-1. */
#include "base/bitmap.h"

#include <endian.h>
#include <string.h>

static uint64_t word_at(const uint8_t *map, size_t bit) /* bit % 8 == 0 */
{
	uint64_t w;

	memcpy(&w, map + bit / 8, sizeof(w));
	return le64toh(w);
}

size_t bit_find(const uint8_t *map, size_t from, size_t end, bool v)
{
	while (from < end) {
		unsigned b;

		if (from % 8 == 0 && end - from >= 64) {
			uint64_t w = word_at(map, from) ^ (v ? 0 : UINT64_MAX);

			if (w)
				return from + (size_t)__builtin_ctzll(w);
			from += 64;
			continue;
		}
		b = (map[from / 8] ^ (v ? 0u : 0xffu)) >> (from % 8);
		if (b) {
			size_t n = from + (size_t)__builtin_ctz(b);

			return n < end ? n : end;
		}
		from = (from / 8 + 1) * 8;
	}
	return end;
}

size_t bit_count(const uint8_t *map, size_t end)
{
	size_t n = 0, i = 0;

	for (; end - i >= 64; i += 64)
		n += (size_t)__builtin_popcountll(word_at(map, i));
	for (; end - i >= 8; i += 8)
		n += (size_t)__builtin_popcount(map[i / 8]);
	if (i < end)
		n += (size_t)__builtin_popcount(map[i / 8] & ((1u << (end - i)) - 1));
	return n;
}
