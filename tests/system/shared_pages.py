#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""shared_pages.py SECONDS KINDS PATH...: a writer for each path (the same file on several hosts) stores records of
1 KiB, four to a page, each its own, and sees them again; at the end all of them are there by every path.
KINDS: b writers by pwrite, m by stores to a shared mapping, bm both in turn; r adds readers by pread, x by mapping.
Exit: 0 good, 1 something was lost, torn or went back, 3 somebody hangs."""
import mmap
import multiprocessing as mp
import os
import queue
import random
import struct
import sys
import time

RECORDS, BYTES = 256, 1024
secs, kinds, paths = float(sys.argv[1]), sys.argv[2], sys.argv[3:]


def record(n, who, seq):
    return struct.pack("<IIQ", n, who, seq) * (BYTES // 16)


def writer(path, who, mapped, out):
    rng = random.Random(who)
    fd = os.open(path, os.O_RDWR)
    mem = mmap.mmap(fd, RECORDS * BYTES) if mapped else None
    seqs = {n: 0 for n in range(who, RECORDS, len(paths))}
    mine, bad, end = list(seqs), 0, time.time() + secs
    while time.time() < end:
        n = rng.choice(mine)
        pos = n * BYTES
        if rng.randrange(3) == 0:
            data = mem[pos:pos + BYTES] if mapped else os.pread(fd, BYTES, pos)
            bad += data != record(n, who, seqs[n])
            continue
        seqs[n] += 1
        if mapped:
            mem[pos:pos + BYTES] = record(n, who, seqs[n])
        elif os.pwrite(fd, record(n, who, seqs[n]), pos) != BYTES:
            bad += 1
    if mapped:
        mem.flush()
    os.fsync(fd)
    out.put((seqs, bad, "writer of " + path))


def reader(path, mapped, out):
    fd = os.open(path, os.O_RDONLY)
    mem = mmap.mmap(fd, RECORDS * BYTES, prot=mmap.PROT_READ) if mapped else None
    rng, seen, bad, end = random.Random(path), {}, 0, time.time() + secs
    while time.time() < end:
        n = rng.randrange(RECORDS)
        # One 16-byte unit: a store to memory by this host's own writer may be half-way.
        data = mem[n * BYTES:n * BYTES + 16] if mapped else os.pread(fd, 16, n * BYTES)
        num, who, seq = struct.unpack("<IIQ", data)
        bad += num != n or who != n % len(paths) or seq < seen.get(n, 0)
        seen[n] = seq
    out.put(({}, bad, "reader of " + path))


def main():
    with open(paths[0], "wb") as f:
        f.write(b"".join(record(n, n % len(paths), 0) for n in range(RECORDS)))
    out, jobs = mp.Queue(), []
    for who, path in enumerate(paths):
        mapped = "m" in kinds and ("b" not in kinds or who % 2 == 0)
        jobs.append(mp.Process(target=writer, args=(path, who, mapped, out)))
        jobs += [mp.Process(target=reader, args=(path, k == "x", out)) for k in "rx" if k in kinds]
    for j in jobs:
        j.start()
    final, failed = {}, False
    for _ in jobs:
        try:
            seqs, bad, name = out.get(timeout=secs + 20)
        except queue.Empty:
            print("somebody hangs:", [j.pid for j in jobs if j.is_alive()], flush=True)
            os._exit(3)
        final.update(seqs)
        if bad:
            print("%s saw %d wrong records" % (name, bad))
        failed |= bad > 0
    for path in paths:
        with open(path, "rb") as f:
            lost = [n for n in range(RECORDS) if f.read(BYTES) != record(n, n % len(paths), final[n])]
        if lost:
            print("lost by %s: records %s" % (path, lost[:10]))
        failed |= bool(lost)
    return 1 if failed else 0


sys.exit(main())
