#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A big volume: a sparse image, on it millions of files, a directory of a million names, a file of a
million extents; then what a mount of it takes: time and memory of the daemon for mount, lookup, df,
readdir, read and unlink. The files are made by the code under FUSE (big.c). Writes big.md and big.json.

Needs root, and room below --dir: about 4.3 KiB a file, 8 a name or extent. Where files cannot be as
large as the volume (ext4: 16 TiB), an XFS in an image is made for it.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from report import machine, number
from rig import Failed, command

TOP = pathlib.Path(__file__).resolve().parents[2]
LOOKUPS = 1000
UNLINKS = 10000
MOUNT_SECONDS = 120


def parse():
    p = argparse.ArgumentParser(description="A big volume, and what a mount of it takes.")
    p.add_argument("--dir", default="/var/tmp", help="where the image goes (/var/tmp)")
    p.add_argument("--size", type=int, default=64, metavar="TIB", help="of the volume (64)")
    p.add_argument("--files", default="1000000", metavar="N,..",
                   help="files; measured after each of these was added (1000000)")
    p.add_argument("--names", type=int, default=1000000, metavar="N", help="in one directory (1000000)")
    p.add_argument("--extents", type=int, default=1000000, metavar="N", help="of one file (1000000)")
    p.add_argument("--out", metavar="DIR", default="bench-results")
    return p.parse_args()


class Big:
    def __init__(self, o, stack):
        self.o, self.stack = o, stack
        self.build = pathlib.Path(os.environ.get("LUNFS_BUILD", TOP / "build"))
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="lunfs-big.", dir=o.dir))
        stack.callback(shutil.rmtree, self.work, ignore_errors=True)
        self.mnt = self.work / "mnt"
        self.mnt.mkdir()
        self.image = self.sparse_file()
        self.filled, self.daemon = {}, None

    def sparse_file(self):
        image = self.work / "volume"
        try:
            with open(image, "wb") as f:
                f.truncate(self.o.size << 40)
            return image
        except OSError:
            image.unlink(missing_ok=True)
        inner, below = self.work / "xfs", self.work / "xfs.img"
        inner.mkdir()
        with open(below, "wb") as f:
            f.truncate(shutil.disk_usage(self.work).free)
        command("mkfs.xfs", "-q", below)
        command("mount", "-o", "loop", below, inner)
        self.stack.callback(command, "umount", inner)
        with open(inner / "volume", "wb") as f:
            f.truncate(self.o.size << 40)
        return inner / "volume"

    def fill(self, what, n):
        took = float(command(self.build / "tests/bench/bench-big", self.image, what, n, seconds=7200))
        self.filled[what] = {"n": n, "seconds": took, "a_second": round(n / took)}
        print(f"  {what} {n}: {took:.0f} s", file=sys.stderr, flush=True)

    def __enter__(self):
        with open(self.work / "log", "wb") as log:
            self.daemon = subprocess.Popen([self.build / "fs/mount.lunfs", "-f", self.image, self.mnt],
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + MOUNT_SECONDS
        while not os.path.ismount(self.mnt):
            if self.daemon.poll() is not None or time.monotonic() > until:
                raise Failed(f"no mount: {(self.work / 'log').read_text()[-300:]}")
            time.sleep(0.001)
        return self

    def __exit__(self, *_):
        command("umount", self.mnt)
        self.daemon.wait(300)

    def memory(self, what="VmRSS"):
        with open(f"/proc/{self.daemon.pid}/status", encoding="ascii") as f:
            return next(int(x.split()[1]) for x in f if x.startswith(what)) / 1024


def timed(fn):
    from_s = time.monotonic()
    fn()
    return time.monotonic() - from_s


def scan(path):
    n = 0
    with os.scandir(path) as it:
        for _ in it:
            n += 1
    return n


def lookups(b):
    n, top = b.filled["files"]["n"], b.mnt / f"files-{b.filled['files']['n']}"
    r = random.Random(1)
    for i in (r.randrange(n) for _ in range(LOOKUPS)):
        os.stat(top / f"d{i // 10000}" / f"file-{i % 10000}")


def name_lookups(b):
    n, top = b.filled["names"]["n"], b.mnt / f"names-{b.filled['names']['n']}"
    r = random.Random(1)
    for i in (r.randrange(n) for _ in range(LOOKUPS)):
        os.stat(top / f"file-{i}")


def list_some(b):
    top = b.mnt / f"files-{b.filled['files']['n']}"
    for d in range(min(10, -(-b.filled["files"]["n"] // 10000))):
        scan(top / f"d{d}")


def extents_file(b):
    return b.mnt / f"extents-{b.filled['extents']['n']}"


def read_some(b):
    n, r = b.filled["extents"]["n"], random.Random(1)
    fd = os.open(extents_file(b), os.O_RDONLY)
    for i in (r.randrange(n) for _ in range(LOOKUPS)):
        if os.pread(fd, 4096, i * 8192) != b"x" * 4096:
            raise Failed("the file of many extents does not hold what was written to it")
    os.close(fd)


def read_all(b):
    command("dd", f"if={extents_file(b)}", "of=/dev/null", "bs=1M", "status=none", seconds=1800)


def unlink_names(b):
    top = b.mnt / f"names-{b.filled['names']['n']}"
    for i in range(min(UNLINKS, b.filled["names"]["n"])):
        os.unlink(top / f"file-{i}")


STEPS = [
    ("df", None, lambda b: os.statvfs(b.mnt)),
    (f"lookup of {LOOKUPS} files by chance", "files", lookups),
    ("readdir of ten directories of 10,000", "files", list_some),
    (f"lookup of {LOOKUPS} names by chance in the large directory", "names", name_lookups),
    ("readdir of the large directory", "names", lambda b: scan(b.mnt / f"names-{b.filled['names']['n']}")),
    ("readdir of it once more", "names", lambda b: scan(b.mnt / f"names-{b.filled['names']['n']}")),
    (f"reads of 4 KiB of {LOOKUPS} extents by chance", "extents", read_some),
    ("read of the whole file of many extents", "extents", read_all),
]
LAST = [
    (f"unlink of {UNLINKS} names", "names", unlink_names),
    ("unlink of the file of many extents", "extents", lambda b: os.unlink(extents_file(b))),
    ("df once more", None, lambda b: os.statvfs(b.mnt)),
]


def measure(b, steps):
    """Steps of one mount: seconds, and the daemon's memory afterwards."""
    rows = []
    from_s = time.monotonic()
    with b:
        rows.append({"step": "mount", "seconds": time.monotonic() - from_s, "rss_mib": b.memory()})
        for step, needs, fn in steps:
            if needs is None or needs in b.filled:
                rows.append({"step": step, "seconds": timed(lambda fn=fn: fn(b)), "rss_mib": b.memory()})
                print(f"  {step}: {rows[-1]['seconds']:.3f} s, {rows[-1]['rss_mib']:.0f} MiB", file=sys.stderr)
        rows.append({"step": "peak of the daemon's memory", "seconds": None, "rss_mib": b.memory("VmHWM")})
        from_s = time.monotonic()
    rows.append({"step": "unmount", "seconds": time.monotonic() - from_s, "rss_mib": None})
    return rows


def markdown(data):
    m = data["machine"]
    lines = ["# lunfs on a big volume", "",
             f"{m['date']}; {m['cores']} cores of {m['cpu']}, {m['memory_gib']} GiB, Linux {m['kernel']}; a volume of "
             f"{data['size_tib']} TiB, a sparse file."]
    for s in data["stages"]:
        lines += ["", "; ".join(f"{f['n']:,} {what} made in {f['seconds']:.0f} s" for what, f in s["filled"].items())
                  + f"; {s['used_gib']:.1f} GiB of the image used.", "",
                  "| step | seconds | daemon's memory, MiB |", "|---|---:|---:|"]
        for r in s["steps"]:
            seconds = "" if r["seconds"] is None else f"{r['seconds']:.3f}"
            lines.append(f"| {r['step']} | {seconds} | {number(r['rss_mib'])} |")
    return "\n".join(lines) + "\n"


def run(o, stages):
    with contextlib.ExitStack() as stack:
        b = Big(o, stack)
        command(b.build / "mkfs/mkfs.lunfs", "-q", b.image)
        counts = [int(x) for x in o.files.split(",") if x]
        for what in ("names", "extents"):
            if getattr(o, what):
                b.fill(what, getattr(o, what))
        for i, n in enumerate(counts):
            b.fill("files", n)
            used = os.stat(b.image).st_blocks * 512 / (1 << 30)
            last = i + 1 == len(counts)
            stages.append({"filled": dict(b.filled), "used_gib": round(used, 2),
                           "steps": measure(b, STEPS + (LAST if last else []))})


def main():
    o = parse()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    data = {"machine": machine(), "size_tib": o.size, "stages": []}
    try:
        run(o, data["stages"])
    finally:
        out = pathlib.Path(o.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "big.json").write_text(json.dumps(data, indent=1) + "\n")
        (out / "big.md").write_text(markdown(data))
    print(markdown(data))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as e:
        sys.exit(f"big.py: {e}")
