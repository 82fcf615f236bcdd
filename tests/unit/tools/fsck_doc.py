#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""fsck_doc.py problem.h fsck.lunfs.8 IMAGES UNIT: every problem code has a paragraph in the man page, which says what -p does,
and a damaged volume that shows it; what no image can show (a block that cannot be read) is in a unit test."""
import pathlib
import re
import sys

header, man = (open(p, encoding="utf-8").read() for p in sys.argv[1:3])
images, unit = pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
bad = []
rows = {r[0]: r[1] for r in re.findall(r'\bX\((\w+), SEV_\w+, (PREEN_\w+),', header)}
codes = man.split(".SH PROBLEM CODES", 1)[-1].split(".SH SEE ALSO", 1)[0]
paragraphs = {m[0]: m[1] for m in re.findall(r"^\.TP\n\.B (\w+)\n(.*?)(?=^\.TP|\Z)", codes, re.S | re.M)}
shown = set()
for recipe in images.glob("*.recipe"):
    for line in recipe.read_text(encoding="utf-8").splitlines():
        if line.startswith(("expect ", "finds ")):
            shown.update(line.split("#", 1)[0].split()[1:])
if any("PROBLEM_READ" in p.read_text(encoding="utf-8") for p in unit.glob("*.c")):
    shown.add("READ")
for code, preen in rows.items():
    if code not in paragraphs:
        bad.append(f"{code} has no paragraph in the man page")
    elif ("(Safe.)" in paragraphs[code]) != (preen == "PREEN_FIX"):
        bad.append(f"{code}: the man page does not say what -p does with it")
    elif len(paragraphs[code].split()) < 12:
        bad.append(f"{code}: the paragraph says nothing")
    if code not in shown:
        bad.append(f"{code} has no damaged volume in tests/images")
bad += [f"{code} is only in the man page" for code in paragraphs if code not in rows]
bad += [f"{code} is only in tests/images" for code in sorted(shown - set(rows))]
if len(rows) < 40:
    bad.append("the table could not be read")
print("\n".join(bad) or f"{len(rows)} codes, each with a paragraph and a damaged volume")
sys.exit(bool(bad))
