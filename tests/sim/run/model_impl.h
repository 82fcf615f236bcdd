/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private to the model: model.c has the tree, bytes.c what files hold. */
#ifndef SIM_MODEL_IMPL_H
#define SIM_MODEL_IMPL_H

#include "base/log.h"
#include "model.h"
#include "simcluster.h"

#define ALTS_MAX 6u

struct mval { /* bytes that operation tag - 1 wrote; at offset x: pattern(tag, x - base) */
	uint32_t tag;
	uint64_t base;
};

struct mseg { /* bytes [off, off + len) of a file: each sector one of these */
	uint64_t off, len;
	unsigned n;
	struct mval alt[ALTS_MAX];
};

struct ment {
	char name[12];
	uint32_t node;
};

struct mxattr {
	uint32_t tag; /* 0: none */
	uint64_t len;
};

#define LOST_MAX 32u

struct mlost { /* of a host that died: zeroes that were lost, or a write that was */
	uint64_t from, to;
	unsigned host;
	bool zeroes;
};

struct mnode {
	uint32_t type, nlink, parent, made_by;
	uint64_t ino, size;
	bool bound;   /* its number is known */
	bool dead;    /* was seen to be given up */
	bool muddled; /* what it holds is not known: an operation on it ended half-way */
	uint16_t opens[SC_HOSTS_MAX];
	struct mxattr xattr[2];
	struct ment *ent;
	uint32_t n_ent, cap_ent;
	struct mseg *seg; /* ascending, without gaps, up to size */
	uint32_t n_seg, cap_seg;
	struct mlost lost[LOST_MAX]; /* the latest ones */
	uint32_t n_lost;
};

struct model {
	uint32_t objects;
	bool full;
	uint32_t *node_of; /* of each object: 1 + index in node, 0: none */
	struct mnode *node;
	uint32_t n_nodes, cap_nodes;
	/* of the operation being applied */
	enum model_how how;
	const struct model_peers *peers;
	char *why;
	size_t why_len;
};

bool model_no(struct model *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* bytes.c; @n is a regular file. */
bool model_write(struct model *m, const struct hop *h, struct mnode *n);
bool model_read(struct model *m, const struct hop *h, struct mnode *n);
bool model_truncate(struct model *m, const struct hop *h, struct mnode *n);
bool model_fallocate(struct model *m, const struct hop *h, struct mnode *n);
void model_bytes_lost(struct model *m, const struct hop *h, struct mnode *n);
void model_bytes_host_gone(struct mnode *n, unsigned host);

#endif
