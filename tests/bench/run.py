#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
lunfs beside what could be used instead: the same device, the same work, in one run. Each contender
gets the same loop device on an image in memory in its turn, all of them once for every run and group of work,
so that what else the machine does meets all alike. Writes results.md, results.json and results.svg.

Needs root and Debian; installs the packages that are missing. README.md here says more.
"""

import argparse
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

import bars
import plot
import report
import work
import works
from rig import CONTENDERS, LUNFS, Failed, Rig

TOP = pathlib.Path(__file__).resolve().parents[2]
TREE_FILES = 2000


def parse():
    p = argparse.ArgumentParser(description="lunfs beside others on the same RAM-backed device.")
    p.add_argument("--only", metavar="NAME,..", help="contenders: " + " ".join(CONTENDERS))
    p.add_argument("--work", metavar="NAME,..", help="works or groups of them: " + " ".join(works.GROUPS))
    p.add_argument("--runs", type=int, metavar="N", help="runs of everything (5; 1 with --quick)")
    p.add_argument("--size", metavar="GIB", type=float, help="size of the device (4; 1 with --quick)")
    p.add_argument("--seconds", type=float, metavar="S", help="length of a timed run (0.5; 0.3 with --quick)")
    p.add_argument("--minutes", type=float, default=90, help="start nothing after this time (90)")
    p.add_argument("--out", metavar="DIR", default="bench-results", help="where to write (bench-results)")
    p.add_argument("--quick", action="store_true", help="small and short: does it work at all?")
    p.add_argument("--no-install", action="store_true", help="install no packages")
    p.add_argument("--no-build", action="store_true", help="take the build folder as it is")
    p.add_argument("--list", action="store_true", help="say what the works are, and end")
    return p.parse_args()


def settle(o):
    """Fills in what depends on --quick."""
    o.runs = o.runs or (1 if o.quick else 5)
    o.seconds = o.seconds or (0.3 if o.quick else 0.5)
    o.size_bytes = int((o.size or (1 if o.quick else 4)) * (1 << 30))
    o.file_size = o.size_bytes // (8 if o.quick else 4)
    o.qemu_count = 2000 if o.quick else 10000
    o.files = 1000 if o.quick else 3000
    o.dbench_seconds = 2
    o.idle_seconds = 2 if o.quick else 30
    o.settle_seconds = 1 if o.quick else 16
    o.tar_files = 300 if o.quick else TREE_FILES
    o.contenders = chosen(o.only, CONTENDERS, {}) or CONTENDERS
    groups = {g: [n for n in works.WORKS if works.WORKS[n][0] == g] for g in works.GROUPS}
    o.works = set(chosen(o.work, list(works.WORKS), groups) or (works.QUICK if o.quick else works.WORKS))


def chosen(text, names, groups):
    out = []
    for word in text.split(",") if text else []:
        if word in groups:
            out += groups[word]
        elif word in names:
            out.append(word)
        else:
            sys.exit(f"run.py: {word} is none of: {' '.join([*groups, *names])}")
    return [n for n in names if n in out]


# ---- before -------------------------------------------------------------------------------------


def install(what):
    script = f'. "{TOP}/tests/setup.sh"; install_missing {what}'
    if subprocess.run(["bash", "-c", script], check=False).returncode != 0:
        print("Packages could not be installed; what needs them is left out.")


def build(as_it_is):
    folder = pathlib.Path(os.environ.get("LUNFS_BUILD", TOP / "build"))
    if as_it_is:
        return folder
    script = f'. "{TOP}/tests/setup.sh"; build_lunfs "{TOP}" "{folder}"'
    if subprocess.run(["bash", "-c", script], check=False).returncode != 0:
        sys.exit("run.py: lunfs could not be built.")
    return folder


def source_tree(path, files):
    """A tar of something like a source tree: 40 files a directory, of 100 bytes to 60 KiB."""
    text = bytes(range(32, 127)) * 700
    with tarfile.open(path, "w") as tar:
        for i in range(files):
            size = (100, 900, 2500, 4000, 7000, 12000, 25000, 60000)[(i * 7 + i // 40) % 8]
            entry = tarfile.TarInfo(f"tree/part{i // 400}/dir{i // 40}/file{i}.c")
            entry.size = size
            tar.addfile(entry, io.BytesIO(text[:size]))


# ---- the run --------------------------------------------------------------------------------------


def one_turn(rig, o, name, group, results):
    """One contender set up, one group of work done to it."""
    wanted = {w for w in o.works if works.WORKS[w][0] == group}
    if not wanted or not work.applies(group, name):
        return
    bed = None
    try:
        with rig.contender(name, work.MKFS.get(group, ())) as stage:
            bed = work.Bed(stage, o, wanted)
            work.RUN[group](bed)
    except (Failed, OSError) as e:
        found = bed.found if bed else {}
        for w in wanted - set(found):
            results.setdefault(w, {}).setdefault(name, []).append({"error": str(e)[:200]})
        print(f"    {name}, {group}: {e}", flush=True)
    for w, found in (bed.found if bed else {}).items():
        results.setdefault(w, {}).setdefault(name, []).append(found)


def measure(rig, o):
    results = {}
    from_s = time.monotonic()
    for group in works.GROUPS:
        for run in range(min(o.runs, works.RUNS_MAX.get(group, o.runs))):
            for name in o.contenders:
                if time.monotonic() - from_s > o.minutes * 60:
                    print(f"--minutes is over: group {group} and later have fewer runs.")
                    return results
                one_turn(rig, o, name, group, results)
            print(f"  {group}, run {run + 1}: {time.monotonic() - from_s:.0f} s", flush=True)
    return results


def main():
    o = parse()
    settle(o)
    if o.list:
        for name, (group, unit, text) in works.WORKS.items():
            print(f"{group:6} {name:26} {unit:14} {text}")
        return 0
    if os.geteuid() != 0:
        sys.exit("run.py: loop devices and mounts need root.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("run.py: ended by a signal."))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit("run.py: ended by a signal."))
    if not o.no_install:
        install('"${BUILD_PACKAGES[@]}" "${BENCH_PACKAGES[@]}"')
    folder = build(o.no_build)
    base = os.environ.get("LUNFS_TEST_DIR", "/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    place = tempfile.mkdtemp(prefix="lunfs-bench.", dir=base)
    try:
        o.tar = os.path.join(place, "tree.tar")
        source_tree(o.tar, o.tar_files)
        results = measure(Rig(place, folder, o.size_bytes), o)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return write_out(o, results)


def write_out(o, results):
    medians = report.medians(results)
    facts = {"machine": report.machine(), "runs": o.runs, "device_bytes": o.size_bytes, "quick": o.quick,
             "seconds": o.seconds}
    goals = bars.judge(medians)
    out = pathlib.Path(o.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(
        {**facts, "works": {n: dict(zip(("group", "unit", "text"), works.WORKS[n])) for n in medians},
         "medians": medians, "bars": goals, "runs_of_all": results}, indent=1) + "\n")
    text = report.markdown(facts, o.contenders, medians, goals)
    (out / "results.md").write_text(text)
    (out / "results.svg").write_text(plot.svg(
        f"lunfs beside others, {facts['machine']['date']}, median of {o.runs}", o.contenders, medians))
    print(text)
    print(f"Written: {out}/results.md, results.json, results.svg")
    bad = [(w, c) for w in medians for c in medians[w] if c in LUNFS and "error" in medians[w][c]]
    for w, c in bad:
        print(f"FAILED: {w} on {c}: {medians[w][c]['error']}")
    return 1 if bad or not medians else 0


if __name__ == "__main__":
    sys.exit(main())
