#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Where the time of a work of run.py goes: perf looks at the kernel and the programs of the whole machine while
the work is done to a contender, on the same rig. Writes for each a flame graph (SVG) and the stacks it is drawn from,
folded, one a line, and for all of them a table of who spent the time on what (flames.md, flames.json).

A sample is a timer's tick on a processor, idle or not. Where interrupts are off the tick waits until they are on
again: what is shown as finish_task_switch or _raw_spin_unlock_irqrestore is what went before it. Needs root;
installs the packages that are missing. README.md here says more.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

import plot
import report
import run
import work
import works
from rig import Failed, Rig, command
from stacks import PROGRAMS, WHAT, WHO, Profile, clean, layers_of

TICKS = 997  # a second; no multiple of anything else that ticks
STACK_BYTES = 24 * 1024  # kept of a stack with each sample: an operation of lunfs can have 10 KiB of its own
END_SECONDS = 30
FEW = 20  # samples that are no profile of a run

# A work is what lies between the first and the last sample in which its program does this; functions of the kernel,
# of which the stack is always known.
DOES = {"create": "^(fuse_atomic_open|vfs_create|ext4_create)$", "stat": "_sys_newfstatat$", "rename": "_sys_rename$",
        "readdir": "_sys_getdents64$", "unlink": "_sys_unlink$", "data": "_sys_io_submit$"}


def parse():
    p = argparse.ArgumentParser(description="Flame graphs of works of run.py.")
    p.add_argument("work", metavar="WORK,..", help="works or groups of them; run.py --list says what there is")
    p.add_argument("--only", metavar="NAME,..", default="lunfs", help="contenders (lunfs)")
    p.add_argument("--runs", type=int, default=5, metavar="N", help="times each is done; all are in one graph (5)")
    p.add_argument("--size", metavar="GIB", type=float, help="size of the device (4)")
    p.add_argument("--seconds", type=float, default=1, metavar="S", help="length of a timed run (1)")
    p.add_argument("--out", metavar="DIR", default="bench-results/flames", help="where to write (bench-results/flames)")
    p.add_argument("--no-install", action="store_true", help="install no packages")
    p.add_argument("--no-build", action="store_true", help="take the build folder as it is")
    o = p.parse_args()
    o.quick = False
    run.settle(o)
    return o


# ---- the profile ----------------------------------------------------------------------------------


class Perf:
    """perf record of the whole machine, from when this is entered until it is left."""

    def __init__(self, path):
        self.path, self.process, self.pipes = path, None, ()

    def __enter__(self):
        ask, tell = os.pipe()
        answer, say = os.pipe()
        self.pipes = tell, answer  # open until perf is gone, which else ends badly
        # the stacks of all programs, as they are built: few of them have frame pointers
        args = ["perf", "record", "--quiet", "--no-buildid-cache", "--all-cpus", "--event=cpu-clock", f"--freq={TICKS}",
                "--mmap-pages=8M", f"--call-graph=dwarf,{STACK_BYTES}", "--delay=-1", f"--control=fd:{ask},{say}",
                f"--output={self.path}"]
        try:
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=subprocess.DEVNULL, pass_fds=(ask, say), start_new_session=True)
        except OSError as e:
            raise Failed(f"perf: {e.strerror}") from None
        finally:
            os.close(ask)
            os.close(say)
        with contextlib.suppress(BrokenPipeError):
            os.write(tell, b"enable\n")
            if os.read(answer, 16).startswith(b"ack"):
                return self
        self.__exit__()
        raise Failed("perf record did not begin")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(END_SECONDS)
        for fd in self.pipes:
            os.close(fd)


HEAD = re.compile(r"^(.*\S)\s+(-?\d+)/(-?\d+)\s+(\d+\.\d+):\s*$")
FRAME = re.compile(r"^\s+[0-9a-f]+ (.*) \((.*)\)$")


def samples(path):
    """(program, process, seconds, stack) of each, a stack from the outermost: (function, file)."""
    text = command("perf", "script", "-F", "comm,pid,tid,time,ip,sym,dso", "--no-inline", "-i", path, seconds=300)
    for block in text.split("\n\n"):
        lines = block.strip("\n").splitlines()
        head = HEAD.match(lines[0]) if lines else None
        if head:
            frames = [FRAME.match(x) for x in reversed(lines[1:])]
            yield head[1], int(head[2]), float(head[4]), [(clean(f[1]), f[2]) for f in frames if f]


def window(found, name):
    """Those samples that lie within the work."""
    group = works.WORKS[name][0]
    does = DOES.get(name.split("-")[0] if group in ("meta", "hosts") else group)
    if not does:
        return found
    does = re.compile(does)
    at = [t for program, _, t, frames in found
          if program in PROGRAMS and any(does.search(f) for f, _ in frames)]
    return [s for s in found if at and min(at) <= s[2] <= max(at)]


class Bed(work.Bed):
    """A bed of run.py, with perf beside each piece of work."""

    def __init__(self, stage, options, wanted, layers, profiles):
        super().__init__(stage, options, wanted)
        self.data, self.layers, self.profiles = stage.rig.work / "perf.data", layers, profiles

    def attempt(self, names, fn):
        names = [n for n in names if n in self.wanted]
        if not names:
            return
        with Perf(self.data):
            super().attempt(names, fn)
        found = list(samples(self.data))
        self.data.unlink()
        for n in names:
            here = window(found, n)
            if "value" not in self.found.get(n, {}) or len(here) < FEW:
                print(f"    {n}, {self.stage.name}: no profile of this run: {self.found.get(n)}, {len(here)} samples")
                continue
            profile = self.profiles.setdefault(n, Profile({d.pid for d in self.stage.daemons}, self.layers))
            profile.add(here, self.found[n]["value"])


def profile_all(rig, o, name, group, layers, profiles):
    """One contender set up, one group of work done to it again and again."""
    wanted = {w for w in o.works if works.WORKS[w][0] == group}
    if not wanted or not work.applies(group, name):
        return
    with rig.contender(name, work.MKFS.get(group, ())) as stage:
        for _ in range(o.runs):
            work.RUN[group](Bed(stage, o, wanted, layers, profiles))


# ---- what is written ------------------------------------------------------------------------------


def write_out(o, found):
    out = pathlib.Path(o.out)
    out.mkdir(parents=True, exist_ok=True)
    machine, texts, facts = report.machine(), [], {}
    for (name, contender), profile in found.items():
        unit = works.WORKS[name][1]
        title = f"{name} on {contender}, {report.number(statistics.median(profile.rates))} {unit} while profiled"
        (out / f"{name}.{contender}.svg").write_text(plot.flames(f"{title}, {machine['date']}", profile.folded,
                                                                 WHO, profile.of, WHAT))
        (out / f"{name}.{contender}.folded").write_text(profile.text())
        texts.append(profile.markdown(title))
        facts.setdefault(name, {})[contender] = profile.facts()
    (out / "flames.md").write_text("\n".join(texts))
    (out / "flames.json").write_text(json.dumps({"machine": machine, "works": facts}, indent=1) + "\n")
    print("\n".join(texts))
    print(f"Written: {out}/flames.md, flames.json, and an .svg and a .folded for each")


def main():
    o = parse()
    if os.geteuid() != 0:
        sys.exit("flame.py: perf, loop devices and mounts need root.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("flame.py: ended by a signal."))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit("flame.py: ended by a signal."))
    if not o.no_install:
        run.install('"${BUILD_PACKAGES[@]}" "${BENCH_PACKAGES[@]}"')
    folder = run.build(o.no_build)
    base = os.environ.get("LUNFS_TEST_DIR", "/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    place = tempfile.mkdtemp(prefix="lunfs-flame.", dir=base)
    found = {}
    try:
        rig, layers = Rig(place, folder, o.size_bytes), layers_of(folder)
        for name in o.contenders:
            for group in works.GROUPS:
                profiles = {}
                try:
                    profile_all(rig, o, name, group, layers, profiles)
                except Failed as e:
                    print(f"    {name}, {group}: {e}", flush=True)
                found.update({(w, name): p for w, p in profiles.items()})
    finally:
        shutil.rmtree(place, ignore_errors=True)
    write_out(o, found)
    wanted = [(w, c) for w in o.works for c in o.contenders if work.applies(works.WORKS[w][0], c)]
    return 0 if found and all(x in found for x in wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
