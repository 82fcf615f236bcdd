/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SCSI without a transport: command blocks, what an answer means in terms of dev.h, and what the
 * identification pages say. Used by the sg and the iscsi backend. What a device sends is not
 * trusted: every length is checked. References: SAM-5 (status), SPC-5 (sense, VPD), SBC-4.
 */
#ifndef DEV_SCSI_H
#define DEV_SCSI_H

#include <lunfs/dev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SBC_CDB_MAX 16u
#define SBC_DATA_MAX 252u   /* of INQUIRY: fits the one-byte length of old devices */
#define SBC_CAP_BYTES 32u   /* of READ CAPACITY(16) */
#define SBC_UNMAP_BYTES 24u /* parameter list of UNMAP with one range */
#define SBC_QUERY_TRIES 10u /* unit attentions after a login or reset come one by one */

enum sbc_vpd { SBC_VPD_ID = 0x83, SBC_VPD_LIMITS = 0xb0, SBC_VPD_THIN = 0xb2 };

struct sbc_sense_key {
	uint8_t key, asc, ascq;
	bool deferred; /* it speaks of an earlier command */
};

/* 0 (done), DEV_CAW_MISCOMPARE, or a negative errno of dev.h. Invalid field in CDB is -EINVAL. */
int sbc_outcome(unsigned status, const struct sbc_sense_key *sense);
/*
 * What the @result of the command @cdb says of its effect. A COMPARE AND WRITE that failed may have
 * done so behind its write, so -EIO becomes -ETIMEDOUT, *@cause then DEV_CAUSE_UNCLEAR; but not
 * where the compare could not be made. All else is as it was.
 */
int sbc_fate(const uint8_t *cdb, int result, const struct sbc_sense_key *sense,
	     enum dev_cause *cause);
/* Why, where sbc_outcome()'s errno alone does not tell; else DEV_CAUSE_NONE. */
enum dev_cause sbc_cause(unsigned status, const struct sbc_sense_key *sense);
/* No usable sense data, or none at all: HARDWARE ERROR. */
struct sbc_sense_key sbc_sense_decode(const uint8_t *sense, size_t len);

/* Big-endian numbers, as SCSI has them. */
uint32_t sbc_be32(const uint8_t *p);
uint64_t sbc_be64(const uint8_t *p);
void sbc_put_be(uint8_t *p, uint64_t v, unsigned bytes);

/* Each fills a 16-byte buffer and returns the length of the command block. */
size_t sbc_cdb_read16(uint8_t *cdb, uint64_t lba, uint32_t sectors);
size_t sbc_cdb_write16(uint8_t *cdb, uint64_t lba, uint32_t sectors);
size_t sbc_cdb_caw(uint8_t *cdb, uint64_t lba, bool fua);
size_t sbc_cdb_sync16(uint8_t *cdb);
size_t sbc_cdb_sync10(uint8_t *cdb);
size_t sbc_cdb_test_unit_ready(uint8_t *cdb);
size_t sbc_cdb_inquiry(uint8_t *cdb);
size_t sbc_cdb_vpd(uint8_t *cdb, enum sbc_vpd page);
size_t sbc_cdb_capacity16(uint8_t *cdb);
size_t sbc_cdb_mode_sense6(uint8_t *cdb);
size_t sbc_cdb_write_same16(uint8_t *cdb, uint64_t lba, uint32_t sectors);
size_t sbc_cdb_unmap(uint8_t *cdb, uint8_t *param, uint64_t lba, uint32_t sectors);

struct sbc_capacity {
	uint64_t size_bytes;
	uint32_t sector_bytes, phys_bytes;
	bool thin; /* LBPME */
};
/* false: what it says cannot be (too short, sector not 512 or 4096, size overflows). */
bool sbc_capacity_decode(const uint8_t *data, size_t len, struct sbc_capacity *out);

struct sbc_limits {						 /* zero: not stated */
	uint32_t max_caw, max_xfer, max_unmap, max_unmap_ranges; /* sectors */
	uint64_t max_write_same;
};
void sbc_limits_decode(const uint8_t *page, size_t len, struct sbc_limits *out);
bool sbc_write_protected(const uint8_t *mode_data, size_t len); /* of MODE SENSE(6) */
bool sbc_thin_unmaps(const uint8_t *page, size_t len);		/* LBPU of page B2 */

/* "vendor product revision" from standard INQUIRY data; "" if it is too short. */
void sbc_product(const uint8_t *inquiry, size_t len, char *out, size_t out_len);
/* The best designator of the logical unit with its header, zero padded; all zero if none. */
void sbc_designator(const uint8_t *page, size_t len, uint8_t *out, size_t out_len);

#endif
