#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""set_incompat.py SRC DST: copy a volume and set an unknown incompat bit in all superblocks, CRCs right."""
import os
import shutil
import struct
import subprocess
import sys

src, dst = sys.argv[1:3]
subprocess.run(["cp", "--sparse=always", src, dst], check=True)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


with open(dst, "r+b") as f:
    f.seek(65536)
    sb = bytearray(f.read(4096))
    assert sb[:8] == b"LUNFSVOL"
    size = os.path.getsize(dst)
    sb[0x80:0x88] = struct.pack("<Q", 1 << 40)
    sb[0xC:0x10] = b"\0" * 4
    sb[0xC:0x10] = struct.pack("<I", crc32c(sb))
    for off in (65536, (size // 65536 - 1) * 65536):
        f.seek(off)
        f.write(sb)
