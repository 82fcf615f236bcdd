/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One edit: parse it, read the structure, change it, compute its checksum anew, write it. See
 * README.md for the language.
 */
#include "edit.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 4096u

struct edit {
	const struct insp *in;
	bool nocrc;
	char *why;
	size_t why_len;
	struct insp_place p;
	uint8_t buf[LUNFS_BLOCK_BYTES];
};

__attribute__((format(printf, 3, 4))) static int fail(const struct edit *e, int rc, const char *fmt,
						      ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->why, e->why_len, fmt, ap);
	va_end(ap);
	return rc;
}

/* %2E and the like, in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		unsigned x;

		*to = *s;
		if (*s == '%' && isxdigit((unsigned char)s[1]) && isxdigit((unsigned char)s[2]) &&
		    sscanf(s + 1, "%2x", &x) == 1) {
			*to = (char)x;
			s += 2;
		}
	}
	*to = '\0';
}

/* ---- structures ------------------------------------------------------------------------------ */

static int load(struct edit *e, const char *what)
{
	char name[LINE_BYTES];
	int rc;

	snprintf(name, sizeof(name), "%s", what);
	unescape(name);
	rc = insp_find(e->in, name, &e->p, e->why, e->why_len);
	if (rc == 0) {
		rc = insp_read(e->in, e->p.off_bytes, e->p.len_bytes, e->buf);
		if (rc)
			fail(e, rc, "%s cannot be read: %s", name, strerror(-rc));
	}
	return rc;
}

static int store(struct edit *e, bool seal)
{
	int rc;

	if (seal && !e->nocrc)
		insp_seal(&e->p, e->buf);
	rc = insp_write(e->in, e->p.off_bytes, e->p.len_bytes, e->buf);
	if (rc == 0 && seal && !e->nocrc && e->p.journal.blks && e->p.seal != INSP_SEAL_JCOMMIT)
		rc = insp_journal_reseal(e->in, e->p.journal.slot, e->p.journal.pos,
					 e->p.journal.blks);
	return rc ? fail(e, rc, "%s cannot be written: %s", e->p.name, strerror(-rc)) : 0;
}

static bool focus_is_whole(const struct edit *e)
{
	return e->p.focus_len == e->p.len_bytes;
}

/* ---- values ---------------------------------------------------------------------------------- */

/*
 * Split "WHAT.FIELD" where FIELD is one of WHAT's: the last dot first, since names have dots too.
 * On 0 the place is loaded.
 */
static int load_field(struct edit *e, const char *text, struct insp_ref *r)
{
	size_t n = strlen(text);
	char what[LINE_BYTES];
	int rc, found = -ENOENT;

	snprintf(what, sizeof(what), "%s", text);
	while (n-- > 1) {
		if (text[n] != '.')
			continue;
		what[n] = '\0';
		rc = load(e, what);
		if (rc == 0 && insp_field_find(&e->p, text + n + 1, r) == 0)
			return 0;
		if (rc == 0)
			fail(e, -ENOENT, "'%s' has no field '%s'", what, text + n + 1);
		found = rc ? rc : -ENOENT;
	}
	if (found == -ENOENT && !strchr(text, '.'))
		fail(e, -EINVAL, "'%s' is no field: WHAT.FIELD is", text);
	return found;
}

static int parse_number(const char *text, uint64_t *out)
{
	bool minus = *text == '-';
	char *end;

	errno = 0;
	*out = strtoull(text + minus, &end, 0);
	if (end == text + minus || *end || errno || !isdigit((unsigned char)text[minus]))
		return -EINVAL;
	*out = minus ? 0 - *out : *out;
	return 0;
}

/* A number, a word of the field, the address of a structure, or another field's value. */
static int number_value(struct edit *e, const struct insp_ref *r, const char *text, uint64_t *out)
{
	struct edit *other;
	struct insp_ref from;
	int rc;

	if (parse_number(text, out) == 0 || insp_name_value(r->f, text, out) == 0)
		return 0;
	other = calloc(1, sizeof(*other));
	if (!other)
		return -ENOMEM;
	other->in = e->in;
	other->why = e->why;
	other->why_len = e->why_len;
	rc = load(other, text);
	if (rc == 0 && other->p.addr != INSP_NO_ADDR)
		*out = other->p.addr;
	else if (rc == 0)
		rc = fail(e, -EINVAL, "'%s' has no address that a field could hold", text);
	else {
		rc = load_field(other, text, &from);
		if (rc == 0 && !insp_is_number(&from))
			rc = fail(e, -EINVAL, "'%s' is no number", text);
		else if (rc == 0)
			*out = insp_get(&from, other->buf);
	}
	free(other);
	return rc;
}

static int apply_op(uint64_t *v, char op, uint64_t by)
{
	switch (op) {
	case '=':
		*v = by;
		return 0;
	case '+':
		*v += by;
		return 0;
	case '-':
		*v -= by;
		return 0;
	case '^':
		*v ^= by;
		return 0;
	case '|':
		*v |= by;
		return 0;
	case '&':
		*v &= by;
		return 0;
	default:
		return -EINVAL;
	}
}

/* "text" in quotes, or hex:0011ff; what is left of the field becomes zero. */
static int set_bytes(struct edit *e, const struct insp_ref *r, const char *text)
{
	uint8_t *at = e->buf + r->off, out[LUNFS_BLOCK_BYTES] = {0};
	size_t n = strlen(text), len = 0;

	if (n >= 2 && text[0] == '"' && text[n - 1] == '"') {
		char s[LINE_BYTES];

		snprintf(s, sizeof(s), "%.*s", (int)(n - 2), text + 1);
		unescape(s);
		len = strlen(s);
		if (len <= sizeof(out))
			memcpy(out, s, len);
	} else if (strncmp(text, "hex:", 4) == 0) {
		for (text += 4; len < sizeof(out) && text[0] && text[1]; text += 2) {
			unsigned x;

			if (sscanf(text, "%2x", &x) != 1)
				break;
			out[len++] = (uint8_t)x;
		}
		if (*text)
			return fail(e, -EINVAL, "'%s' is not hexadecimal", text);
	} else {
		return fail(e, -EINVAL, "%s holds bytes: its values are \"text\" and hex:0011ff",
			    r->f->name);
	}
	if (len > r->width)
		return fail(e, -E2BIG, "%s has %u bytes, %zu were given", r->f->name, r->width,
			    len);
	memcpy(at, out, r->width);
	return 0;
}

/* ---- edits ----------------------------------------------------------------------------------- */

static int do_set(struct edit *e, const char *left, char op, const char *right)
{
	struct insp_ref r;
	uint64_t v, by;
	int rc = load_field(e, left, &r);

	if (rc)
		return rc;
	if (*right == '"' || strncmp(right, "hex:", 4) == 0 || !insp_is_number(&r)) {
		rc = op == '=' ? set_bytes(e, &r, right)
			       : fail(e, -EINVAL, "%s holds bytes and can only be set", r.f->name);
	} else {
		rc = number_value(e, &r, right, &by);
		v = insp_get(&r, e->buf);
		if (rc == 0)
			rc = apply_op(&v, op, by);
		if (rc == 0)
			insp_set(&r, e->buf, v);
	}
	return rc ? rc : store(e, strcmp(r.f->name, "crc") != 0);
}

static int do_fill(struct edit *e, const char *what, bool random, uint64_t seed)
{
	uint8_t *at;
	int rc = load(e, what);

	if (rc)
		return rc;
	at = e->buf + e->p.focus_off;
	for (uint32_t i = 0; i < e->p.focus_len; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		at[i] = random ? (uint8_t)(seed >> 56) : 0;
	}
	return store(e, !focus_is_whole(e));
}

static int do_copy(struct edit *e, const char *from, const char *to)
{
	uint8_t bytes[LUNFS_BLOCK_BYTES];
	uint32_t len;
	int rc = load(e, from);

	if (rc)
		return rc;
	len = e->p.focus_len;
	memcpy(bytes, e->buf + e->p.focus_off, len);
	rc = load(e, to);
	if (rc)
		return rc;
	if (e->p.focus_len != len)
		return fail(e, -EINVAL, "%s has %u bytes, %s has %u", from, len, to,
			    e->p.focus_len);
	memcpy(e->buf + e->p.focus_off, bytes, len);
	return store(e, !focus_is_whole(e));
}

static int do_seal(struct edit *e, const char *what)
{
	int rc = load(e, what);

	return rc ? rc : store(e, true);
}

/* "WHAT.FIELD OP VALUE" */
static int parse_set(struct edit *e, char *line)
{
	char *eq = strchr(line, '='), *end;
	char op = '=';

	if (!eq || eq == line)
		return fail(e, -EINVAL, "'%s' is no edit", line);
	end = eq;
	if (strchr("+-^|&", eq[-1]))
		op = *--end;
	while (end > line && end[-1] == ' ')
		end--;
	*end = '\0';
	eq++;
	while (*eq == ' ')
		eq++;
	return do_set(e, line, op, eq);
}

static int run(struct edit *e, char *line)
{
	char copy[LINE_BYTES], *rest = copy, *word[4] = {0};
	uint64_t seed = 1;
	unsigned n = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	while (n < 4 && (word[n] = strsep(&rest, " \t")))
		n += *word[n] != '\0';
	if (n == 2 && strcmp(word[0], "zero") == 0)
		return do_fill(e, word[1], false, 0);
	if ((n == 2 || (n == 3 && parse_number(word[2], &seed) == 0)) &&
	    strcmp(word[0], "random") == 0)
		return do_fill(e, word[1], true, seed);
	if (n == 3 && strcmp(word[0], "copy") == 0)
		return do_copy(e, word[1], word[2]);
	if (n == 2 && strcmp(word[0], "seal") == 0)
		return do_seal(e, word[1]);
	return parse_set(e, line);
}

/* superblock:* is all copies, one after the other. */
static int run_all(struct edit *e, const char *line)
{
	static const char all[] = "superblock:*";
	const char *star = strstr(line, all);
	char one[LINE_BYTES];
	int rc = 0;

	if (!star) {
		snprintf(one, sizeof(one), "%s", line);
		return run(e, one);
	}
	for (unsigned i = 0; rc == 0; i++) {
		snprintf(one, sizeof(one), "superblock:%u", i);
		rc = insp_find(e->in, one, &e->p, e->why, e->why_len);
		if (rc == -ENOENT && i)
			return 0;
		snprintf(one, sizeof(one), "%.*ssuperblock:%u%s", (int)(star - line), line, i,
			 star + sizeof(all) - 1);
		if (rc == 0)
			rc = run(e, one);
	}
	return rc;
}

int edit_apply(const struct insp *in, const char *line, char *why, size_t why_len)
{
	struct edit *e;
	int rc;

	if (strlen(line) >= LINE_BYTES - 32) {
		snprintf(why, why_len, "the edit is too long");
		return -EINVAL;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->in = in;
	e->why = why;
	e->why_len = why_len;
	line += strspn(line, " \t");
	if (strncmp(line, "nocrc ", 6) == 0) {
		e->nocrc = true;
		line += 6;
	}
	snprintf(why, why_len, "it failed");
	rc = run_all(e, line);
	free(e);
	return rc;
}
