/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a seed to a plan: everything that is chosen before a run begins. */
#include "run.h"

#define MS 1000000ull
#define DRIFT_PPM 7500 /* of each clock: two may differ by nearly 1/64 */

static const char *const names[PROFILES] = {"calm",  "crash",  "zombie", "flaky",
					    "power", "outage", "mixed",	 "liar"};

const char *profile_name(enum profile p)
{
	return names[p];
}

const char *lie_name(enum lie l)
{
	static const char *const name[LIES] = {"none",
					       "compare-and-write does not compare",
					       "compare-and-write is not atomic",
					       "compare-and-write writes nothing",
					       "compare-and-write sees no match",
					       "lost metadata writes",
					       "corrupt metadata reads",
					       "stale metadata reads",
					       "roll-back of the array",
					       "scribbled lock sectors"};

	return name[l];
}

int profile_find(const char *name)
{
	for (int p = 0; p < PROFILES; p++)
		if (strcmp(name, names[p]) == 0)
			return p;
	return -1;
}

/* Small clusters are cheap, large ones rare; two hosts meet most. */
static unsigned choose_hosts(uint64_t *rng)
{
	static const uint8_t table[] = {2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 6, 8};

	return table[sim_rand_below(rng, sizeof(table))];
}

void plan_make(struct plan *p, uint64_t seed, const struct plan_force *f)
{
	uint64_t rng = seed ^ 0x6c756e66732d7369ull;
	unsigned hosts = choose_hosts(&rng);
	enum profile profile = (enum profile)sim_rand_below(&rng, PROFILES);

	memset(p, 0, sizeof(*p));
	p->seed = seed;
	p->hosts = f->hosts ? f->hosts : hosts;
	p->profile = f->profile >= 0 ? (enum profile)f->profile : profile;
	p->sector_bytes = sim_chance(&rng, 4) ? 4096 : 512;
	p->tasks = 1 + (unsigned)sim_rand_below(&rng, p->hosts > 4 ? 2 : 3);
	p->lat_min_ns = 20000;
	p->lat_max_ns = sim_chance(&rng, 4) ? 4 * MS : 300000;
	p->work_ns = (1000 + sim_rand_below(&rng, 2000)) * MS;
	p->ops_max = 400 + sim_rand_below(&rng, 400);
	p->think_ns = sim_rand_below(&rng, 3) * MS;
	p->events = 1 + (unsigned)sim_rand_below(&rng, 3);
	p->weights = (unsigned)sim_rand_below(&rng, 3);
	if (sim_chance(&rng, 4)) /* not the smallest there is */
		p->journal_bytes = 3ull << 20;
	p->full = p->profile != PROF_LIAR && sim_chance(&rng, 8);
	p->lie =
	    p->profile == PROF_LIAR ? (enum lie)(1 + sim_rand_below(&rng, LIES - 1)) : LIE_NONE;
	p->lie_one_in = (p->lie == LIE_LOST_WRITE ? 4u : 20u) << sim_rand_below(&rng, 6);
	p->pr = sim_chance(&rng, 2) || p->profile == PROF_ZOMBIE;
	if (sim_chance(&rng, 2))
		for (unsigned n = 0; n < p->hosts; n++)
			p->drift_ppm[n] = (int)sim_rand_below(&rng, 2 * DRIFT_PPM + 1) - DRIFT_PPM;
	p->wide = !p->full && sim_chance(&rng, 4);
	p->caw_cached = seed / 4 % 2;
	p->crowd = seed % 4 == 2;
	if (p->crowd)
		p->tasks = p->hosts > 3 ? 3 : ACTORS_MAX;
}
