/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command blocks and answers of SCSI; see scsi.h.
 */
#include "dev/scsi.h"

#include <errno.h>
#include <lunfs/dev.h>
#include <string.h>

#define OP_COMPARE_AND_WRITE 0x89

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t sbc_be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

uint64_t sbc_be64(const uint8_t *p)
{
	return (uint64_t)sbc_be32(p) << 32 | sbc_be32(p + 4);
}

void sbc_put_be(uint8_t *p, uint64_t v, unsigned bytes)
{
	while (bytes) {
		p[--bytes] = (uint8_t)v;
		v >>= 8;
	}
}

/* ---- answers ------------------------------------------------------------------------------ */

/* NOT READY: on its way to ready, or a path that an array fail-over is about to wake. */
static int not_ready(const struct sbc_sense_key *s)
{
	if (s->asc == 0x3a)
		return -ENODEV; /* medium not present */
	if (s->asc == 0x04 && s->ascq != 0x02 && s->ascq != 0x03)
		return -EAGAIN; /* 02, 03: a person has to do something */
	return -EIO;
}

static int illegal_request(const struct sbc_sense_key *s)
{
	switch (s->asc) {
	case 0x20:
		return -EOPNOTSUPP; /* invalid command operation code */
	case 0x21:		    /* logical block address out of range */
	case 0x24:		    /* invalid field in CDB */
	case 0x26:		    /* invalid field in parameter list */
		return -EINVAL;
	case 0x25:
		return -ENODEV; /* logical unit not supported */
	default:
		return -EIO;
	}
}

/*
 * Sense data of an earlier command came in place of what this one would have done (SPC-5 4.5.7):
 * whatever they say, it did not succeed, nor did it compare anything.
 */
static int check_condition(const struct sbc_sense_key *s)
{
	switch (s->key) {
	case 0x0: /* no sense: how much was done is not said, and it is no GOOD */
		return s->deferred ? -EAGAIN : -EIO;
	case 0x1: /* recovered error */
		return s->deferred ? -EAGAIN : 0;
	case 0x2:
		return not_ready(s);
	case 0x5:
		return illegal_request(s);
	case 0x6: /* unit attention */
		return -EAGAIN;
	case 0x7: /* data protect */
		return s->asc == 0x27 && s->ascq == 0x07 ? -ENOSPC : -EROFS;
	case 0xb: /* aborted command: how far it came is not said */
		return -ETIMEDOUT;
	case 0xe: /* miscompare during verify operation */
		return s->asc == 0x1d && !s->deferred ? DEV_CAW_MISCOMPARE : -EIO;
	default:
		return -EIO;
	}
}

int sbc_outcome(unsigned status, const struct sbc_sense_key *sense)
{
	switch (status) {
	case 0x00: /* good */
	case 0x04: /* condition met */
		return 0;
	case 0x02:
		return check_condition(sense);
	case 0x08: /* busy */
	case 0x28: /* task set full */
	case 0x30: /* ACA active */
		return -EAGAIN;
	case 0x18:
		return -EBADE; /* reservation conflict */
	case 0x40:	       /* task aborted, by somebody else's reset */
		return -ETIMEDOUT;
	default:
		return -EIO;
	}
}

/* MEDIUM ERROR, unrecovered read error: there was nothing to compare with. */
static bool compare_failed(const struct sbc_sense_key *s)
{
	return s->key == 0x3 && s->asc == 0x11 && !s->deferred;
}

int sbc_fate(const uint8_t *cdb, int result, const struct sbc_sense_key *sense,
	     enum dev_cause *cause)
{
	if (cdb[0] != OP_COMPARE_AND_WRITE || result != -EIO || compare_failed(sense))
		return result;
	*cause = DEV_CAUSE_UNCLEAR;
	return -ETIMEDOUT;
}

static enum dev_cause check_cause(const struct sbc_sense_key *s)
{
	switch (s->key) {
	case 0x2:
		return not_ready(s) == -EAGAIN ? DEV_CAUSE_NOT_READY : DEV_CAUSE_NONE;
	case 0x5:
		return illegal_request(s) == -EINVAL ? DEV_CAUSE_TRANSFER : DEV_CAUSE_NONE;
	case 0x6:
		return DEV_CAUSE_UNIT_ATTENTION;
	case 0xb:
		return DEV_CAUSE_ABORTED;
	default:
		return DEV_CAUSE_NONE;
	}
}

enum dev_cause sbc_cause(unsigned status, const struct sbc_sense_key *sense)
{
	switch (status) {
	case 0x02:
		return check_cause(sense);
	case 0x28:
		return DEV_CAUSE_TASK_SET_FULL;
	case 0x40:
		return DEV_CAUSE_ABORTED;
	default:
		return DEV_CAUSE_NONE;
	}
}

struct sbc_sense_key sbc_sense_decode(const uint8_t *sense, size_t len)
{
	struct sbc_sense_key s = {0};
	uint8_t format = len ? sense[0] & 0x7f : 0;

	if ((format == 0x70 || format == 0x71) && len >= 14) {
		s.key = sense[2] & 0x0f;
		s.asc = sense[12];
		s.ascq = sense[13];
	} else if ((format == 0x72 || format == 0x73) && len >= 4) {
		s.key = sense[1] & 0x0f;
		s.asc = sense[2];
		s.ascq = sense[3];
	} else {
		s.key = 0x4; /* a check condition that says nothing is a failure */
		return s;
	}
	s.deferred = format & 1;
	return s;
}

/* ---- command blocks ----------------------------------------------------------------------- */

static size_t cdb16(uint8_t *cdb, uint8_t opcode, uint64_t lba, uint32_t count)
{
	memset(cdb, 0, SBC_CDB_MAX);
	cdb[0] = opcode;
	sbc_put_be(cdb + 2, lba, 8);
	sbc_put_be(cdb + 10, count, 4);
	return 16;
}

size_t sbc_cdb_read16(uint8_t *cdb, uint64_t lba, uint32_t sectors)
{
	return cdb16(cdb, 0x88, lba, sectors);
}

size_t sbc_cdb_write16(uint8_t *cdb, uint64_t lba, uint32_t sectors)
{
	return cdb16(cdb, 0x8a, lba, sectors);
}

size_t sbc_cdb_caw(uint8_t *cdb, uint64_t lba, bool fua)
{
	/* The count is the one byte 13 here, and it is 1. */
	cdb16(cdb, OP_COMPARE_AND_WRITE, lba, 1);
	cdb[1] = fua ? 0x08 : 0;
	return 16;
}

size_t sbc_cdb_sync16(uint8_t *cdb)
{
	return cdb16(cdb, 0x91, 0, 0);
}

size_t sbc_cdb_sync10(uint8_t *cdb)
{
	memset(cdb, 0, SBC_CDB_MAX);
	cdb[0] = 0x35;
	return 10;
}

size_t sbc_cdb_test_unit_ready(uint8_t *cdb)
{
	memset(cdb, 0, SBC_CDB_MAX);
	return 6;
}

size_t sbc_cdb_inquiry(uint8_t *cdb)
{
	memset(cdb, 0, SBC_CDB_MAX);
	cdb[0] = 0x12;
	sbc_put_be(cdb + 3, SBC_DATA_MAX, 2);
	return 6;
}

size_t sbc_cdb_vpd(uint8_t *cdb, enum sbc_vpd page)
{
	sbc_cdb_inquiry(cdb);
	cdb[1] = 0x01;
	cdb[2] = (uint8_t)page;
	return 6;
}

size_t sbc_cdb_capacity16(uint8_t *cdb)
{
	cdb16(cdb, 0x9e, 0, SBC_CAP_BYTES);
	cdb[1] = 0x10;
	return 16;
}

size_t sbc_cdb_mode_sense6(uint8_t *cdb)
{
	memset(cdb, 0, SBC_CDB_MAX);
	cdb[0] = 0x1a;
	cdb[2] = 0x3f; /* all pages: the one that every disk answers */
	cdb[4] = SBC_DATA_MAX;
	return 6;
}

size_t sbc_cdb_write_same16(uint8_t *cdb, uint64_t lba, uint32_t sectors)
{
	return cdb16(cdb, 0x93, lba, sectors);
}

size_t sbc_cdb_unmap(uint8_t *cdb, uint8_t *param, uint64_t lba, uint32_t sectors)
{
	memset(param, 0, SBC_UNMAP_BYTES);
	sbc_put_be(param, SBC_UNMAP_BYTES - 2, 2);
	sbc_put_be(param + 2, SBC_UNMAP_BYTES - 8, 2);
	sbc_put_be(param + 8, lba, 8);
	sbc_put_be(param + 16, sectors, 4);
	memset(cdb, 0, SBC_CDB_MAX);
	cdb[0] = 0x42;
	sbc_put_be(cdb + 7, SBC_UNMAP_BYTES, 2);
	return 10;
}

/* ---- what the device says of itself ------------------------------------------------------- */

bool sbc_capacity_decode(const uint8_t *data, size_t len, struct sbc_capacity *out)
{
	uint64_t last;
	uint32_t sector;

	if (len < 16)
		return false;
	last = sbc_be64(data);
	sector = sbc_be32(data + 8);
	if ((sector != 512 && sector != 4096) || last >= INT64_MAX / sector)
		return false;
	out->sector_bytes = sector;
	out->size_bytes = (last + 1) * sector;
	out->phys_bytes = sector << (data[13] & 0x0f);
	out->thin = data[14] & 0x80;
	return true;
}

void sbc_limits_decode(const uint8_t *page, size_t len, struct sbc_limits *out)
{
	memset(out, 0, sizeof(*out));
	if (len < 16 || page[1] != SBC_VPD_LIMITS)
		return;
	out->max_caw = page[5];
	out->max_xfer = sbc_be32(page + 8);
	if (len >= 28) {
		out->max_unmap = sbc_be32(page + 20);
		out->max_unmap_ranges = sbc_be32(page + 24);
	}
	if (len >= 44)
		out->max_write_same = sbc_be64(page + 36);
}

bool sbc_write_protected(const uint8_t *mode_data, size_t len)
{
	return len >= 3 && mode_data[2] & 0x80;
}

bool sbc_thin_unmaps(const uint8_t *page, size_t len)
{
	return len >= 6 && page[1] == SBC_VPD_THIN && page[5] & 0x80;
}

/* Append @n bytes, printable ones, without the padding, after a space if there is anything yet. */
static size_t append_field(char *out, size_t at, size_t out_len, const uint8_t *field, size_t n)
{
	while (n && (field[n - 1] == ' ' || !field[n - 1]))
		n--;
	if (!n || at + n + 2 > out_len)
		return at;
	if (at)
		out[at++] = ' ';
	for (size_t i = 0; i < n; i++)
		out[at++] = field[i] >= 0x20 && field[i] < 0x7f ? (char)field[i] : '?';
	out[at] = 0;
	return at;
}

void sbc_product(const uint8_t *inquiry, size_t len, char *out, size_t out_len)
{
	size_t at = 0;

	memset(out, 0, out_len);
	if (len < 36)
		return;
	at = append_field(out, at, out_len, inquiry + 8, 8);
	at = append_field(out, at, out_len, inquiry + 16, 16);
	append_field(out, at, out_len, inquiry + 32, 4);
}

/* Higher is better, 0 is of no use: NAA, EUI-64, SCSI name, T10 vendor; the logical unit's only. */
static int designator_rank(const uint8_t *d)
{
	if (d[1] & 0x30)
		return 0; /* names a port or a target */
	switch (d[1] & 0x0f) {
	case 3:
		return 4;
	case 2:
		return 3;
	case 8:
		return 2;
	case 1:
		return 1;
	default:
		return 0;
	}
}

void sbc_designator(const uint8_t *page, size_t len, uint8_t *out, size_t out_len)
{
	const uint8_t *best = NULL;
	size_t end, at = 4, n;

	memset(out, 0, out_len);
	if (len < 4 || page[1] != SBC_VPD_ID)
		return;
	end = 4u + be16(page + 2);
	if (end > len)
		end = len;
	while (at + 4 <= end && at + 4 + page[at + 3] <= end) {
		const uint8_t *d = page + at;

		if (designator_rank(d) > (best ? designator_rank(best) : 0) && d[3])
			best = d;
		at += 4u + d[3];
	}
	if (!best)
		return;
	n = 4u + best[3];
	memcpy(out, best, n < out_len ? n : out_len);
}
