#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Mutation check: weakens the production code in each of the ways of table.py, in a copy of the tree,
and runs the simulator, or for the profile "cuts" the crash points, or a directed scenario
("locks:NAME": the test NAME of a program in DIRECTED), until a check fails. A mutation
that nothing notices fails this test, and so does one whose text no longer stands in the code. The
unchanged code runs the same seeds first.

usage: run.py TOP [--only WORD] [--profile P] [--jobs J] [--json FILE]

Exit status: 0 all were caught, 1 at least one was not, 2 the copy could not be built or is
not clean itself.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from table import CUTS, MUTATIONS  # noqa: E402

BUILD_SECONDS = 300
RUN_SECONDS = 600
CHUNK = 20  # seeds between two looks at the result
CUTS_PLAN = "one,random:40"
DIRECTED = {
    "ats": "tests/unit/cluster/test_ats",
    "locks": "tests/sim/scenarios/test_scenario_locks",
    "journal": "tests/sim/scenarios/test_scenario_journal",
    "replay": "tests/unit/txn/test_replay",
    "txn": "tests/unit/txn/test_txn",
    "lock": "tests/unit/lock/test_lock",
    "turns": "tests/unit/lock/test_lock_turns",
    "raise": "tests/unit/lock/test_lock_raise",
    "ahead": "tests/unit/lock/test_lock_ahead",
    "cache": "tests/unit/lock/test_lock_cache",
    "host": "tests/unit/cluster/test_host",
}
PROGRAMS = ["tests/sim/run/lunfs-sim", *DIRECTED.values(), "tests/crash/lunfs-crash", "fsck/fsck.lunfs"]


def copy_tree(top, to):
    """Everything that git knows of, as it stands in the work tree; ignored files stay behind."""
    out = subprocess.run(
        ["git", "-C", top, "ls-files", "-z", "--cached"], stdout=subprocess.PIPE, check=False
    ).stdout
    names = [n for n in out.decode().split("\0") if n]
    for name in names:
        src, dst = pathlib.Path(top, name), pathlib.Path(to, name)
        if src.is_file():
            dst.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(src, dst)
    return bool(names)


def build(tree, jobs):
    done = subprocess.run(
        ["ninja", "-C", f"{tree}/build", f"-j{jobs}", *PROGRAMS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=BUILD_SECONDS,
        check=False,
    )
    return None if done.returncode == 0 else done.stdout.decode(errors="replace")


def cut(tree, jobs):
    """None, or (the crash point, what was wrong)."""
    cmd = [
        f"{tree}/build/tests/crash/lunfs-crash",
        f"--plan={CUTS_PLAN}",
        f"--jobs={jobs}",
        "--timeout=20",
        "--max-failures=1",
        "--json",
    ]
    done = subprocess.run(
        cmd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=RUN_SECONDS, check=False
    )
    if done.returncode == 0:
        return None
    first = json.loads(done.stdout.decode() or "{}").get("first_failure")
    if done.returncode != 1 or not first:
        raise RuntimeError(f"{' '.join(cmd)} ended with {done.returncode} and named no cut")
    where, _, what = first.partition(": ")
    return where, what


def scenario(tree, program, test):
    """None, or (the test, what it said)."""
    done = subprocess.run(
        [f"{tree}/build/{DIRECTED[program]}"],
        env={**os.environ, "LUNFS_SCENARIO": test},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=RUN_SECONDS,
        check=False,
    )
    if done.returncode == 0:
        return None
    said = re.findall(r"ERROR +\] --- (.*)$", done.stdout.decode(errors="replace"), re.M)
    return test, said[0] if said else "it ended early"


def is_one_run(profile):
    return profile == CUTS or ":" in profile


def simulate(tree, profile, first, last, jobs):
    """None, or (seed, what the check said)."""
    if profile == CUTS:
        return cut(tree, jobs)
    if ":" in profile:
        return scenario(tree, *profile.split(":"))
    cmd = [
        f"{tree}/build/tests/sim/run/lunfs-sim",
        f"--seeds={first}..{last}",
        f"--profile={profile}",
        f"--jobs={jobs}",
        "--timeout=20",
        "--quiet",
        "--json",
    ]
    done = subprocess.run(
        cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=RUN_SECONDS, check=False
    )
    if done.returncode == 0:
        return None
    failed = json.loads(done.stdout.decode() or "{}").get("failed_seeds", [])
    if done.returncode != 1 or not failed:
        raise RuntimeError(f"{' '.join(cmd)} ended with {done.returncode} and named no seed")
    said = re.findall(r"^ *seed \d+, at (.*)$", done.stderr.decode(errors="replace"), re.M)
    return failed[0], said[0] if said else "crashed or hung"


def baseline(tree, mutations, args):
    """What is wrong with the code as it is, over the same seeds: else nothing below would count."""
    for profile in sorted({p for m in mutations for p in m.profiles}):
        seeds = max(m.seeds for m in mutations if profile in m.profiles)
        found = simulate(tree, profile, 1, seeds, args.jobs)
        if found:
            return f"the unchanged code fails seed {found[0]} of {profile}: {found[1]}"
    return None


def try_one(tree, mutation, args):
    path = pathlib.Path(tree, mutation.file)
    text = path.read_text()
    if text.count(mutation.old) != 1:
        return {"caught": False, "what": "its text does not stand in the code exactly once"}
    path.write_text(text.replace(mutation.old, mutation.new))
    try:
        error = build(tree, args.jobs)
        if error:
            return {"caught": False, "what": "does not compile: " + error[-400:]}
        for profile in mutation.profiles:
            for first in range(1, 2 if is_one_run(profile) else mutation.seeds, CHUNK):
                last = min(first + CHUNK - 1, mutation.seeds)
                found = simulate(tree, profile, first, last, args.jobs)
                if found:
                    seed, what = found
                    return {"caught": True, "profile": profile, "seed": seed, "what": what}
        return {"caught": False, "what": f"survived {mutation.seeds} seeds a profile"}
    finally:
        path.write_text(text)


def main():
    ap = argparse.ArgumentParser(description="mutation check of the simulator")
    ap.add_argument("top")
    ap.add_argument("--only", default="", help="mutations whose name holds this word")
    ap.add_argument("--profile", help="mutations that this profile should notice")
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--json", help="write the results to this file")
    args = ap.parse_args()
    chosen = [
        m
        for m in MUTATIONS
        if args.only in m.name and (not args.profile or args.profile in m.profiles)
    ]
    results = []
    with tempfile.TemporaryDirectory(prefix="lunfs-mutations-") as tree:
        if not copy_tree(args.top, tree):
            print("not a git work tree:", args.top)
            return 77
        subprocess.run(
            ["meson", "setup", f"{tree}/build", tree], stdout=subprocess.DEVNULL, check=True
        )
        error = build(tree, args.jobs)
        if error:
            print(error)
            return 2
        dirty = baseline(tree, chosen, args)
        if dirty:
            print(dirty)
            return 2
        for m in chosen:
            began = time.monotonic()
            r = try_one(tree, m, args)
            r["name"], r["seconds"] = m.name, round(time.monotonic() - began, 1)
            results.append(r)
            where = f"seed {r['seed']} of {r['profile']}: " if r["caught"] else ""
            print(f"{'caught' if r['caught'] else 'MISSED'}  {m.name} ({where}{r['what'][:160]})", flush=True)
    missed = [r for r in results if not r["caught"]]
    print(f"{len(results) - len(missed)} of {len(results)} mutations caught")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=1) + "\n")
    return 1 if missed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
