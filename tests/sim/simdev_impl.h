/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private to the simulated device: simdev.c has the commands, simmedium.c media and handles. */
#ifndef TESTS_SIMDEV_IMPL_H
#define TESTS_SIMDEV_IMPL_H

#include "base/log.h"
#include "simdev.h"
#include "simpages.h"
#include "simrand.h"

#define SIMDEV_MAX_FAULTS 32

#define SIMDEV_FIRST_NEXUS 0x10000u /* smaller ones are for simdev_attach_nexus() alone */

enum pr_action { PR_PROBE, PR_REGISTER, PR_RESERVE, PR_PREEMPT, PR_READ };

struct pr_cmd {
	enum pr_action action;
	uint64_t own, other;	    /* keys; REGISTER: old and new */
	struct dev_pr_state *state; /* READ; NULL: nobody is there to read it */
};

struct cmd { /* one command on its way */
	enum simdev_op op;
	uint64_t off_bytes, len_bytes;
	void *in;	 /* read */
	const void *out; /* write, CAW's set */
	const void *test;
	struct pr_cmd pr;
	unsigned nexus;
	struct simdev_fault fault;
	uint64_t epoch, aborts;
	bool part; /* first step of a torn write: not counted */
};

struct late { /* a command that takes effect after its answer */
	struct late *next;
	struct dev *from;
	uint64_t due_ns;
	enum simdev_op op;
	uint64_t off_bytes, len_bytes;
	uint8_t *set;  /* what a write or a CAW writes */
	uint8_t *test; /* CAW */
	unsigned nexus;
	struct pr_cmd pr;
};

struct pr_reg {
	unsigned nexus;
	uint64_t key;
};

struct simdev_pr {
	bool supported, aptpl, reserved;
	uint32_t generation;
	size_t n;
	struct pr_reg reg[DEV_PR_KEYS_MAX];
};

struct simdev_medium {
	pthread_mutex_t mtx;
	struct clock *clk;
	unsigned refs;
	uint64_t size_bytes;
	uint32_t sector_bytes, phys_bytes;
	uint64_t rng, min_ns, max_ns, epoch, commands;
	bool can_drain;
	struct late *late;
	struct simdev *handles;
	unsigned next_nexus;
	struct simdev_pr pr;
	simdev_hook hook;
	void *hook_ctx;
	struct simdev_counts counts;
	struct simpages pages;
};

struct simdev {
	struct dev dev; /* first */
	struct simdev_medium *m;
	struct simdev *next; /* of the medium */
	unsigned nexus;
	char label[32];
	uint64_t aborts; /* +1 each time its commands are aborted */
	bool attention;	 /* its next command answers unit attention */
	atomic_bool killed;
	unsigned n_faults;
	struct simdev_fault fault[SIMDEV_MAX_FAULTS];
};

static inline struct simdev *simdev_of(struct dev *d)
{
	return (struct simdev *)d;
}

static inline void medium_lock(struct simdev_medium *m)
{
	lunfs_assert(pthread_mutex_lock(&m->mtx) == 0);
}

static inline void medium_unlock(struct simdev_medium *m)
{
	lunfs_assert(pthread_mutex_unlock(&m->mtx) == 0);
}

extern const struct dev_ops simdev_ops;
extern const struct dev_pr_ops simdev_pr_ops;
/* One command from its submission to its answer. */
int simdev_command(struct simdev *s, struct cmd *c);
/* The medium is locked. */
void simdev_late_land(struct simdev_medium *m, uint64_t now_ns);
void simdev_late_free(struct late *l);
/* All that is on its way from @nexus is gone; @told: its handles' next command hears of it. */
void simdev_abort_nexus(struct simdev_medium *m, unsigned nexus, bool told);
bool simdev_pr_conflict(struct simdev_medium *m, unsigned nexus);
void simdev_pr_power(struct simdev_medium *m); /* power was lost */
int simdev_pr_effect(struct simdev_medium *m, const struct cmd *c);
void simdev_pr_text(const struct cmd *c, char *buf, size_t len);

#endif
