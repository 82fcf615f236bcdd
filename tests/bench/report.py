# SPDX-License-Identifier: GPL-2.0-or-later
"""Medians of the runs, and the Markdown that shows them beside the bars."""

import datetime
import os
import platform
import statistics

import works
from rig import TITLES


def machine():
    model = next((x.split(":", 1)[1].strip() for x in open("/proc/cpuinfo", encoding="utf-8")
                  if x.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory, 1),
            "kernel": platform.release().split("-")[0], "date": datetime.date.today().isoformat()}


def medians(results):
    """work: contender: median of each figure, with the lowest and highest value; else the error."""
    out = {}
    for name in works.WORKS:
        for contender, runs in results.get(name, {}).items():
            good = [r for r in runs if "error" not in r]
            if good:
                # a figure with failed runs beside it says so
                m = {k: statistics.median(r[k] for r in good) for k in good[0]
                     if isinstance(good[0][k], (int, float))}
                m["low"], m["high"] = min(r["value"] for r in good), max(r["value"] for r in good)
                m["runs"] = len(good)
                if len(good) < len(runs):
                    m["failed_runs"] = len(runs) - len(good)
            else:
                m = {"error": runs[-1]["error"]}
            out.setdefault(name, {})[contender] = m
    return out


def number(x):
    if x is None:
        return ""
    if x >= 10000:
        return f"{x / 1000:,.0f}k"
    return f"{x:,.0f}" if x >= 100 else f"{x:.2f}" if x < 10 else f"{x:.1f}"


def cell(m):
    if not m:
        return ""
    if "error" in m:
        return "failed"
    spread = (m["high"] - m["low"]) / 2 / m["value"] * 100 if m["value"] and m["runs"] > 1 else 0
    return number(m["value"]) + (f" ±{spread:.0f}%" if spread >= 0.5 else "")


def table(group, contenders, found):
    names = [n for n in found if works.WORKS[n][0] == group]
    there = [c for c in contenders if any(c in found[n] for n in names)]
    if not names or not there:
        return []
    lines = ["", f"### {group}", "", "| work | unit | " + " | ".join(there) + " |",
             "|---|---|" + "---:|" * len(there)]
    for n in names:
        lines.append(f"| `{n}` {works.WORKS[n][2]} | {works.WORKS[n][1]} | "
                     + " | ".join(cell(found[n].get(c)) for c in there) + " |")
    return lines


def goals_table(goals):
    lines = ["", "## The bars", "", "| bar | lunfs | wanted | | by how much | beside |", "|---|---:|---:|---|---:|---|"]
    for g in goals:
        word = {True: "met", False: "**not met**", None: "not measured"}[g["met"]]
        share = ""
        if g["met"] is not None and g["wanted"]:
            share = f"{g['lunfs'] / g['wanted'] * 100:.0f} %"
        sign = "≤ " if g["less"] else "≥ "
        wanted = sign + number(g["wanted"]) if g["wanted"] is not None else ""
        lines.append(f"| {g['bar']} | {number(g['lunfs'])} | {wanted} | {word} | {share} | {g['note']} |")
    met, missed = (sum(1 for g in goals if g["met"] is m) for m in (True, False))
    return [*lines, "", f"{met} met, {missed} not met, {len(goals) - met - missed} not measured."]


def markdown(facts, contenders, found, goals):
    m = facts["machine"]
    size = facts["device_bytes"] / (1 << 30)
    lines = ["# lunfs beside others", "",
             f"{m['date']}; {m['cores']} cores of {m['cpu']}, {m['memory_gib']} GiB, Linux {m['kernel']}; "
             f"a loop device of {size:g} GiB on memory, direct I/O below; median of {facts['runs']} "
             f"run{'s' if facts['runs'] > 1 else ''}, ± half the distance from the lowest to the highest."]
    if facts["quick"]:
        lines += ["", "Quick: small and short; shows that it works, and not how fast it is."]
    lines += ["", "| contender | |", "|---|---|"] + [f"| {c} | {TITLES[c]} |" for c in contenders]
    for group in works.GROUPS:
        lines += table(group, contenders, found)
    lines += goals_table(goals)
    errors = [f"- `{n}` on {c}: {x['error']}" for n in found for c, x in found[n].items() if "error" in x]
    if errors:
        lines += ["", "## What failed", ""] + errors
    return "\n".join(lines) + "\n"
