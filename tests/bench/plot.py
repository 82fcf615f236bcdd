# SPDX-License-Identifier: GPL-2.0-or-later
"""The plot: a panel for each work, in it a bar for each contender, with a line from lowest to highest."""

from html import escape

import work
from report import number

PANEL_W, BAR_H, HEAD_H, LABEL_W, VALUE_W, COLUMNS = 430, 15, 34, 110, 60, 3
COLOURS = {"raw": "#9a9a9a", "ext4": "#6b7f99", "xfs": "#8299b8", "lunfs": "#c4501b", "lunfs2": "#e08a5b"}
OTHERS = "#b9c4a0"
STYLE = "font-family:sans-serif;font-size:11px;fill:#222"


def text(x, y, words, more=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" style="{STYLE};{more}">{escape(words)}</text>'


def panel(x, y, name, contenders, found):
    group, unit, what = work.WORKS[name]
    less = " (less is better)" if name in work.LESS_IS_BETTER else ""
    out = [text(x, y + 12, f"{name}, {unit}{less}", "font-weight:bold"),
           text(x, y + 25, what[:68], "font-size:10px;fill:#666")]
    top = max(found[c]["high"] for c in contenders) or 1
    width = PANEL_W - LABEL_W - VALUE_W - 20
    for i, c in enumerate(contenders):
        m, at = found[c], y + HEAD_H + i * BAR_H
        end = x + LABEL_W + width * m["value"] / top
        low, high = (x + LABEL_W + width * m[k] / top for k in ("low", "high"))
        out += [text(x, at + 10, c),
                f'<rect x="{x + LABEL_W}" y="{at + 1}" width="{max(end - x - LABEL_W, 0.5):.1f}" height="{BAR_H - 4}" '
                f'fill="{COLOURS.get(c, OTHERS)}"/>',
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{at + 6.5}" y2="{at + 6.5}" stroke="#222"/>',
                text(max(end, high) + 4, at + 10, number(m["value"]))]
    return out


def svg(contenders, found):
    body, x, y, row_h = [], 10, 10, 0
    for name in found:
        there = [c for c in contenders if "value" in found[name].get(c, {})]
        if not there:
            continue
        body += panel(x, y, name, there, found[name])
        row_h = max(row_h, HEAD_H + len(there) * BAR_H + 14)
        x += PANEL_W
        if x > 10 + PANEL_W * (COLUMNS - 1):
            x, y, row_h = 10, y + row_h, 0
    w, h = 20 + PANEL_W * COLUMNS, y + row_h + 10
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}">\n'
            f'<rect width="{w}" height="{h}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n")
