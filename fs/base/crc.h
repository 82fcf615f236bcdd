/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC32C (Castagnoli), by ISA-L; the initial value and the final inversion are those of RFC 3720.
 */
#ifndef BASE_CRC_H
#define BASE_CRC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *buf, size_t len_bytes);

/* CRC over @buf with the 4 bytes at @crc_off taken as zero; _seal stores it there, little-endian.
 */
uint32_t crc32c_except(const void *buf, size_t len_bytes, size_t crc_off);
void crc_seal(void *buf, size_t len_bytes, size_t crc_off);
bool crc_ok(const void *buf, size_t len_bytes, size_t crc_off);

bool mem_is_zero(const void *buf, size_t len_bytes);

#endif
