/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SCSI without a transport: command blocks, what an answer means in terms of dev.h, and what the
 * identification pages say. Used by the sg and the iscsi backend. What a device sends is not
 * trusted: every length is checked. References: SAM-5 (status), SPC-5 (sense, VPD), SBC-4.
 */
#ifndef DEV_SCSI_H
#define DEV_SCSI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCSI_CDB_MAX 16u
#define SCSI_DATA_MAX 252u     /* of INQUIRY: fits the one-byte length of old devices */
#define SCSI_CAP_BYTES 32u     /* of READ CAPACITY(16) */
#define SCSI_UNMAP_BYTES 24u   /* parameter list of UNMAP with one range */
#define SCSI_QUERY_TRIES 10u   /* unit attentions after a login or reset come one by one */

enum scsi_vpd { SCSI_VPD_ID = 0x83, SCSI_VPD_LIMITS = 0xb0, SCSI_VPD_THIN = 0xb2 };

struct scsi_sense_key { /* zero if there was none */
	uint8_t key, asc, ascq;
};

/* 0 (done), DEV_CAW_MISCOMPARE, or a negative errno of dev.h. Invalid field in CDB is -EINVAL. */
int scsi_outcome(unsigned status, const struct scsi_sense_key *sense);
struct scsi_sense_key scsi_sense_decode(const uint8_t *sense, size_t len);

/* Each fills a 16-byte buffer and returns the length of the command block. */
size_t scsi_cdb_read16(uint8_t *cdb, uint64_t lba, uint32_t sectors);
size_t scsi_cdb_write16(uint8_t *cdb, uint64_t lba, uint32_t sectors);
size_t scsi_cdb_caw(uint8_t *cdb, uint64_t lba, bool fua);
size_t scsi_cdb_sync16(uint8_t *cdb);
size_t scsi_cdb_sync10(uint8_t *cdb);
size_t scsi_cdb_inquiry(uint8_t *cdb);
size_t scsi_cdb_vpd(uint8_t *cdb, enum scsi_vpd page);
size_t scsi_cdb_capacity16(uint8_t *cdb);
size_t scsi_cdb_write_same16(uint8_t *cdb, uint64_t lba, uint32_t sectors);
size_t scsi_cdb_unmap(uint8_t *cdb, uint8_t *param, uint64_t lba, uint32_t sectors);

struct scsi_capacity {
	uint64_t size_bytes;
	uint32_t sector_bytes, phys_bytes;
	bool thin; /* LBPME */
};
/* false: what it says cannot be (too short, sector not 512 or 4096, size overflows). */
bool scsi_capacity_decode(const uint8_t *data, size_t len, struct scsi_capacity *out);

struct scsi_limits { /* zero: not stated */
	uint32_t max_caw, max_xfer, max_unmap, max_unmap_ranges; /* sectors */
	uint64_t max_write_same;
};
void scsi_limits_decode(const uint8_t *page, size_t len, struct scsi_limits *out);
bool scsi_thin_unmaps(const uint8_t *page, size_t len); /* LBPU of page B2 */

/* "vendor product revision" from standard INQUIRY data; "" if it is too short. */
void scsi_product(const uint8_t *inquiry, size_t len, char *out, size_t out_len);
/* The best designator of the logical unit with its header, zero padded; all zero if none. */
void scsi_designator(const uint8_t *page, size_t len, uint8_t *out, size_t out_len);

#endif
