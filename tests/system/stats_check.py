#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
What `lunfs stats` prints, read by a strict parser. A finding ends it with 1 and one line.

    stats_check.py prometheus FILE MANPAGE   text exposition format 0.0.4, and all families documented
    stats_check.py json FILE MANPAGE         keys present = keys documented, distributions sound
    stats_check.py rates FILE MANPAGE        one object a line, documented keys, no negative rate
    stats_check.py table FILE                within 100 columns, no key without a value
"""

import json
import math
import re
import shlex
import sys

WIDTH = 100
DIST = {"count", "sum_us", "max_us", "p50_us", "p99_us", "buckets"}
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"')
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


def fail(text):
    print(text)
    sys.exit(1)


# ---- the man page ------------------------------------------------------------------------------


def section(manpage, title, level="SH"):
    """Lines of a section, up to the next of the same level or above."""
    out, inside = [], False
    with open(manpage, encoding="utf-8") as f:
        for line in f:
            if line.startswith(".SH ") or (level == "SS" and line.startswith(".SS ")):
                inside = line.split(None, 1)[1].strip().strip('"') == title
            elif inside:
                out.append(line.rstrip("\n"))
    if not out:
        fail(f"{manpage}: no section {title}")
    return out


def terms(lines):
    """What stands in the heading line of each .TP."""
    found = set()
    for tag, line in zip(lines, lines[1:]):
        if tag == ".TP" and re.match(r"\.(B|BR|BI) ", line):
            text = "".join(shlex.split(line.split(None, 1)[1].replace("\\-", "-")))
            found |= {t.strip() for t in text.split(",")}
    return found


def documented_json(manpage):
    lines = section(manpage, "STATISTICS")
    for title in ("Rates", "Prometheus"):
        cut = lines.index(f".SS {title}")
        end = next((i for i in range(cut + 1, len(lines)) if lines[i].startswith(".SS ")), None)
        lines = lines[:cut] + (lines[end:] if end else [])
    return terms(lines)


# ---- JSON --------------------------------------------------------------------------------------


def check_dist(path, d):
    if set(d) != DIST:
        fail(f"{path}: keys {sorted(d)}")
    last = 0
    for pair in d["buckets"]:
        if len(pair) != 2 or pair[0] <= last or pair[1] <= 0:
            fail(f"{path}: bucket {pair} after {last}")
        last = pair[0]
    if sum(n for _, n in d["buckets"]) != d["count"]:
        fail(f"{path}: the buckets do not add up to the count")
    if not d["p50_us"] <= d["p99_us"] <= d["max_us"] or d["sum_us"] > d["max_us"] * d["count"]:
        fail(f"{path}: {d}")


def flatten(o, path, out):
    for key, v in o.items():
        at = f"{path}.{key}" if path else key
        if isinstance(v, dict) and "buckets" in v:
            check_dist(at, v)
            out.add(re.sub(r"^latency\.[a-z]+\.", "latency.OP.", at) + ".DIST")
        elif isinstance(v, dict):
            flatten(v, at, out)
        else:
            if isinstance(v, (int, float)) and v < 0:
                fail(f"{at} is {v}")
            out.add(at)


def compare(what, present, documented):
    for key in sorted(present - documented):
        fail(f"{what} {key} is not documented")
    for key in sorted(documented - present):
        fail(f"{what} {key} is documented and does not exist")


def check_json(path, manpage):
    present = set()
    with open(path, encoding="utf-8") as f:
        text = f.read()
    if len(text) > 65536:
        fail(f"{len(text)} bytes are more than an attribute holds")
    flatten(json.loads(text), "", present)
    compare("key", present, documented_json(manpage))
    print(f"{len(present)} keys")


def check_rates(path, manpage):
    documented = terms(section(manpage, "Rates", "SS"))
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    for line in lines:
        o = json.loads(line)
        compare("key", set(o), documented)
        for key, v in o.items():
            if v is not None and (v < 0 or not math.isfinite(v)):
                fail(f"{key} is {v}")
        if o["seconds"] <= 0:
            fail("an interval without length")
    print(f"{len(lines)} lines")


# ---- Prometheus --------------------------------------------------------------------------------


class Exposition:
    def __init__(self, path):
        self.type, self.help, self.samples, self.family = {}, {}, {}, None
        with open(path, encoding="utf-8", newline="") as f:
            text = f.read()
        if not text.endswith("\n") or "\r" in text:
            fail("the last line does not end, or lines end with CR")
        for self.number, line in enumerate(text.split("\n")[:-1], 1):
            self.line(line)

    def bad(self, why):
        fail(f"line {self.number}: {why}")

    def line(self, line):
        if line.startswith("# HELP "):
            name, text = line[7:].split(" ", 1)
            if name in self.help or not text or re.search(r"\\(?![\\n])", text):
                self.bad("HELP twice, empty or badly escaped")
            self.help[name] = text
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            if name in self.type or kind not in TYPES or name not in self.help:
                self.bad("TYPE twice, unknown or before HELP")
            self.type[name] = kind
            self.family = name
        elif not line or line.startswith("#"):
            self.bad("a line that is neither HELP, TYPE nor a sample")
        else:
            self.sample(line)

    def sample(self, line):
        name = NAME.match(line)
        if not name:
            self.bad("no metric name")
        rest, labels = line[name.end() :], {}
        if rest.startswith("{"):
            rest = rest[1:]
            while not rest.startswith("}"):
                label = LABEL.match(rest)
                if not label or label.group(1) in labels:
                    self.bad("a label twice, or not name=\"value\"")
                labels[label.group(1)] = label.group(2)
                rest = rest[label.end() :]
                if rest.startswith(","):
                    rest = rest[1:]
                elif not rest.startswith("}"):
                    self.bad("labels are not separated by commas")
            rest = rest[1:]
        if not re.fullmatch(r" (-?[0-9.]+(e[-+]?[0-9]+)?|[+-]Inf|NaN)", rest):
            self.bad(f"no number: {rest!r}")
        self.add(name.group(), labels, float(rest[1:]))

    def add(self, name, labels, value):
        base = name
        if name not in self.type:
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            if self.type.get(base) != "histogram":
                self.bad(f"{name} has no TYPE")
        elif self.type[name] == "histogram":
            self.bad("a histogram has only _bucket, _sum and _count")
        if base != self.family:
            self.bad(f"{name} stands among the samples of {self.family}")
        key = (name, tuple(sorted(labels.items())))
        if key in self.samples:
            self.bad("a sample twice")
        if self.type[base] == "counter" and (value < 0 or not name.endswith("_total")):
            self.bad("a counter that is negative or does not end with _total")
        if not {"volume", "host"} <= set(labels):
            self.bad("no labels volume and host")
        self.samples[key] = value

    def check_histograms(self):
        series = {}
        for (name, labels), value in self.samples.items():
            if name.endswith("_bucket"):
                le = float(dict(labels)["le"].replace("+Inf", "inf"))
                rest = tuple(x for x in labels if x[0] != "le")
                series.setdefault((name[:-7], rest), []).append((le, value))
        for (name, labels), buckets in series.items():
            if buckets != sorted(buckets) or len({b[0] for b in buckets}) != len(buckets):
                fail(f"{name}: bounds do not rise")
            counts = [b[1] for b in buckets]
            if counts != sorted(counts) or buckets[-1][0] != math.inf:
                fail(f"{name}: counts fall, or no +Inf")
            if self.samples.get((name + "_count", labels)) != counts[-1]:
                fail(f"{name}: +Inf is not _count")
            if (name + "_sum", labels) not in self.samples:
                fail(f"{name}: no _sum")
        return len(series)


def check_prometheus(path, manpage):
    e = Exposition(path)
    series = e.check_histograms()
    used = {re.sub(r"_(bucket|sum|count)$", "", n) if n not in e.type else n for n, _ in e.samples}
    compare("family without a sample:", set(e.type), used)
    compare("family", set(e.type), terms(section(manpage, "Prometheus", "SS")))
    print(f"{len(e.type)} families, {len(e.samples)} samples, {series} histograms")


# ---- the table ---------------------------------------------------------------------------------


def check_table(path):
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    for line in lines:
        if len(line) > WIDTH or line != line.rstrip() or "\t" in line:
            fail(f"{len(line)} columns: {line!r}")
    print(f"{len(lines)} lines")


if __name__ == "__main__":
    {"prometheus": check_prometheus, "json": check_json, "rates": check_rates, "table": check_table}[
        sys.argv[1]
    ](*sys.argv[2:])
