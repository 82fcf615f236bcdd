#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Documents name tests that exist: each test, script and simulator profile that the tables of LOCKING.md
("What happens when ...") and of tests/sim/scenarios/README.md name.

usage: doc_names.py TOP
"""

import pathlib
import re
import sys

TOP = pathlib.Path(sys.argv[1])
DOCS = ["fs/LOCKING.md", "tests/sim/scenarios/README.md"]
TEST = re.compile(r"`([a-z0-9]+(?:_[a-z0-9]+){3,})`")  # a sentence
SCRIPT = re.compile(r"\b([a-z0-9_]+\.sh)\b")
PROFILE = re.compile(r"^(?:`(\w+)`(?:, `(\w+)`)*)(?:;|$)")


def tests():
    """Names given to a test macro, or listed as a cmocka test."""
    text = "\n".join(p.read_text() for p in TOP.glob("tests/**/*.c"))
    return set(re.findall(r"\b(?:[A-Z_]*TEST|UNIT|SCENARIO\w*|cmocka_unit_test\w*)\(\s*(\w+)", text))


def profiles():
    text = TOP.joinpath("tests/sim/run/plan.c").read_text()
    return set(re.findall(r'"(\w+)"', text[text.index("names[PROFILES]") : text.index("};")]))


def rows(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def main():
    known, scripts = tests(), {p.name for p in TOP.glob("tests/**/*.sh")}
    wrong, seen = [], 0
    for doc in DOCS:
        text = TOP.joinpath(doc).read_text()
        for row in rows(text):
            last = row.strip("| \n").split("|")[-1].strip()
            names = [(n, known) for n in TEST.findall(row)]
            names += [(n, scripts) for n in SCRIPT.findall(row)]
            head = PROFILE.match(last) if doc.endswith("LOCKING.md") else None
            if head:
                names += [(n, profiles()) for n in re.findall(r"`(\w+)`", head.group(0))]
            names = [(n, k) for n, k in names if not (k is not known and n in known)]
            seen += len(names)
            wrong += [f"{doc} names {n}, which is nowhere" for n, k in names if n not in k]
    if seen < 100:
        wrong.append(f"only {seen} names were found: the tables are not read any more")
    print("\n".join(wrong) or f"{seen} names, all of them exist")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
