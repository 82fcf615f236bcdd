/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device that writes down what passes through it: every write, zeroing, discard,
 * compare-and-write and flush, with the moments of its submission and of its answer, and the data.
 * Any number of handles (one a host) write into one recording; all else goes to the device below.
 */
#ifndef CRASH_REC_H
#define CRASH_REC_H

#include <lunfs/dev.h>

#define CRASH_HOSTS 2u

enum rec_op { REC_WRITE, REC_ZERO, REC_DISCARD, REC_CAW, REC_FLUSH };
const char *rec_op_name(enum rec_op op);

struct rec_cmd {
	enum rec_op op;
	unsigned host;
	uint64_t off_bytes, len_bytes;
	uint8_t *data;	     /* NULL: zeroes */
	int result;	     /* of an answered one */
	size_t sent, answer; /* numbers of its events; answer SIZE_MAX: none */
};

enum rec_what {
	REC_SENT,
	REC_ANSWERED,
	REC_MARK, /* an operation has returned */
};

enum rec_up { UP_NOT, UP_YES, UP_LEAVING, UP_LEFT };

struct rec_host { /* how it stood at that moment */
	enum rec_up up;
	uint64_t lo, hi; /* the last transaction known to be durable; the last that may be */
};

struct rec_event {
	enum rec_what what;
	size_t cmd;	  /* REC_SENT, REC_ANSWERED */
	uint64_t history; /* events of the history of operations so far */
	struct rec_host host[CRASH_HOSTS];
};

struct rec {
	bool on;
	struct rec_cmd *cmd;
	size_t n_cmds, cap_cmds;
	struct rec_event *event;
	size_t n_events, cap_events;
	/* Fills in .history and .host of an event; may be NULL. */
	void (*note)(void *ctx, struct rec_event *e);
	void *ctx;
};

/* Takes over @below. */
struct dev *rec_dev(struct rec *r, struct dev *below, unsigned host);
void rec_mark(struct rec *r);
void rec_clear(struct rec *r);

#endif
