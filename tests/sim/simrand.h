/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small seeded generator (splitmix64): the same seed gives the same run. */
#ifndef TESTS_SIMRAND_H
#define TESTS_SIMRAND_H

#include <stdbool.h>
#include <stdint.h>

static inline uint64_t sim_rand(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline uint64_t sim_rand_below(uint64_t *state, uint64_t n) /* n >= 1 */
{
	return sim_rand(state) % n;
}

static inline bool sim_chance(uint64_t *state, unsigned one_in)
{
	return sim_rand_below(state, one_in) == 0;
}

#endif
