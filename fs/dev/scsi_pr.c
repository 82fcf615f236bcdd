/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent reservations over SCSI; see scsi_pr.h.
 *
 * REGISTER goes along each path, since a registration belongs to one nexus; everything else needs
 * one path and takes the first that answers. A registration that fails half way is taken back.
 */
#include "dev/scsi_pr.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPCODE_IN 0x5eu
#define OPCODE_OUT 0x5fu
#define APTPL 0x01u
#define STATE_TRIES 8u /* until two reads show the same generation */
#define LINE_BYTES 1024

enum in_action { READ_KEYS = 0, READ_RESERVATION = 1, REPORT_CAPABILITIES = 2 };
enum out_action { REGISTER = 0, RESERVE = 1, PREEMPT_AND_ABORT = 5, REGISTER_ANYWAY = 6 };

/* ---- answers ------------------------------------------------------------------------------ */

int spr_decode_keys(const uint8_t *data, size_t len, struct dev_pr_state *out)
{
	uint32_t bytes;

	if (len < 8)
		return -EIO;
	bytes = sbc_be32(data + 4);
	if (bytes % 8)
		return -EIO;
	if (bytes / 8 > DEV_PR_KEYS_MAX)
		return -EOVERFLOW;
	if (bytes > len - 8)
		return -EIO;
	out->generation = sbc_be32(data);
	out->nkeys = bytes / 8;
	for (size_t i = 0; i < out->nkeys; i++)
		out->keys[i] = sbc_be64(data + 8 + 8 * i);
	return 0;
}

int spr_decode_reservation(const uint8_t *data, size_t len, struct dev_pr_state *out)
{
	uint32_t bytes;

	if (len < 8)
		return -EIO;
	bytes = sbc_be32(data + 4);
	if (bytes && (bytes < 16 || len < 24))
		return -EIO;
	out->generation = sbc_be32(data);
	out->reserved = bytes != 0;
	out->type = bytes ? data[21] & 0x0f : 0;
	return 0;
}

int spr_decode_caps(const uint8_t *data, size_t len, struct spr_caps *out)
{
	if (len < 8 || data[0] != 0 || data[1] < 8)
		return -EIO;
	out->aptpl = data[2] & 0x01;
	out->types_say = data[3] & 0x80;
	out->we_ar = out->types_say && data[4] & 0x80;
	return 0;
}

/* ---- commands ----------------------------------------------------------------------------- */

static int meaning(int rc)
{
	if (rc > 0 || rc == -EAGAIN)
		return -EIO;
	return rc == -EINVAL ? -EOPNOTSUPP : rc;
}

static int send_in(const struct spr_link *l, unsigned path, enum in_action action,
		   struct spr_cmd *c)
{
	memset(c->buf, 0, c->len_bytes);
	memset(c->cdb, 0, sizeof(c->cdb));
	c->cdb[0] = OPCODE_IN;
	c->cdb[1] = (uint8_t)action;
	c->cdb[7] = (uint8_t)(c->len_bytes >> 8);
	c->cdb[8] = (uint8_t)c->len_bytes;
	c->cdb_len = 10;
	return meaning(l->send(l->ctx, path, c));
}

static int send_out(const struct spr_link *l, unsigned path, enum out_action action, uint64_t key,
		    uint64_t action_key)
{
	bool registers = action == REGISTER || action == REGISTER_ANYWAY;
	uint8_t *param = dev_buf_alloc(SPR_OUT_BYTES);
	struct spr_cmd c = {.out = true, .buf = param, .len_bytes = SPR_OUT_BYTES, .cdb_len = 10};
	int rc;

	c.cdb[0] = OPCODE_OUT;
	c.cdb[1] = (uint8_t)action;
	c.cdb[2] = registers ? 0 : DEV_PR_TYPE_WE_AR;
	c.cdb[8] = SPR_OUT_BYTES;
	sbc_put_be(param, key, 8);
	sbc_put_be(param + 8, action_key, 8);
	param[20] = registers ? APTPL : 0;
	rc = meaning(l->send(l->ctx, path, &c));
	free(param);
	return rc;
}

static bool path_failed(int rc)
{
	return rc == -ETIMEDOUT || rc == -ENODEV;
}

static int out_somewhere(const struct spr_link *l, enum out_action action, uint64_t key,
			 uint64_t action_key)
{
	int rc = -ENODEV;

	for (unsigned p = 0; p < l->paths && path_failed(rc); p++)
		rc = send_out(l, p, action, key, action_key);
	return rc;
}

/* ---- the operations ----------------------------------------------------------------------- */

static int probe_path(const struct spr_link *l, unsigned path, struct spr_cmd *c, const char **what)
{
	struct spr_caps caps = {0};
	int rc = send_in(l, path, READ_KEYS, c);

	*what = "it does not carry out PERSISTENT RESERVE IN";
	if (rc)
		return rc;
	c->len_bytes = 8;
	rc = send_in(l, path, REPORT_CAPABILITIES, c);
	c->len_bytes = SPR_IN_BYTES;
	if (!rc)
		rc = spr_decode_caps(c->buf, c->got_bytes, &caps);
	*what = "it does not report what it can do with persistent reservations";
	if (rc)
		return rc;
	*what = "its registrations do not survive a power loss (no APTPL)";
	if (!caps.aptpl)
		return -EOPNOTSUPP;
	*what = "it does not know reservations of the type Write Exclusive, All Registrants";
	return caps.types_say && !caps.we_ar ? -EOPNOTSUPP : 0;
}

int spr_probe(const struct spr_link *l, const char *name, char *why, size_t why_len)
{
	struct spr_cmd c = {.buf = dev_buf_alloc(SPR_IN_BYTES), .len_bytes = SPR_IN_BYTES};
	const char *what = "no path to it works";
	int rc = l->paths ? 0 : -ENODEV;

	for (unsigned p = 0; p < l->paths && !rc; p++)
		rc = probe_path(l, p, &c, &what);
	free(c.buf);
	if (!rc)
		return 0;
	if (rc == -EOPNOTSUPP)
		snprintf(why, why_len, "%s cannot be used with persistent reservations: %s.", name,
			 what);
	else
		snprintf(why, why_len, "%s cannot be asked about persistent reservations: %s (%s).",
			 name, what, strerror(-rc));
	return -EOPNOTSUPP;
}

/*
 * One of several paths may have lost its key, or never have had one, while the others have the one
 * to be replaced. A key that stays the same is never registered anew: it may have been preempted.
 */
static int register_path(const struct spr_link *l, unsigned path, uint64_t old_key,
			 uint64_t new_key)
{
	int rc = send_out(l, path, REGISTER, old_key, new_key);

	if (rc == -EBADE && l->paths > 1 && old_key && new_key && old_key != new_key)
		rc = send_out(l, path, REGISTER, 0, new_key);
	return rc;
}

static void take_back(const struct spr_link *l, unsigned paths, uint64_t old_key, uint64_t new_key)
{
	for (unsigned p = 0; p < paths; p++) {
		int rc = send_out(l, p, REGISTER, new_key, old_key);

		if (rc && rc != -EBADE)
			log_warn("pr-path-left",
				 "A reservation key could not be taken off path %u again (%s); it "
				 "is replaced when the next mount registers.",
				 p, strerror(-rc));
	}
}

static int unregister(const struct spr_link *l, uint64_t key)
{
	int rc = 0;

	for (unsigned p = 0; p < l->paths; p++) {
		int r = send_out(l, p, REGISTER, key, 0);

		rc = rc ? rc : r;
	}
	return rc;
}

int spr_register(const struct spr_link *l, uint64_t old_key, uint64_t new_key)
{
	int rc = 0;

	if (!l->paths)
		return -ENODEV;
	if (!new_key)
		return unregister(l, old_key);
	for (unsigned p = 0; p < l->paths; p++) {
		rc = register_path(l, p, old_key, new_key);
		if (!rc)
			continue;
		/* The one without an answer may have landed. Of a single one the caller judges. */
		if (l->paths > 1 && old_key != new_key)
			take_back(l, rc == -ETIMEDOUT ? p + 1 : p, old_key, new_key);
		break;
	}
	return rc;
}

int spr_register_anyway(const struct spr_link *l, uint64_t key)
{
	int rc = l->paths ? 0 : -ENODEV;

	for (unsigned p = 0; p < l->paths && !rc; p++)
		rc = send_out(l, p, REGISTER_ANYWAY, 0, key);
	return rc;
}

static bool registered(const struct dev_pr_state *s, uint64_t key)
{
	for (size_t i = 0; i < s->nkeys; i++)
		if (s->keys[i] == key)
			return true;
	return false;
}

int spr_reserve(const struct spr_link *l, uint64_t key)
{
	int rc = out_somewhere(l, RESERVE, key, 0);
	struct dev_pr_state s = {0};

	if (rc != -EBADE)
		return rc;
	s.keys = dev_buf_alloc(DEV_PR_KEYS_MAX * sizeof(*s.keys));
	if (!spr_read_state(l, &s) && s.reserved && s.type == DEV_PR_TYPE_WE_AR &&
	    registered(&s, key))
		rc = 0;
	free(s.keys);
	return rc;
}

int spr_preempt_abort(const struct spr_link *l, uint64_t own_key, uint64_t victim_key)
{
	if (!victim_key || victim_key == own_key)
		return -EINVAL;
	return out_somewhere(l, PREEMPT_AND_ABORT, own_key, victim_key);
}

/* Keys and reservation are two commands: nothing may have been registered in between. */
static int read_once(const struct spr_link *l, unsigned path, struct spr_cmd *c,
		     struct dev_pr_state *out)
{
	struct dev_pr_state s = *out;
	uint32_t generation;
	int rc = send_in(l, path, READ_KEYS, c);

	if (!rc)
		rc = spr_decode_keys(c->buf, c->got_bytes, &s);
	if (rc)
		return rc;
	generation = s.generation;
	rc = send_in(l, path, READ_RESERVATION, c);
	if (!rc)
		rc = spr_decode_reservation(c->buf, c->got_bytes, &s);
	if (rc)
		return rc;
	if (s.generation != generation)
		return -EAGAIN;
	*out = s;
	return 0;
}

int spr_read_state(const struct spr_link *l, struct dev_pr_state *out)
{
	struct spr_cmd c = {.buf = dev_buf_alloc(SPR_IN_BYTES), .len_bytes = SPR_IN_BYTES};
	int rc = -ENODEV;

	for (unsigned p = 0; p < l->paths && path_failed(rc); p++) {
		rc = -EAGAIN;
		for (unsigned i = 0; i < STATE_TRIES && rc == -EAGAIN; i++)
			rc = read_once(l, p, &c, out);
	}
	free(c.buf);
	return rc;
}

/* ---- multipathd --------------------------------------------------------------------------- */

/* The word stands alone, before a comment begins. */
static bool line_sets_key(char *line)
{
	static const char word[] = "reservation_key", between[] = " \t\r\n{}\"";
	char *save = NULL;

	line[strcspn(line, "#!")] = 0;
	for (char *w = strtok_r(line, between, &save); w; w = strtok_r(NULL, between, &save))
		if (!strcmp(w, word))
			return true;
	return false;
}

static bool file_sets_key(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[LINE_BYTES];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = line_sets_key(line);
	if (f)
		fclose(f);
	return found;
}

bool spr_multipathd_registers(const char *file, const char *dir)
{
	bool found = file_sets_key(file);
	DIR *dp = opendir(dir);
	struct dirent *e;

	while (dp && !found && (e = readdir(dp))) {
		size_t len = strlen(e->d_name);
		char path[PATH_MAX];

		if (len < 5 || strcmp(e->d_name + len - 5, ".conf") ||
		    snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= (int)sizeof(path))
			continue;
		found = file_sets_key(path);
	}
	if (dp)
		closedir(dp);
	return found;
}
