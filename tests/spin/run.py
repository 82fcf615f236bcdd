#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks the Spin models: every property of the correct model, and that every mutation is caught.

run.py               all checks of CI; one line each; exit 1 if one is not as expected, 77 without Spin
run.py NAME...       only these
run.py --trace NAME  the (shortest, where it is no cycle) counterexample of a mutation, step by step
run.py --large       larger sizes, not exhaustive (bitstate): ten minutes each
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = 300  # of one check; on a quiet machine the largest takes a quarter of that
MINUTES = 10  # of a search that is not exhaustive
MEGABYTES = 2500
DEPTH = 200000

SAFE, LIVE = "safety", "acquired"


@dataclass
class Check:
    name: str
    model: str
    what: str  # SAFE, or the name of an ltl property
    size: dict = field(default_factory=dict)
    mutation: str = ""
    bitstate: bool = False

    @property
    def defines(self):
        d = [f"-D{k}={v}" for k, v in self.size.items()]
        if self.what != SAFE:
            d.append("-DLIVENESS")
        if self.mutation:
            d.append(f"-D{self.mutation}")
        return d


def cluster(name, what, mutation="", bitstate=False, **size):
    return Check(name, "cluster", what, size, mutation, bitstate)


PR, TIMER = 1, 0
CHECKS = [
    cluster("2-hosts-pr", SAFE, N=2, FENCE_PR=PR),
    cluster("2-hosts-timer", SAFE, N=2, FENCE_PR=TIMER),
    cluster("2-hosts-pr-restart", SAFE, N=2, FENCE_PR=PR, RESTARTS=1, STALLS=0),
    cluster("2-hosts-timer-restart", SAFE, N=2, FENCE_PR=TIMER, RESTARTS=1, STALLS=0),
    cluster("2-hosts-pr-key-lost", SAFE, N=2, FENCE_PR=PR, LATES=0, KEY_LOSSES=1),
    cluster("3-hosts-pr", SAFE, N=3, FENCE_PR=PR, LATES=0, WORKERS=3),
    cluster("3-hosts-timer", SAFE, N=3, FENCE_PR=TIMER, LATES=0, WORKERS=3),
    cluster("3-hosts-two-die", SAFE, N=3, FENCE_PR=PR, LATES=0, STALLS=0, CRASHES=2),
    cluster("2-hosts-pr-crash", LIVE, N=2, FENCE_PR=PR, STALLS=0),
    cluster("2-hosts-pr-stall", LIVE, N=2, FENCE_PR=PR, CRASHES=0, REAPS=0),
    cluster("2-hosts-timer-crash", LIVE, N=2, FENCE_PR=TIMER, STALLS=0),
    cluster("3-hosts-two-die-live", LIVE, N=3, FENCE_PR=PR, LATES=0, STALLS=0, CRASHES=2, WORKERS=3),
    cluster("plain-lock-write", SAFE, "M_PLAIN_LOCK", N=2),
    cluster("plain-slot-write", SAFE, "M_PLAIN_SLOT", N=2),
    cluster("recovery-before-lease-ends", SAFE, "M_EARLY", N=2, FENCE_PR=TIMER),
    cluster("lease-counts-from-answer", SAFE, "M_LEASE_FROM_ANSWER", N=2, STALLS=2),
    cluster("resume-without-a-beat", SAFE, "M_RESUME_UNCHECKED", N=2),
    cluster("no-fencing", SAFE, "M_NO_FENCE", N=2, FENCE_PR=PR),
    cluster("timer-writes-unbounded", SAFE, "M_UNBOUNDED_WRITES", N=2, FENCE_PR=TIMER),
    cluster("free-before-replay", SAFE, "M_FREE_UNREPLAYED", N=2),
    cluster("claim-of-recovering-slot", SAFE, "M_CLAIM_RECOVERING", N=2, RESTARTS=1),
    cluster("recovering-taken-as-stale", SAFE, "M_RECOVERING_IS_STALE", N=2),
    cluster("no-guard-renewal", SAFE, "M_NO_GUARD_RENEWAL", N=2, FENCE_PR=TIMER),
    cluster("replay-of-any-possession", SAFE, "M_NO_POSSESSION", N=2),
    cluster("release-before-checkpoint", SAFE, "M_RELEASE_BEFORE_CHECKPOINT", N=2),
    cluster("sent-on-before-checkpoint", SAFE, "M_SEND_BEFORE_CHECKPOINT", N=2),
    cluster("release-without-drain", SAFE, "M_NO_DRAIN", N=2),
    cluster("read-settles-unknown", SAFE, "M_READ_SETTLES", N=2),
    cluster("take-over-unfenced", SAFE, "M_TAKE_OVER_UNFENCED", N=3, LATES=0, WORKERS=2),
    cluster("take-over-from-live", SAFE, "M_TAKE_OVER_LIVE", N=3, LATES=0, WORKERS=2),
    cluster("restored-past-the-gate", SAFE, "M_RESTORE_PAST_GATE", N=2, LATES=0, KEY_LOSSES=1),
    cluster("no-take-over", LIVE, "M_NO_TAKE_OVER", N=3, LATES=0, STALLS=0, CRASHES=2, WORKERS=3),
    cluster("no-probe", LIVE, "M_NO_PROBE", N=2, CRASHES=0, STALLS=0),
]

MORE = {"CRASHES": 2, "STALLS": 2, "LATES": 2, "RESTARTS": 1}
LARGE = [
    cluster("2-hosts-pr-more", SAFE, N=2, FENCE_PR=PR, KEY_LOSSES=1, **MORE, bitstate=True),
    cluster("2-hosts-timer-more", SAFE, N=2, FENCE_PR=TIMER, **MORE, bitstate=True),
    cluster("3-hosts-pr-late", SAFE, N=3, FENCE_PR=PR, WORKERS=3, bitstate=True),
    cluster("3-hosts-timer-late", SAFE, N=3, FENCE_PR=TIMER, WORKERS=3, bitstate=True),
    cluster("no-renewal-after-resumption", SAFE, "M_NO_RENEWAL", N=3, LATES=0, WORKERS=3),
]


class Broken(Exception):
    """The tools failed; nothing is known of the model."""


def tool(cmd, where, seconds):
    try:
        p = subprocess.run(cmd, cwd=where, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as e:
        raise Broken(f"{cmd[0]}: no end within {seconds} s") from e
    return p.returncode, p.stdout + p.stderr


def build(c, where, trace):
    rc, out = tool(["spin", "-a", *c.defines, os.path.join(HERE, c.model + ".pml")], where, 60)
    if rc or not os.path.exists(os.path.join(where, "pan.c")):
        raise Broken("spin: " + out.strip())
    flags = [f"-DMEMLIM={MEGABYTES}", "-w", "-O0" if c.mutation else "-O1"]
    if c.what == SAFE:
        flags += ["-DSAFETY", "-DNOCLAIM"] + (["-DBFS"] if trace else [])
    else:
        flags += ["-DNFAIR=5"]
    if c.bitstate:
        flags += ["-DBITSTATE"]
    rc, out = tool(["gcc", *flags, "-o", "pan", "pan.c"], where, 300)
    if rc:
        raise Broken("gcc: " + out.strip())


@dataclass
class Result:
    errors: int
    states: int
    depth: int
    seconds: float
    why: str
    unreached: set


def run_checker(c, where, seconds):
    args = ["-E"] if c.what == SAFE else ["-a", "-f", "-N", c.what]
    args += ["-w32", f"-Q{MINUTES}"] if c.bitstate else []
    t0 = time.monotonic()
    rc, out = tool(["./pan", f"-m{DEPTH}", *args], where, seconds)
    m = re.search(r"depth reached (\d+), errors: (\d+)", out)
    stored = re.search(r"(\d+) states, stored", out)
    first = re.search(r"^pan:\d+: (.*)$", out, re.M)
    bad = re.search(r"max search depth too small|out of memory|memory limit|pan: error.*", out)
    if not m or not stored or bad:
        raise Broken(f"pan (exit code {rc}): " + (bad[0] if bad else out[-80:].strip()))
    why = ""
    if first:
        at = first[1].rsplit(" ", 1)[1].rstrip(")")
        why = "cycle" if "acceptance" in first[1] else "assertion at depth " + at
    return Result(int(m[2]), int(stored[1]), int(m[1]), time.monotonic() - t0, why, unreached(out))


def unreached(out):
    """Lines of the model's processes that the checker never came to."""
    lines = set()
    for part in re.split(r"^unreached in ", out, flags=re.M)[1:]:
        if part.startswith("proctype"):
            lines |= {int(n) for n in re.findall(r"\.pml:(\d+), state \d+, \"(?!-end-)", part)}
    return lines


def check(c, seconds=SECONDS):
    with tempfile.TemporaryDirectory(prefix="lunfs-spin.") as where:
        build(c, where, False)
        return run_checker(c, where, seconds)


def verdict(c, r):
    if c.mutation:
        return (True, f"caught: {r.why}") if r.errors else (False, "NOT CAUGHT")
    return (False, f"VIOLATED: {r.why}") if r.errors else (True, "holds" + (" (bitstate: not exhaustive)" if c.bitstate else ""))


def run_checks(checks, seconds):
    failed, reached, t0 = [], {}, time.monotonic()
    head = f"{'check':28} {'model':8} {'property':9} {'states':>9} {'depth':>6} {'time':>6}  verdict"
    print(head, flush=True)
    for c in checks:
        try:
            r = check(c, seconds)
            good, say = verdict(c, r)
            row = f"{r.states:9} {r.depth:6} {r.seconds:5.1f}s"
            if not c.mutation and c.what == SAFE:
                reached.setdefault(c.model, []).append(r.unreached)
        except Broken as e:
            good, say, row = False, f"BROKEN: {e}", f"{'-':>9} {'-':>6} {'-':>6}"
        if not good:
            failed.append(c.name)
        print(f"{c.name:28} {c.model:8} {c.what:9} {row}  {say}", flush=True)
    return failed, reached, time.monotonic() - t0


def never_reached(reached):
    """Steps that no correct model took: a property would hold for want of anything happening."""
    return {m: sorted(set.intersection(*sets)) for m, sets in reached.items() if set.intersection(*sets)}


# ---- a counterexample for people -------------------------------------------------------------------


def comment_above(lines, n):
    """The comment that stands over the option in line n (from 0), or over its group."""
    while n > 0 and "*/" not in lines[n]:
        n -= 1
    end = n
    while n > 0 and "/*" not in lines[n]:
        n -= 1
    text = " ".join(l.strip() for l in lines[n : end + 1])
    return re.sub(r"\s+", " ", re.sub(r".*/\*+|\*/.*| \* ", " ", text)).strip()


def processes(replay):
    """Process number -> 'proctype' and whom it works for."""
    found = {}
    for m in re.finditer(r"local vars proc (\d+) \((\w+)\):\n((?:\t.*\n)*)", replay):
        found[m[1]] = (m[2], dict(re.findall(r"\b(h|s):\t(\d+)", m[3])))
    return found


def print_trace(c):
    with tempfile.TemporaryDirectory(prefix="lunfs-spin.") as where:
        build(c, where, True)
        r = run_checker(c, where, SECONDS)
        if not r.errors:
            print(f"{c.name}: no counterexample")
            return 1
        trail = [f for f in os.listdir(where) if f.endswith(".trail")][0]
        _, replay = tool(["./pan", "-r", trail], where, 60)
    with open(os.path.join(HERE, c.model + ".pml"), encoding="utf-8") as f:
        lines = f.read().split("\n")
    procs = processes(replay)
    for line in replay.split("\n"):
        m = re.search(r"proc\s+(\d+) \(\w+\) .*\[D_STEP(\d+)\]", line)
        if "CYCLE" in line:
            print("-- from here on, for ever:")
        if m and m[1] in procs:
            kind, who = procs[m[1]]
            slot = f" (slot {who['s']})" if "s" in who else ""
            n = int(m[2]) - 1
            where = f"{c.model}.pml:{n + 1:<4}"
            print(f"host {who.get('h', '?')} {kind + slot:20} {where} {comment_above(lines, n)}")
    print("=> " + r.why)
    print("\n".join(l for l in re.findall(r"^pan:\d+: .*$", replay, re.M)))
    return 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("name", nargs="*")
    p.add_argument("--trace", action="store_true")
    p.add_argument("--large", action="store_true")
    a = p.parse_args()
    for t in ("spin", "gcc"):
        if not shutil.which(t):
            print(f"{t} is not installed")
            return 77
    known = LARGE if a.large else CHECKS
    checks = [c for c in known if not a.name or c.name in a.name]
    if not checks:
        p.error("no such check")
    if a.trace:
        return max(print_trace(c) for c in checks)
    failed, reached, took = run_checks(checks, 3600 if a.large else SECONDS)
    idle = {} if a.name or a.large else never_reached(reached)
    for model, lines in idle.items():
        print(f"{model}.pml: no check ever took the steps in lines {', '.join(map(str, lines))}")
    n = sum(1 for c in checks if not c.mutation)
    print(f"{n} properties, {len(checks) - n} mutations, {took:.0f} s; "
          + ("not as expected: " + ", ".join(failed) if failed else "all as expected"))
    return 1 if failed or idle else 0


if __name__ == "__main__":
    sys.exit(main())
