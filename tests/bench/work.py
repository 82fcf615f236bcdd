# SPDX-License-Identifier: GPL-2.0-or-later
"""
The work: what is done to a contender, and the figure that comes of it; works.py lists them.
"""

import concurrent.futures
import json
import os
import re
import shutil
import time

from rig import LUNFS, Failed, command
from works import DATA, HOSTS, META, WORKS

MIB = 1 << 20
DATA_RUN_MAX = 30  # seconds beyond the run time after which fio is given up
SLOW = 500_000_000  # bytes a second of the slowed device
JOURNAL_BLKS = 64 * MIB // 4096  # what a killed host leaves to be replayed
FILL_STEP, FILL_MAX = 500, 100000  # files


class Bed:
    """A contender at work: what to do, and what came of it."""

    def __init__(self, stage, options, wanted):
        self.stage, self.o, self.wanted = stage, options, wanted
        self.found = {}  # work: {"value": , ...} or {"error": }
        self.group, self.device_written = None, False

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
        if not bed.device_written:  # else each first write would also pay for new memory
            fio(bed, bed.stage.device, "write", "1m", 4)
            bed.device_written = True
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
             more=["--fdatasync=1", "--file_append=1", f"--runtime={int(bed.o.seconds * 1000)}ms"])
    log.unlink(missing_ok=True)
    for name, rw, bs, depth in (("prealloc-1m", "write", "1m", 4),
                                ("prealloc-4k-q32", "randwrite", "4k", 32),
                                ("sparse-64k", "write", "64k", 8),
                                ("sparse-4k-q32", "randwrite", "4k", 32)):
        if not bed.want(name):
            continue
        fresh = folder / name

        def run(name=name, rw=rw, bs=bs, depth=depth, fresh=fresh):
            size = bed.o.file_size // (1 if bs == "1m" else 8)
            with open(fresh, "wb") as f:
                if name.startswith("sparse"):
                    f.truncate(size)
                else:
                    os.posix_fallocate(f.fileno(), 0, size)
            iops, mb, lat = fio(bed, fresh, rw, bs, depth, size=size)
            bed.record(name, iops if bs == "4k" else mb, lat_us=round(lat, 2))
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
                *(() if bed.stage.name == "raw" else ("-o", "preallocation=full")), image, size))
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


def at_once(fn):
    """What fn(0) and fn(1) give, which run side by side."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(fn, (0, 1)))


def one_file(bed):
    files = [d / "image" for d in both(bed, "one")]
    size = bed.o.file_size // 4
    fio(bed, files[0], "write", "1m", 4, size=size)
    iops, _, _ = fio(bed, files[0], "randwrite", "4k", 8, size=size, seconds=bed.o.seconds)
    bed.record("one-file-1-host", iops)
    half = size // 2
    sum_iops = at_once(lambda i: fio(bed, files[i], "randwrite", "4k", 8, size=half, seconds=bed.o.seconds,
                                     more=[f"--offset={i * half}"])[0])
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
    end = time.monotonic() + bed.o.seconds
    handed = [bed.stage.stats(h)["locks"]["handed_over"] for h in (0, 1)]

    def run(i):
        n = 0
        while time.monotonic() < end:
            os.pwrite(fds[i], b"y" * 4096, 4096 * i)
            n += 1
        return n
    done = at_once(run)
    for fd in fds:
        os.close(fd)
    handed = [bed.stage.stats(h)["locks"]["handed_over"] - handed[h] for h in (0, 1)]
    bed.record("contended-write", sum(done) / bed.o.seconds, each=done, handed_over=handed)


def idle(bed):
    if bed.stage.name != "lunfs2":
        return

    def run():
        (bed.stage.dirs[0] / "something").write_bytes(bytes(100))
        # to ask for the figures is an operation, too: the first time it brings locks from host to host
        for h in (0, 1):
            bed.stage.stats(h)
        time.sleep(bed.o.settle_seconds)
        before, from_s = [device_ios(bed.stage.stats(h)) for h in (0, 1)], time.monotonic()
        time.sleep(bed.o.idle_seconds)
        took = time.monotonic() - from_s
        each = [(device_ios(bed.stage.stats(h)) - before[h]) / took for h in (0, 1)]
        bed.record("idle-io", max(each), hosts=[round(x, 2) for x in each])
    bed.attempt(["idle-io"], run)


def fill_journal(bed, folder):
    """The second host commits more and more, faster than it goes to its place; MiB in the log."""
    def logged():
        return bed.stage.stats(1)["transactions"]["log_blocks"]
    fd, before, n = os.open(folder, os.O_RDONLY), logged(), 0
    while logged() < before + JOURNAL_BLKS and n < FILL_MAX:
        for _ in range(FILL_STEP):
            os.close(os.open(folder / str(n), os.O_CREAT | os.O_WRONLY))
            n += 1
        os.fsync(fd)
    os.close(fd)
    return (logged() - before) * 4096 / MIB


def recovery(bed):
    def run():
        files = [d / "file" for d in both(bed, "last")]
        files[0].write_bytes(bytes(8192))
        mine = os.open(files[0], os.O_WRONLY)
        logged = fill_journal(bed, bed.stage.dir("filled", host=1))
        with open(files[1], "r+b", buffering=0) as last:
            last.write(b"z" * 4096)
            os.fsync(last.fileno())
            from_s, cpu = time.monotonic(), bed.stage.cpu_seconds(0)
            bed.stage.kill(1)
            os.pwrite(mine, b"y" * 4096, 4096)
            total = (time.monotonic() - from_s) * 1000
            cpu = bed.stage.cpu_seconds(0) - cpu
        os.close(mine)
        bed.record("recovery-total", total, logged_mib=round(logged, 1), cpu_ms=round(cpu * 1000))
        took = bed.stage.find_in_log(0, r"host-recovery-took: .* silent for (\d+) ms .* fenced in (\d+) ms, its "
                                        r"journal replayed in (\d+) ms")
        _, fencing, replay = (float(x) for x in took.groups())
        # "silent" counts from the last beat, which may be long before the last write
        bed.record("recovery-notice", total - fencing - replay)
        bed.record("recovery-fencing", fencing)
        bed.record("recovery-replay", replay, replayed_mib=bed.stage.stats(0)["transactions"]["replayed_blocks"] / 256)
    bed.attempt([f"recovery-{x}" for x in ("total", "notice", "fencing", "replay")], run)


RUN = {"data": data, "slow": slow, "qemu": qemu, "meta": meta, "tree": tree, "hosts": hosts, "idle": idle,
       "recovery": recovery}
# more for mkfs.lunfs
MKFS = {"recovery": ["--journal-size", "128M", "--hosts", "4"]}


def applies(group, contender):
    if group in ("hosts", "idle", "recovery"):
        return contender == "lunfs2"
    if group == "slow":
        return contender in ("raw", "ext4", "passthrough_ll", "passthrough_hp", *LUNFS)
    return contender != "raw" or group in ("data", "qemu")
