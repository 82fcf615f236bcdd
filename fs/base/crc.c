/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CRC32C over ISA-L. crc32_iscsi() is the bare register: neither its start value nor its result is
 * inverted, so both inversions of RFC 3720 are done here.
 */
#include "base/crc.h"

#include <isa-l/crc.h>
#include <lunfs/le.h>
#include <string.h>

static uint32_t crc_feed(uint32_t reg, const void *buf, size_t len_bytes)
{
	const uint8_t *p = buf;

	while (len_bytes > 0) { /* ISA-L takes an int */
		size_t n = len_bytes < (1u << 30) ? len_bytes : (1u << 30);

		reg = crc32_iscsi((unsigned char *)(uintptr_t)p, (int)n, reg);
		p += n;
		len_bytes -= n;
	}
	return reg;
}

uint32_t crc32c(const void *buf, size_t len_bytes)
{
	return ~crc_feed(~0u, buf, len_bytes);
}

uint32_t crc32c_except(const void *buf, size_t len_bytes, size_t crc_off)
{
	static const uint8_t zero[4];
	const uint8_t *p = buf;
	uint32_t reg = crc_feed(~0u, p, crc_off);

	reg = crc_feed(reg, zero, sizeof(zero));
	return ~crc_feed(reg, p + crc_off + sizeof(zero), len_bytes - crc_off - sizeof(zero));
}

void crc_seal(void *buf, size_t len_bytes, size_t crc_off)
{
	le32 crc = le32_make(crc32c_except(buf, len_bytes, crc_off));

	memcpy((uint8_t *)buf + crc_off, &crc, sizeof(crc));
}

bool crc_ok(const void *buf, size_t len_bytes, size_t crc_off)
{
	le32 crc;

	memcpy(&crc, (const uint8_t *)buf + crc_off, sizeof(crc));
	return le32_get(crc) == crc32c_except(buf, len_bytes, crc_off);
}

bool mem_is_zero(const void *buf, size_t len_bytes)
{
	const uint8_t *p = buf;

	return len_bytes == 0 || (p[0] == 0 && memcmp(p, p + 1, len_bytes - 1) == 0);
}
