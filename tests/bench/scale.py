#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
1 to 64 hosts on a simulated LUN, in virtual time: what each kind of work yields, what it costs the
device, and how long a lock takes from host to host. bench-scale (scale.c) does one run; this does the
table. Writes scale.md, scale.json and scale.svg. Needs no root and no device.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import plot
from report import machine, number

TOP = pathlib.Path(__file__).resolve().parents[2]
HOSTS = [1, 2, 4, 8, 16, 32, 64]
LATENCIES = [300, 1000]
# name: (milliseconds of virtual time, what it is, fewest hosts)
WORKS = {
    "create-own": (500, "creates, each host in its own directory", 1),
    "create-fsync-own": (500, "creates, each followed by fsync, own directories", 1),
    "overwrite-own": (6000, "4k overwrites, each host of its own file", 1),
    "create-shared": (2000, "creates, all hosts in one directory", 1),
    "contended": (2000, "4k overwrites of one file by all", 1),
    "turns": (3000, "hand-overs: all write one file by turns", 2),
    "turns-idle": (40000, "hand-overs, a write every 7 s and host: the holder is idle", 2),
    "scan-own": (100, "lookups of the files of a directory in the order they are listed in (ls -l), own directories, nothing cached", 1),
    "scan-shared": (100, "the same, all hosts in one directory", 1),
    "scan-others": (500, "the same of a directory that another host has made, which has all of it in its cache", 2),
    "remove-own": (100, "the same lookups, each file then removed (rm -r), own directories, nothing cached", 1),
    "remove-others": (500, "the same of a directory that another host has made", 2),
    "idle": (60000, "nothing", 1),
    # MiB instead of milliseconds
    "recovery": (64, "a host loses its power with 64 MiB in its journal; another writes to its last file", 2),
}
RUN_MAX = 600  # seconds


def parse():
    p = argparse.ArgumentParser(description="lunfs by number of hosts, simulated.")
    p.add_argument("--hosts", type=numbers, default=HOSTS, metavar="N,..")
    p.add_argument("--latency", type=numbers, default=LATENCIES, metavar="US,..", help="of each command")
    p.add_argument("--work", metavar="NAME,..", help=" ".join(WORKS))
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--json", action="store_true", help="print the JSON instead of the table")
    p.add_argument("--out", metavar="DIR", default="bench-results", help="where to write (bench-results)")
    return p.parse_args()


def numbers(text):
    return [int(x) for x in text.split(",")]


def one(program, name, hosts, latency, seed):
    args = [program, name, hosts, latency, WORKS[name][0], seed]
    try:
        r = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=RUN_MAX, check=False)
    except subprocess.TimeoutExpired:
        return {"work": name, "hosts": hosts, "latency_us": latency, "error": f"not done in {RUN_MAX} s"}
    if r.returncode != 0:
        lines = r.stderr.strip().splitlines() or [f"exit code {r.returncode}"]
        return {"work": name, "hosts": hosts, "latency_us": latency, "error": lines[-1][:200]}
    return json.loads(r.stdout)


def rows_of(found, name, latency):
    return [r for r in found if r["work"] == name and r["latency_us"] == latency]


def table(found, name, latency, columns):
    """@columns: (title, function of a run)."""
    rows = rows_of(found, name, latency)
    lines = ["| hosts | " + " | ".join(t for t, _ in columns) + " |", "|---:|" + "---:|" * len(columns)]
    for r in rows:
        cells = ["failed"] * len(columns) if "error" in r else [number(f(r)) for _, f in columns]
        lines.append(f"| {r['hosts']} | " + " | ".join(cells) + " |")
    return lines


def kinds(r, *names):
    """I/Os of these kinds a second and host."""
    return sum(r["kinds_s"][n] for n in names) / r["hosts"]


UPKEEP = [("beats", lambda r: kinds(r, "beats")), ("watching others", lambda r: kinds(r, "watching")),
          ("board", lambda r: kinds(r, "board_reads", "board_writes"))]
COLUMNS = {
    "rate": [("operations/s", lambda r: r["ops_s"]), ("slowest host", lambda r: r["least_host_s"]),
             ("fastest host", lambda r: r["most_host_s"]), ("mean, ms", lambda r: r["mean_us"] / 1000),
             ("99 %, ms", lambda r: r["p99_us"] / 1000), ("I/Os/s and host", lambda r: r["ios_host_s"]),
             ("I/Os each", lambda r: r["ios_op"])],
    "turns": [("hand-overs/s", lambda r: r["ops_s"]), ("mean, ms", lambda r: r["mean_us"] / 1000),
              ("99 %, ms", lambda r: r["p99_us"] / 1000), ("I/Os each, all hosts together", lambda r: r["ios_op"])],
    "idle": [("I/Os/s and host", lambda r: r["ios_host_s"]), ("of all hosts", lambda r: r["ios_s"]),
             *UPKEEP,
             ("mounting all at once, s", lambda r: r["mount_ms"] / 1000)],
    "overwrite": [("operations/s", lambda r: r["ops_s"]), ("I/Os/s and host", lambda r: r["ios_host_s"]), *UPKEEP],
    "recovery": [("from write to write, s", lambda r: r["total_ms"] / 1000),
                 ("silence until the lease is over", lambda r: r["silent_ms"] / 1000),
                 ("fencing", lambda r: r["fencing_ms"] / 1000), ("replay", lambda r: r["replay_ms"] / 1000),
                 ("the rest", lambda r: r["rest_ms"] / 1000), ("replayed, MiB", lambda r: r["replayed_mib"])],
}


def markdown(facts, found):
    m = facts["machine"]
    lines = ["# lunfs by number of hosts", "",
             f"{m['date']}; simulated, in virtual time, seed {facts['seed']}: every command takes the latency that is told, "
             "64 of them are served at once; each host has one thread, whose every operation takes 0.2 ms besides "
             "(so 5,000 a second and host are the most; a lookup of `scan` 40 µs, so 25,000); beat 3 s, lease 16 s."]
    for latency in facts["latencies"]:
        lines += ["", f"## {latency / 1000:g} ms"]
        for name, (_, text, _) in WORKS.items():
            if rows_of(found, name, latency):
                columns = COLUMNS.get(name.split("-", maxsplit=1)[0], COLUMNS["rate"])
                lines += ["", f"`{name}`: {text}", "", *table(found, name, latency, columns)]
    errors = [f"- `{r['work']}`, {r['hosts']} hosts, {r['latency_us']} us: {r['error']}" for r in found if "error" in r]
    return "\n".join(lines + (["", "## What failed", ""] + errors if errors else [])) + "\n"


def panels(found, latencies):
    """For plot.curves(): a panel a work, a line a latency."""
    out = []
    for name, (_, text, _) in WORKS.items():
        y = {"idle": "ios_host_s", "recovery": "replay_ms"}.get(name, "mean_us" if name.startswith("turns") else "ops_s")
        unit = {"ios_host_s": "I/Os a second and host", "mean_us": "ms a hand-over", "ops_s": "a second, all hosts",
                "replay_ms": "ms of replay"}[y]
        scale = 1000 if y == "mean_us" else 1
        lines = [(f"{latency / 1000:g} ms", [(r["hosts"], r[y] / scale) for r in rows_of(found, name, latency)
                                             if "error" not in r]) for latency in latencies]
        if any(points for _, points in lines):
            out.append((name, unit, text, lines, y == "ops_s"))
    return out


def main():
    o = parse()
    program = pathlib.Path(os.environ.get("LUNFS_BUILD", TOP / "build")) / "tests/bench/bench-scale"
    names = o.work.split(",") if o.work else list(WORKS)
    if set(names) - set(WORKS):
        sys.exit(f"scale.py: works are: {' '.join(WORKS)}")
    found = []
    for name in names:
        for latency in o.latency:
            for hosts in o.hosts:
                if hosts >= WORKS[name][2]:
                    found.append(one(program, name, hosts, latency, o.seed))
            print(f"  {name}, {latency} us", file=sys.stderr, flush=True)
    facts = {"machine": machine(), "seed": o.seed, "latencies": o.latency}
    out = pathlib.Path(o.out)
    out.mkdir(parents=True, exist_ok=True)
    data = json.dumps({**facts, "runs": found}, indent=1) + "\n"
    (out / "scale.json").write_text(data)
    (out / "scale.md").write_text(markdown(facts, found))
    (out / "scale.svg").write_text(plot.curves("lunfs by number of hosts", panels(found, o.latency)))
    print(data if o.json else markdown(facts, found))
    print(f"Written: {out}/scale.md, scale.json, scale.svg", file=sys.stderr)
    return 1 if any("error" in r for r in found) else 0


if __name__ == "__main__":
    sys.exit(main())
