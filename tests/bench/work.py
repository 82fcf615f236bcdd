# SPDX-License-Identifier: GPL-2.0-or-later
"""
The work: what is done to a contender, and the figure that comes of it. More is better in all of
them but those of group `idle`, and cost_of_pingpong. A group is what one set-up of the device is for.
"""

import json
import os
import re
import shutil
import threading
import time

from rig import LUNFS, Failed, command

MIB = 1 << 20
DATA_RUN_MAX = 30  # seconds beyond the run time after which fio is given up
SLOW = 500_000_000  # bytes a second of the slowed device

# name: (group, unit, what it is)
WORKS = {}


def work(name, group, unit, text):
    WORKS[name] = (group, unit, text)


# fio: name, rw, block size, queue depth, jobs
DATA = [(f"{op}-4k-{q}", rw, "4k", depth, jobs)
        for q, depth, jobs in (("q1", 1, 1), ("q32", 32, 1), ("4x32", 32, 4))
        for op, rw in (("read", "randread"), ("write", "randwrite"), ("mix", "randrw"))]
DATA += [("read-64k", "randread", "64k", 8, 1), ("write-64k", "randwrite", "64k", 8, 1),
         ("read-1m", "read", "1m", 4, 1), ("write-1m", "write", "1m", 4, 1)]
for _name, _rw, _bs, _depth, _jobs in DATA:
    work(_name, "data", "MB/s" if _bs == "1m" else "IOPS",
         f"{_bs} {_rw}, {_jobs} x QD{_depth}, direct, written image")
work("fdatasync-4k", "data", "IOPS", "4k overwrite with fdatasync after each, direct, one at a time")
work("fdatasync-append-4k", "data", "IOPS", "4k append with fdatasync after each, direct")
work("extend-1m", "data", "MB/s", "1m sequential, direct, QD4, a file that grows")
work("prealloc-1m", "data", "MB/s", "1m sequential, direct, QD4, first write of an fallocated file")
work("prealloc-4k-q32", "data", "IOPS", "4k random first write of an fallocated file, QD32")
work("slow-write-1m", "slow", "MB/s", "1m sequential write, direct, QD4, device slowed to 500 MB/s")
work("slow-read-1m", "slow", "MB/s", "1m sequential read, direct, QD4, device slowed to 500 MB/s")
for _f in ("raw", "qcow2"):
    for _aio in ("threads", "io_uring"):
        for _op in ("read", "write"):
            work(f"qemu-{_f}-{_aio.replace('io_', '')}-{_op}", "qemu", "IOPS",
                 f"qemu-img bench {_op}, 4k, depth 32, cache=none, aio={_aio}, {_f} image")
META = ["create", "stat", "rename", "readdir", "unlink"]
for _t in (1, 4):
    for _op in META:
        work(f"{_op}-{_t}t", "meta", "/s", f"{_op}, {_t} thread{'s, a directory each' if _t > 1 else ''}")
work("create-fsync-1t", "meta", "/s", "create, write 4k, fsync, close; 1 thread")
work("create-fsync-4t", "meta", "/s", "create, write 4k, fsync, close; 4 threads, a directory each")
work("create-shared-4t", "meta", "/s", "create, 4 threads in one directory")
work("fs_mark-1t", "tree", "files/s", "fs_mark, 4k files, no sync")
work("fs_mark-fsync-1t", "tree", "files/s", "fs_mark, 4k files, fsync of each")
work("fs_mark-fsync-4t", "tree", "files/s", "fs_mark, 4k files, fsync of each, 4 threads")
work("untar", "tree", "files/s", "tar xf of a source tree")
work("rm-rf", "tree", "files/s", "rm -rf of it")
work("dbench-4", "tree", "MB/s", "dbench, 4 clients")
HOSTS = ["create", "stat", "rename", "unlink"]
for _op in HOSTS:
    work(f"{_op}-one-host", "hosts", "/s", f"{_op}, one host at work of two mounted, one directory")
    work(f"{_op}-two-hosts", "hosts", "/s", f"{_op}, two hosts at once, a directory each")
    work(f"{_op}-same-dir", "hosts", "/s", f"{_op}, two hosts at once in one directory")
work("one-file-1-host", "hosts", "IOPS", "4k random write QD8 to one file by one host")
work("one-file-2-hosts", "hosts", "IOPS", "4k random write QD8 to one file by two hosts, disjoint halves")
work("lock-pingpong", "hosts", "hand-overs/s", "two hosts write 4k of one file by turns")
work("cost-of-pingpong", "hosts", "I/Os", "device I/Os a hand-over beside the data")
work("contended-write", "hosts", "writes/s", "two hosts write 4k of one file as fast as each can")
work("idle-io", "idle", "I/Os/s", "device I/Os a second and host when two hosts are mounted and idle")
# what --quick does if nothing is chosen: some of each group
QUICK = {"write-4k-q1", "read-4k-q32", "write-4k-q32", "write-4k-4x32", "read-1m", "write-1m", "fdatasync-4k",
         "slow-write-1m", "qemu-raw-threads-write", "qemu-qcow2-uring-read", "fs_mark-fsync-1t",
         *(f"{op}-{t}t" for op in META for t in (1, 4)), "create-fsync-1t", "untar", "rm-rf", "dbench-4",
         *(f"{op}-{kind}" for op in HOSTS for kind in ("one-host", "two-hosts", "same-dir")),
         "one-file-2-hosts", "one-file-1-host", "lock-pingpong", "cost-of-pingpong", "contended-write", "idle-io"}
LESS_IS_BETTER = {"cost-of-pingpong", "idle-io"}
GROUPS = list(dict.fromkeys(g for g, _, _ in WORKS.values()))


class Bed:
    """A contender at work: what to do, and what came of it."""

    def __init__(self, stage, options, wanted):
        self.stage, self.o, self.wanted = stage, options, wanted
        self.found = {}  # work: {"value": , ...} or {"error": }
        self.group = None

    def want(self, *names):
        return any(n in self.wanted for n in names)

    def record(self, name, value, **more):
        if name in self.wanted:
            self.found[name] = {"value": round(value, 2), **more}

    def attempt(self, names, fn):
        """Does one piece of work if any of its figures is wanted; what fails is recorded as such."""
        if not self.want(*names):
            return
        try:
            self.stage.check_alive()
            busy, cores = busy_seconds(), time.monotonic()
            fn()
            self.stage.check_alive()
            busy, cores = busy_seconds() - busy, time.monotonic() - cores
            for n in names:
                if n in self.found:
                    self.found[n]["cores_busy"] = round(busy / max(cores, 0.001), 2)
        except (Failed, OSError, ValueError, KeyError) as e:
            reason = self.stage.death() or e
            for n in names:
                if n in self.wanted and (n not in self.found or self.stage.death()):
                    self.found[n] = {"error": str(reason)[:200]}


def busy_seconds():
    """Processor time of the whole machine, idle time left out."""
    with open("/proc/stat", encoding="ascii") as f:
        t = [int(x) for x in f.readline().split()[1:9]]
    return (sum(t) - t[3] - t[4]) / os.sysconf("SC_CLK_TCK")


# ---- data -----------------------------------------------------------------------------------------


def fio(bed, path, rw, bs, depth=1, jobs=1, size=None, seconds=None, more=()):
    """One run: (operations a second, megabytes a second, mean latency in microseconds)."""
    args = ["fio", "--output-format=json", "--name=x", f"--filename={path}", f"--rw={rw}",
            f"--bs={bs}", f"--iodepth={depth}", f"--numjobs={jobs}", "--group_reporting", "--direct=1",
            "--ioengine=libaio", "--fallocate=none", "--randrepeat=1", "--norandommap",
            f"--size={size or bed.o.file_size}"]
    if rw == "randrw":
        args.append("--rwmixread=70")
    if seconds:
        args += ["--time_based", f"--runtime={int(seconds * 1000)}ms"]
    out = command(*args, *more, seconds=(seconds or 0) + DATA_RUN_MAX, group=bed.group)
    job = json.loads(out[out.index("{"):])["jobs"][0]
    if job["error"]:
        raise Failed(f"fio: {os.strerror(job['error'])}")
    r, w = job["read"], job["write"]
    ops = r["total_ios"] + w["total_ios"]
    lat = (r["lat_ns"]["mean"] * r["total_ios"] + w["lat_ns"]["mean"] * w["total_ios"]) / max(ops, 1)
    return r["iops"] + w["iops"], (r["bw_bytes"] + w["bw_bytes"]) / 1e6, lat / 1000


def fio_work(bed, name, *args, **kw):
    unit = WORKS[name][1]

    def run():
        iops, mb, lat = fio(bed, *args, **kw)
        bed.record(name, mb if unit == "MB/s" else iops, lat_us=round(lat, 2))
    bed.attempt([name], run)


def written_image(bed):
    """The image that most of the work is on: written once, which is itself the growing file."""
    if bed.stage.name == "raw":
        return bed.stage.device
    path = bed.stage.dir("data") / "image"
    if path.exists():
        return path

    def run():
        _, mb, lat = fio(bed, path, "write", "1m", 4)
        bed.record("extend-1m", mb, lat_us=round(lat, 2))
    if bed.want("extend-1m"):
        bed.attempt(["extend-1m"], run)
    else:
        fio(bed, path, "write", "1m", 4)
    return path


def data(bed):
    image = written_image(bed)
    for name, rw, bs, depth, jobs in DATA:
        fio_work(bed, name, image, rw, bs, depth, jobs, seconds=bed.o.seconds)
    fio_work(bed, "fdatasync-4k", image, "randwrite", "4k", seconds=bed.o.seconds,
             more=["--fdatasync=1"])
    if bed.stage.name == "raw":
        return
    folder = bed.stage.dir("data")
    log = folder / "log"
    fio_work(bed, "fdatasync-append-4k", log, "write", "4k", size=256 * MIB,
             more=["--fdatasync=1", "--file_append=1", f"--runtime={bed.o.seconds}"])
    log.unlink(missing_ok=True)
    for name, rw, bs, depth in (("prealloc-1m", "write", "1m", 4),
                                ("prealloc-4k-q32", "randwrite", "4k", 32)):
        if not bed.want(name):
            continue
        fresh = folder / name

        def run(name=name, rw=rw, bs=bs, depth=depth, fresh=fresh):
            size = bed.o.file_size // (1 if bs == "1m" else 8)
            with open(fresh, "wb") as f:
                os.posix_fallocate(f.fileno(), 0, size)
            iops, mb, lat = fio(bed, fresh, rw, bs, depth, size=size)
            bed.record(name, mb if bs == "1m" else iops, lat_us=round(lat, 2))
        bed.attempt([name], run)
        fresh.unlink(missing_ok=True)


def slow(bed):
    if bed.stage.name not in ("raw", "ext4", "passthrough_ll", "passthrough_hp", *LUNFS):
        return
    image = written_image(bed)

    def run():
        bed.group = bed.stage.limit(SLOW)
        for name, rw in (("slow-write-1m", "write"), ("slow-read-1m", "read")):
            fio_work(bed, name, image, rw, "1m", 4, seconds=bed.o.seconds)
    bed.attempt(["slow-write-1m", "slow-read-1m"], run)
    bed.group = None


# ---- qemu-img -------------------------------------------------------------------------------------


def qemu(bed):
    size = min(256 * MIB, bed.o.file_size)
    for kind in ("raw", "qcow2"):
        names = [n for n in WORKS if n.startswith(f"qemu-{kind}-")]
        if not bed.want(*names):
            continue
        on_raw = bed.stage.name == "raw"
        image = bed.stage.device if on_raw else bed.stage.dir("data") / f"bench.{kind}"
        if kind == "raw":
            bed.attempt(names, lambda image=image: fio(bed, image, "write", "1m", 4, size=size))
        else:
            bed.attempt(names, lambda image=image: command(
                "qemu-img", "create", "-q", "-f", "qcow2",
                *(() if bed.stage.name == "raw" else ("-o", "preallocation=metadata")), image, size))
        for name in names:
            aio, op = name.split("-")[2:]
            bed.attempt([name], lambda n=name, a=aio, w=op, i=image, k=kind: qemu_bench(bed, n, i, k, a, w))
        if not on_raw:
            image.unlink(missing_ok=True)


def qemu_bench(bed, name, image, kind, aio, op):
    count = bed.o.qemu_count
    out = command("qemu-img", "bench", "-t", "none", "-i", "io_uring" if aio == "uring" else aio,
                  "-f", kind, "-c", count, "-d", 32, "-s", 4096, *(["-w"] if op == "write" else []),
                  image, seconds=60)
    took = re.search(r"Run completed in ([0-9.]+) seconds", out)
    if not took:
        raise Failed("qemu-img bench told no time")
    bed.record(name, count / max(float(took.group(1)), 0.001))


# ---- metadata -------------------------------------------------------------------------------------


def bench_meta(bed, files, dirs, synced=False):
    program = bed.stage.rig.build / "tests/bench/bench-meta"
    return json.loads(command(program, *(["-s"] if synced else []), files, *dirs, seconds=120))


def meta(bed):
    if not bed.stage.dirs:
        return
    n = bed.o.files
    for threads in (1, 4):
        dirs = [bed.stage.dir(f"meta{i}") for i in range(threads)]
        names = [f"{op}-{threads}t" for op in META]

        def run(dirs=dirs, threads=threads):
            for op, value in bench_meta(bed, n // threads, dirs).items():
                bed.record(f"{op}-{threads}t", value)
        bed.attempt(names, run)
        name = f"create-fsync-{threads}t"
        bed.attempt([name], lambda d=dirs, name=name, t=threads: bed.record(
            name, bench_meta(bed, n // 4 // t, d, True)["create"]))
    bed.attempt(["create-shared-4t"], lambda: bed.record(
        "create-shared-4t", bench_meta(bed, n // 4, [bed.stage.dir("shared")] * 4)["create"]))


def fs_mark(bed, name, threads, sync, files):
    dirs = [bed.stage.dir(f"mark{i}") for i in range(threads)]
    # relative names: long ones overflow a buffer of fs_mark's
    out = command("fs_mark", "-S", sync, "-s", 4096, "-n", files // threads, "-L", 1,
                  "-l", "../fs_mark.log", *[a for d in dirs for a in ("-d", d.name)], seconds=120,
                  cwd=bed.stage.dirs[0])
    rows = [x.split() for x in out.splitlines() if re.match(r"\s*\d+\s+\d+\s+\d+\s+[0-9.]+\s", x)]
    if not rows:
        raise Failed("fs_mark told no figures")
    bed.record(name, float(rows[-1][3]))
    for d in dirs:
        shutil.rmtree(d, ignore_errors=True)


def tree(bed):
    if not bed.stage.dirs:
        return
    n = bed.o.files
    for name, threads, sync in (("fs_mark-1t", 1, 0), ("fs_mark-fsync-1t", 1, 1),
                                ("fs_mark-fsync-4t", 4, 1)):
        bed.attempt([name], lambda a=(name, threads, sync): fs_mark(bed, *a, n // 4))
    place = bed.stage.dirs[0] / "tree"

    def timed(name, *args):
        from_s = time.monotonic()
        command(*args, seconds=180)
        bed.record(name, bed.o.tar_files / (time.monotonic() - from_s))

    def untar():
        place.mkdir()
        timed("untar", "tar", "xf", bed.o.tar, "-C", place, "--no-same-owner")
        timed("rm-rf", "rm", "-rf", place)
    bed.attempt(["untar", "rm-rf"], untar)
    bed.attempt(["dbench-4"], lambda: dbench(bed))


def dbench(bed):
    out = command("dbench", "-D", bed.stage.dir("dbench"), "-t", bed.o.dbench_seconds, 4,
                  seconds=bed.o.dbench_seconds * 4 + 60)
    rate = re.search(r"Throughput ([0-9.]+) MB/sec", out)
    if not rate:
        raise Failed("dbench told no throughput")
    bed.record("dbench-4", float(rate.group(1)))


# ---- several hosts --------------------------------------------------------------------------------


def device_ios(stats):
    return stats["ats_commands"] + stats["dev_reads"] + stats["dev_writes"] + stats["dev_flushes"]


def all_ios(stage):
    return sum(device_ios(stage.stats(h)) for h in range(len(stage.dirs)))


def both(bed, name):
    """One folder, made by the first host and seen by both."""
    bed.stage.dir(name)
    return [bed.stage.dir(name, host=h) for h in (0, 1)]


def hosts(bed):
    if bed.stage.name != "lunfs2":
        return
    n = bed.o.files // 2
    own = [bed.stage.dir("own0"), bed.stage.dir("own1", host=1)]
    shared = both(bed, "same")
    for kind, dirs, files in (("one-host", own[:1], n), ("two-hosts", own, n),
                              ("same-dir", shared, max(n // 20, 50))):
        def run(kind=kind, dirs=dirs, files=files):
            for op, value in bench_meta(bed, files, dirs).items():
                bed.record(f"{op}-{kind}", value)
        bed.attempt([f"{op}-{kind}" for op in HOSTS], run)
    bed.attempt(["one-file-1-host", "one-file-2-hosts"], lambda: one_file(bed))
    bed.attempt(["lock-pingpong", "cost-of-pingpong"], lambda: pingpong(bed))
    bed.attempt(["contended-write"], lambda: contended(bed))


def one_file(bed):
    files = [d / "image" for d in both(bed, "one")]
    size = bed.o.file_size // 4
    fio(bed, files[0], "write", "1m", 4, size=size)
    iops, _, _ = fio(bed, files[0], "randwrite", "4k", 8, size=size, seconds=bed.o.seconds)
    bed.record("one-file-1-host", iops)
    half = size // 2
    sum_iops, errors = [], []

    def run(path, offset):
        try:
            sum_iops.append(fio(bed, path, "randwrite", "4k", 8, size=half, seconds=bed.o.seconds,
                                more=[f"--offset={offset}"])[0])
        except Failed as e:
            errors.append(e)
    threads = [threading.Thread(target=run, args=(f, i * half)) for i, f in enumerate(files)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    bed.record("one-file-2-hosts", sum(sum_iops))


def open_both(bed, name):
    files = [d / "file" for d in both(bed, name)]
    files[0].write_bytes(bytes(8192))
    return [os.open(f, os.O_WRONLY) for f in files]


def pingpong(bed):
    """Two hosts write by turns, so that each write is a hand-over of the file's lock."""
    fds = open_both(bed, "turns")
    block = b"x" * 4096
    try:
        for fd in fds * 4:
            os.pwrite(fd, block, 0)
        before, from_s, turns = all_ios(bed.stage), time.monotonic(), 0
        while time.monotonic() - from_s < bed.o.seconds:
            for fd in fds:
                os.pwrite(fd, block, 0)
                turns += 1
        took = time.monotonic() - from_s
        ios = all_ios(bed.stage) - before
    finally:
        for fd in fds:
            os.close(fd)
    beats = took * 2  # what idle hosts are allowed; small beside the rest
    bed.record("lock-pingpong", turns / took)
    bed.record("cost-of-pingpong", max(ios - turns - beats, 0) / turns, all_ios=ios, hand_overs=turns)


def contended(bed):
    fds = open_both(bed, "contended")
    done = [0, 0]
    end = time.monotonic() + bed.o.seconds
    handed = [bed.stage.stats(h)["locks"]["handed_over"] for h in (0, 1)]

    def run(i):
        while time.monotonic() < end:
            os.pwrite(fds[i], b"y" * 4096, 4096 * i)
            done[i] += 1
    threads = [threading.Thread(target=run, args=(i,)) for i in (0, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for fd in fds:
        os.close(fd)
    handed = [bed.stage.stats(h)["locks"]["handed_over"] - handed[h] for h in (0, 1)]
    bed.record("contended-write", sum(done) / bed.o.seconds, each=done, handed_over=handed)


def idle(bed):
    if bed.stage.name != "lunfs2":
        return

    def run():
        (bed.stage.dirs[0] / "something").write_bytes(bytes(100))
        time.sleep(bed.o.settle_seconds)
        before, from_s = [device_ios(bed.stage.stats(h)) for h in (0, 1)], time.monotonic()
        time.sleep(bed.o.idle_seconds)
        took = time.monotonic() - from_s
        each = [(device_ios(bed.stage.stats(h)) - before[h]) / took for h in (0, 1)]
        bed.record("idle-io", max(each), hosts=[round(x, 2) for x in each])
    bed.attempt(["idle-io"], run)


RUN = {"data": data, "slow": slow, "qemu": qemu, "meta": meta, "tree": tree, "hosts": hosts, "idle": idle}


def applies(group, contender):
    if group in ("hosts", "idle"):
        return contender == "lunfs2"
    if group == "slow":
        return contender in ("raw", "ext4", "passthrough_ll", "passthrough_hp", *LUNFS)
    return contender != "raw" or group in ("data", "qemu")
