#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The simulator's table in tests/README.md, from what `lunfs-sim --seeds A..B --json` printed.

usage: figures.py FILE.json
"""

import json
import sys

ROWS = [
    ("hosts' faults", ("fault: ",)),
    ("the device's faults", ("device: ",)),
    ("lies", ("lie: ", "lies ")),
    ("outcomes of test and sets", ("ATS ",)),
    ("slots", ("slot ", "host ")),
    ("locks", ("lock ",)),
    ("recoveries", ("recovery: ", "operations ")),
]
HEADS = ("fault: ", "device: ", "lie: ", "ATS ", "slot ", "lock ", "recovery: ")


def short(name):
    for head in HEADS:
        if name.startswith(head):
            return name[len(head) :]
    return name


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        run = json.load(f)
    met = [(k, n) for k, n in run["coverage"].items() if n]
    print("| what | figure |\n|---|---|")
    print(f"| seeds run, failed | {run['seeds']:,}, {run['failed']:,} |")
    print(f"| file operations, judged by the model | {run['operations']:,} |")
    print(f"| counted branches and faults, met | {len(run['coverage'])}, {len(met)} |")
    for title, heads in ROWS:
        row = "; ".join(f"{short(k)} {n:,}" for k, n in met if k.startswith(heads))
        print(f"| {title} | {row} |")


if __name__ == "__main__":
    main()
