/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of "lunfs dump" share: structures become JSON objects, text is made of these. */
#ifndef CLI_DUMP_H
#define CLI_DUMP_H

#include "cli/cli.h"
#include "inspect/inspect.h"

#define DUMP_ITEMS_MAX 100000u /* of one list */

struct dump {
	struct insp in;
	struct geo geo;
	struct clock *clk;
	bool all;  /* reserved bytes and empty elements too */
	bool bare; /* no superblock: only what stands in fixed places is known */
};

/* One structure, or a list; NULL with @why: it cannot be shown. */
struct json_object *dump_show(const struct dump *d, const char *what, char *why, size_t why_len);
/* dump_list.c: "dir:", "extents:", "attributes:", "log:". -EINVAL: @what is none of these. */
int dump_list(const struct dump *d, const char *what, struct json_object *to, char *why,
	      size_t why_len);
/* The items of the node in @buf, which @p names with a part "slot". */
void dump_items(const struct dump *d, const struct insp_place *p, const uint8_t *buf,
		struct json_object *to);
/* dump_text.c */
void dump_text(struct json_object *o);

/*
 * How fresh it is: the lock record of what guards it, read before and after. Adds "read_at" and
 * "fresh".
 */
struct dump_fresh {
	uint64_t guard;
	struct lunfs_lock_rec before, after;
	bool known;
};
void dump_fresh_begin(const struct dump *d, uint64_t guard, struct dump_fresh *f);
void dump_fresh_end(const struct dump *d, struct dump_fresh *f);
void dump_add_fresh(const struct dump *d, const struct dump_fresh *f, struct json_object *o);
void dump_add_time(const struct dump *d, struct json_object *o);

static inline void dump_add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}
static inline void dump_add_str(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, json_object_new_string(s));
}
/* Bytes that need not be text. */
void dump_add_bytes(struct json_object *o, const char *key, const void *at, size_t len);

#endif
