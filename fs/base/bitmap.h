/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bitmaps as they stand on disk: bit n is bit n%8 of byte n/8. */
#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool bit_get(const uint8_t *map, size_t n)
{
	return (map[n / 8] >> (n % 8)) & 1;
}
static inline void bit_set(uint8_t *map, size_t n)
{
	map[n / 8] = (uint8_t)(map[n / 8] | 1u << (n % 8));
}
static inline void bit_clear(uint8_t *map, size_t n)
{
	map[n / 8] = (uint8_t)(map[n / 8] & ~(1u << (n % 8)));
}
/* First bit of value @v in [from, end), or @end. */
size_t bit_find(const uint8_t *map, size_t from, size_t end, bool v);
size_t bit_count(const uint8_t *map, size_t end); /* ones in [0, end) */

#endif
