#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scribble.py IMAGE SEED: flip bytes in what is allocated of an image, the main superblock spared."""
import os
import random
import sys

path, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
fd = os.open(path, os.O_RDWR)
end, data, off = os.fstat(fd).st_size, [], 0
while True:
    try:
        start = os.lseek(fd, off, os.SEEK_DATA)
    except OSError:
        break
    off = os.lseek(fd, start, os.SEEK_HOLE)
    data.append((max(start, 1 << 20), off))
data = [(a, b) for a, b in data if b > a]
for _ in range(40 * seed):
    a, b = rng.choice(data)
    at = rng.randrange(a, min(b, end))
    os.pwrite(fd, rng.randbytes(rng.choice((1, 4, 64, 512))), at)
