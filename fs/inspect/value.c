/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fields of a place by name; numbers in them and what they mean. */
#include "inspect/inspect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* ---- finding --------------------------------------------------------------------------------- */

struct word { /* one component: name, or name[index] */
	char name[32];
	bool indexed;
	unsigned long index;
	const char *rest; /* behind the '.', NULL: the last one */
};

static int parse_word(const char *text, struct word *w)
{
	size_t n = strcspn(text, ".[");
	char *end;

	if (n == 0 || n >= sizeof(w->name))
		return -EINVAL;
	memcpy(w->name, text, n);
	w->name[n] = '\0';
	w->indexed = text[n] == '[';
	w->index = 0;
	text += n;
	if (w->indexed) {
		w->index = strtoul(text + 1, &end, 0);
		if (end == text + 1 || *end != ']' || w->index > UINT16_MAX)
			return -EINVAL;
		text = end + 1;
	}
	if (*text != '\0' && *text != '.')
		return -EINVAL;
	w->rest = *text == '.' ? text + 1 : NULL;
	return 0;
}

/* @w names @f, which stands at @off: apply the index. */
static int take(const struct insp_field *f, const struct word *w, uint32_t off, struct insp_ref *r)
{
	uint32_t all = (uint32_t)f->width * f->count;

	*r = (struct insp_ref){.f = f, .off = off, .width = all, .bit = -1};
	if (!w->indexed)
		return 0;
	r->indexed = true;
	if (f->array) {
		r->off += (uint32_t)w->index * f->width;
		r->width = f->width;
		return w->index < f->count ? 0 : -ENOENT;
	}
	if (f->kind == INSP_BITMAP) {
		r->off += (uint32_t)(w->index / 8);
		r->bit = (int)(w->index % 8);
		r->width = 1;
		return w->index / 8 < f->width ? 0 : -ENOENT;
	}
	if (f->kind < INSP_BYTES || f->kind == INSP_STRUCT)
		return -ENOENT;
	r->off += (uint32_t)w->index; /* one byte of many */
	r->width = 1;
	return w->index < f->width ? 0 : -ENOENT;
}

static int in_struct(const struct insp_struct *st, uint32_t off, uint32_t tail_len,
		     const char *text, struct insp_ref *r)
{
	struct word w;
	int rc = parse_word(text, &w);

	if (rc)
		return rc;
	for (unsigned i = 0; i < st->n; i++) {
		const struct insp_field *f = &st->field[i];

		if (strcmp(f->name, w.name) != 0)
			continue;
		rc = take(f, &w, off + f->off, r);
		if (rc || !w.rest)
			return rc;
		if (f->kind != INSP_STRUCT || (f->array && !w.indexed))
			return -ENOENT;
		return in_struct(f->sub, r->off, 0, w.rest, r);
	}
	if (st->tail && strcmp(st->tail, w.name) == 0 && !w.rest) {
		struct insp_field own = {.name = st->tail,
					 .width = (uint16_t)tail_len,
					 .count = 1,
					 .kind = st->tail_kind};

		rc = take(&own, &w, off + st->size, r);
		r->own = own;
		r->f = NULL;
		return rc;
	}
	/* A head's fields may be named without it. */
	if (st->n && st->field[0].kind == INSP_STRUCT && strcmp(st->field[0].name, "hdr") == 0)
		return in_struct(st->field[0].sub, off, 0, text, r);
	return -ENOENT;
}

static int in_part(const struct insp_part *p, unsigned long index, const char *text,
		   struct insp_ref *r)
{
	if (index >= p->count)
		return -ENOENT;
	return in_struct(p->st, p->off + (uint32_t)index * p->st->size, p->tail_len, text, r);
}

int insp_field_find(const struct insp_place *p, const char *field, struct insp_ref *out)
{
	struct word w;
	int rc = parse_word(field, &w);
	struct insp_ref r;

	for (unsigned i = 0; rc == 0 && w.rest && i < p->parts; i++)
		if (strcmp(p->part[i].name, w.name) == 0 && w.indexed == p->part[i].array &&
		    in_part(&p->part[i], w.index, w.rest, &r) == 0)
			goto found;
	for (unsigned i = 0; rc == 0 && i < p->parts; i++)
		if (!p->part[i].array && in_part(&p->part[i], 0, field, &r) == 0)
			goto found;
	return rc ? rc : -ENOENT;
found:
	if (r.off > p->len_bytes || r.width > p->len_bytes - r.off)
		return -EUCLEAN;
	*out = r;
	if (!out->f)
		out->f = &out->own;
	return 0;
}

/* ---- numbers --------------------------------------------------------------------------------- */

uint64_t insp_number(enum insp_kind kind, const void *at)
{
	switch (kind) {
	case INSP_LE16:
		return le16_get(*(const le16 *)at);
	case INSP_LE32:
		return le32_get(*(const le32 *)at);
	case INSP_LE64:
		return le64_get(*(const le64 *)at);
	default:
		return *(const uint8_t *)at;
	}
}

bool insp_is_number(const struct insp_ref *r)
{
	const struct insp_field *f = r->f;

	if (f->array && !r->indexed)
		return false;
	return f->kind <= INSP_LE64 || (r->indexed && f->kind != INSP_STRUCT) ||
	       (f->kind == INSP_ZERO && (r->width == 2 || r->width == 4 || r->width == 8));
}

uint64_t insp_get(const struct insp_ref *r, const void *buf)
{
	const uint8_t *at = (const uint8_t *)buf + r->off;
	uint64_t v = 0;

	if (r->bit >= 0)
		return *at >> r->bit & 1u;
	for (uint32_t i = r->width; i > 0; i--)
		v = v << 8 | at[i - 1];
	return v;
}

void insp_set(const struct insp_ref *r, void *buf, uint64_t value)
{
	uint8_t *at = (uint8_t *)buf + r->off;

	if (r->bit >= 0) {
		*at = (uint8_t)((*at & ~(1u << r->bit)) | (value ? 1u << r->bit : 0));
		return;
	}
	for (uint32_t i = 0; i < r->width; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

/* ---- meanings -------------------------------------------------------------------------------- */

static const char *name_of(const struct insp_name *n, uint64_t v)
{
	for (; n->name; n++)
		if (n->value == v)
			return n->name;
	return NULL;
}

static void say_flags(const struct insp_name *n, uint64_t v, char *out, size_t len)
{
	size_t at = 0;

	out[0] = '\0';
	for (; n->name; n++) {
		if (!(v & n->value))
			continue;
		at += (size_t)snprintf(out + at, len - at, "%s%s", at ? "|" : "", n->name);
		v &= ~n->value;
		if (at >= len)
			return;
	}
	if (v)
		snprintf(out + at, len - at, "%sunknown bits %#llx", at ? "|" : "",
			 (unsigned long long)v);
}

static void say_mode(uint64_t v, char *out, size_t len)
{
	static const struct insp_name types[] = {
	    {S_IFREG, "regular file"},	{S_IFDIR, "directory"},
	    {S_IFLNK, "symbolic link"}, {S_IFCHR, "character device"},
	    {S_IFBLK, "block device"},	{S_IFIFO, "fifo"},
	    {S_IFSOCK, "socket"},	{0, NULL}};
	const char *t = v >> 16 ? NULL : name_of(types, v & S_IFMT);

	snprintf(out, len, "%s, %04llo", t ? t : "no file type", (unsigned long long)(v & 07777));
}

static void say_time(uint64_t v, char *out, size_t len)
{
	time_t t = (time_t)v;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, len, "%Y-%m-%d %H:%M:%S UTC", &tm))
		snprintf(out, len, "no time of this calendar");
}

static void say_entry(uint64_t v, char *out, size_t len)
{
	if (v)
		snprintf(out, len, "generation %% 16384 = %llu%s%s",
			 (unsigned long long)(v & LUNFS_ENT_TAG_MASK),
			 v & LUNFS_ENT_SHARED ? ", SHARED" : "",
			 v & LUNFS_ENT_OPEN ? ", OPEN" : "");
}

void insp_meaning(const struct insp_field *f, uint64_t v, char *out, size_t len)
{
	const char *name;

	out[0] = '\0';
	switch (f->unit) {
	case INSP_ENUM:
		name = name_of(f->names, v);
		snprintf(out, len, "%s", name ? name : "no such value");
		break;
	case INSP_FLAGS:
		say_flags(f->names, v, out, len);
		break;
	case INSP_MODE:
		say_mode(v, out, len);
		break;
	case INSP_TIME:
		say_time(v, out, len);
		break;
	case INSP_OWNER:
		if (v)
			snprintf(out, len, "slot %u, generation %llu", LUNFS_OWNER_SLOT(v),
				 (unsigned long long)LUNFS_OWNER_GEN(v));
		else
			snprintf(out, len, "nobody");
		break;
	case INSP_ENTRY:
		say_entry(v, out, len);
		break;
	case INSP_PLAIN:
	case INSP_HEX:
	case INSP_ADDR:
		break;
	}
}

int insp_name_value(const struct insp_field *f, const char *word, uint64_t *out)
{
	char *copy, *rest, *one;
	uint64_t v = 0;
	int rc = 0;

	if (f->unit != INSP_ENUM && f->unit != INSP_FLAGS)
		return -EINVAL;
	rest = copy = strdup(word);
	if (!copy)
		return -ENOMEM;
	while (rc == 0 && (one = strsep(&rest, "|"))) {
		const struct insp_name *n = f->names;

		while (n->name && strcmp(n->name, one) != 0)
			n++;
		v |= n->value;
		rc = n->name && (f->unit == INSP_FLAGS || !rest) ? 0 : -EINVAL;
	}
	free(copy);
	if (rc == 0)
		*out = v;
	return rc;
}
