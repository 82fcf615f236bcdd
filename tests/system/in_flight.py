# SPDX-License-Identifier: GPL-2.0-or-later
"""Many direct reads and writes of one file at once, by several hosts, and in between what has to wait.

in_flight.py SECONDS FILE..: each FILE is the same one through another mount. Every thread has blocks of
its own, knows what it wrote last, and reads that back; in the end every mount has to show all of it.
"""
import mmap
import os
import random
import struct
import sys
import threading
import time

BLOCK = 4096
THREADS = 24  # of each mount
BLOCKS = 64  # of each thread

failed = []


def buffer():
    return mmap.mmap(-1, BLOCK)  # aligned


class Owner(threading.Thread):
    def __init__(self, path, first, until):
        super().__init__()
        self.fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.path, self.first, self.until = path, first, until
        self.written = {}
        self.ops = 0
        self.rng = random.Random(first)

    def stamp(self, block, version):
        return struct.pack("<QQ", block, version) * (BLOCK // 16)

    def check(self, fd, block):
        buf = buffer()
        got = os.preadv(fd, [buf], block * BLOCK)
        want = self.stamp(block, self.written[block]) if block in self.written else bytes(BLOCK)
        if got != BLOCK or buf[:] != want:
            raise ValueError(f"block {block}: {got} bytes, {struct.unpack('<QQ', buf[:16])}, "
                             f"wanted version {self.written.get(block)}")

    def write(self, block):
        buf = buffer()
        version = self.written.get(block, 0) + 1
        buf[:] = self.stamp(block, version)
        if os.pwritev(self.fd, [buf], block * BLOCK) != BLOCK:
            raise ValueError(f"block {block}: a short write")
        self.written[block] = version

    def wait(self):
        """What cannot be done while the data is on its way, or asks the log or another host."""
        what = self.rng.randrange(5)
        if what == 0:
            os.fdatasync(self.fd)
        elif what == 1:
            os.fchmod(self.fd, self.rng.choice((0o600, 0o640)))
        elif what == 2:
            os.utime(self.path)
        elif what == 3:
            os.setxattr(self.path, "user.of", str(self.ops).encode())
        else:
            other = f"{self.path}.{self.first}"
            os.close(os.open(other, os.O_CREAT | os.O_RDWR))
            os.unlink(other)

    def run(self):
        try:
            while time.monotonic() < self.until:
                block = self.first + self.rng.randrange(BLOCKS)
                if self.rng.random() < 0.5:
                    self.write(block)
                else:
                    self.check(self.fd, block)
                if self.rng.random() < 0.02:
                    self.wait()
                self.ops += 1
        except (OSError, ValueError) as e:
            failed.append(f"{self.path}: {e}")


def main():
    seconds, paths = float(sys.argv[1]), sys.argv[2:]
    until = time.monotonic() + seconds
    size = len(paths) * THREADS * BLOCKS * BLOCK
    with open(paths[0], "wb") as f:
        f.truncate(size)  # sparse: the first write of each block is one, too
    owners = [Owner(path, (m * THREADS + t) * BLOCKS, until)
              for m, path in enumerate(paths) for t in range(THREADS)]
    for o in owners:
        o.start()
    for o in owners:
        o.join()
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        for o in owners:
            for block in range(o.first, o.first + BLOCKS):
                try:
                    o.check(fd, block)
                except ValueError as e:
                    failed.append(f"in the end {path}: {e}")
        os.close(fd)
    if failed:
        sys.exit("\n".join(failed[:20]))
    print(sum(o.ops for o in owners), "reads and writes")


main()
