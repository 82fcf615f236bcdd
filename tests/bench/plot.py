# SPDX-License-Identifier: GPL-2.0-or-later
"""
The plots: a panel for each work, in it a bar for each contender, with a line from lowest to highest;
curves over the number of hosts; and flame graphs.
"""

import math
from html import escape

import works
from report import number

PANEL_W, BAR_H, HEAD_H, LABEL_W, VALUE_W, COLUMNS = 430, 15, 34, 110, 60, 3
COLOURS = {"raw": "#9a9a9a", "ext4": "#6b7f99", "xfs": "#8299b8", "lunfs": "#c4501b", "lunfs2": "#e08a5b"}
OTHERS = "#b9c4a0"
STYLE = "font-family:sans-serif;font-size:11px;fill:#222"


def text(x, y, words, more=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" style="{STYLE};{more}">{escape(words)}</text>'


def picture(w, h, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}">\n'
            f'<rect width="{w}" height="{h}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n")


def panel(x, y, title, what, rows):
    """@rows: (label, figures, colour), a bar each."""
    out = [text(x, y + 12, title, "font-weight:bold"), text(x, y + 25, what[:74], "font-size:10px;fill:#666")]
    top = max(m["high"] for _, m, _ in rows) or 1
    width = PANEL_W - LABEL_W - VALUE_W - 20
    for i, (label_of, m, colour) in enumerate(rows):
        at = y + HEAD_H + i * BAR_H
        end = x + LABEL_W + width * m["value"] / top
        low, high = (x + LABEL_W + width * m[k] / top for k in ("low", "high"))
        out += [text(x, at + 10, label_of),
                f'<rect x="{x + LABEL_W}" y="{at + 1}" width="{max(end - x - LABEL_W, 0.5):.1f}" height="{BAR_H - 4}" '
                f'fill="{colour}"/>',
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{at + 6.5}" y2="{at + 6.5}" stroke="#222"/>',
                text(max(end, high) + 4, at + 10, number(m["value"]))]
    return out


def together(group, found):
    """Panels of works that only lunfs does, side by side as bars: (title, what, rows)."""
    for title, unit, what, names in works.TOGETHER[group]:
        rows = [(label_of, found[n]["lunfs2"], COLOURS["lunfs2"]) for label_of, n in names
                if "value" in found.get(n, {}).get("lunfs2", {})]
        if rows:
            yield f"{title}, {unit}", what, rows


def beside(group, contenders, found):
    """A panel a work, in it a bar a contender."""
    for name in found:
        of_group, unit, what = works.WORKS[name]
        rows = [(c, found[name][c], COLOURS.get(c, OTHERS)) for c in contenders if "value" in found[name].get(c, {})]
        if of_group == group and rows:
            less = " (less is better)" if name in works.LESS_IS_BETTER else ""
            yield f"{name}, {unit}{less}", what, rows


def svg(title, contenders, found):
    body, y = [text(10, 26, title, "font-size:15px;font-weight:bold")], 50
    for group in works.GROUPS:
        panels = list(together(group, found) if group in works.TOGETHER else beside(group, contenders, found))
        if not panels:
            continue
        body.append(text(10, y + 12, works.TITLES[group], "font-size:13px;font-weight:bold;fill:#7a3512"))
        y += 26
        for row in (panels[i:i + COLUMNS] for i in range(0, len(panels), COLUMNS)):
            for i, (head, what, bars) in enumerate(row):
                body += panel(10 + i * PANEL_W, y, head, what, bars)
            y += HEAD_H + max(len(bars) for _, _, bars in row) * BAR_H + 14
    return picture(20 + PANEL_W * COLUMNS, y + 10, body)


# ---- curves ---------------------------------------------------------------------------------------

CURVE_W, CURVE_H, LEFT, RIGHT, TOP, BOTTOM = 400, 300, 56, 52, 44, 34
LINES = ["#c4501b", "#3b6ea5", "#5f8f3f", "#8a5fa5"]


def label(x):
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:.3g}{letter}"
    return f"{x:.2g}" if x < 10 else f"{x:.3g}"


class Axes:
    """Both logarithmic: a straight line at 45 degrees is in proportion."""

    def __init__(self, x, y, points):
        xs, ys = [p[0] for p in points], [p[1] for p in points if p[1] > 0] or [1]
        self.x0, self.x1 = min(xs), max(max(xs), 2 * min(xs))
        # whole decades, unless one is enough of a range
        self.y0 = 10 ** math.floor(math.log10(min(ys)) + 1e-9)
        self.y1 = 10 ** max(math.ceil(math.log10(max(ys)) - 1e-9), math.log10(self.y0) + 1)
        self.left, self.right = x + LEFT, x + CURVE_W - RIGHT
        self.top, self.bottom = y + TOP, y + CURVE_H - BOTTOM

    def px(self, x):
        return self.left + (self.right - self.left) * math.log(x / self.x0) / math.log(self.x1 / self.x0)

    def py(self, y):
        y = min(max(y, self.y0), self.y1)
        return self.bottom - (self.bottom - self.top) * math.log(y / self.y0) / math.log(self.y1 / self.y0)

    def grid(self):
        out, y = [], self.y0
        while y <= self.y1 * 1.001:
            at = self.py(y)
            out += [f'<line x1="{self.left}" x2="{self.right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>',
                    text(self.left - 6, at + 4, label(y), "text-anchor:end")]
            y *= 10
        x = self.x0
        while x <= self.x1:
            out.append(text(self.px(x), self.bottom + 16, str(x), "text-anchor:middle"))
            x *= 2
        return [*out, text((self.left + self.right) / 2, self.bottom + 30, "hosts", "text-anchor:middle;fill:#666")]


def polyline(axes, points, colour, more=""):
    at = " ".join(f"{axes.px(x):.1f},{axes.py(y):.1f}" for x, y in points)
    return f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2" {more}/>'


def curve_panel(x, y, name, unit, what, lines, proportional):
    """@lines: (label, points); with @proportional a dashed line shows what n times one host would be."""
    axes = Axes(x, y, [p for _, points in lines for p in points])
    out = [text(x + 8, y + 14, f"{name}, {unit}", "font-weight:bold"),
           text(x + 8, y + 28, what[:70], "font-size:10px;fill:#666"), *axes.grid()]
    ends = []
    for i, (title, points) in enumerate(lines):
        if not points:
            continue
        colour = LINES[i % len(LINES)]
        first = points[0]
        if proportional:
            top = min(axes.x1, first[0] * axes.y1 / max(first[1], axes.y0))
            out.append(polyline(axes, [first, (top, first[1] * top / first[0])], colour,
                                'stroke-dasharray="3 4" opacity="0.5"'))
        out.append(polyline(axes, points, colour))
        out += [f'<circle cx="{axes.px(a):.1f}" cy="{axes.py(b):.1f}" r="3" fill="{colour}"/>' for a, b in points]
        ends.append([axes.py(points[-1][1]) + 4, title, colour])
    for before, end in zip(sorted(ends), sorted(ends)[1:]):  # labels keep off each other
        end[0] = max(end[0], before[0] + 13)
    return out + [text(axes.right + 8, at, title, f"fill:{colour}") for at, title, colour in ends]


def curves(title, panels):
    body = [text(18, 26, title, "font-size:15px;font-weight:bold")]
    for i, panel_of in enumerate(panels):
        body += curve_panel(10 + i % COLUMNS * CURVE_W, 40 + i // COLUMNS * CURVE_H, *panel_of)
    w, h = 20 + CURVE_W * COLUMNS, 50 + -(-len(panels) // COLUMNS) * CURVE_H
    return picture(w, h, body)


# ---- flame graphs ---------------------------------------------------------------------------------

FLAME_W, FRAME_H, LETTER_W, THIN = 1200, 14, 5.6, 0.7
WHO_COLOUR, IDLE_COLOUR = "#d8d8d8", "#f4f4f4"
# one for each of stacks.WHAT: the kernel warm, lunfs green and blue, the rest grey
FLAME_COLOURS = ["#e58a7a", "#efb36b", "#f2cf63", "#d3b48a", "#f0a58a", "#f3e0c0", "#a9cbe0", "#8fb5d6", "#7fc6c0",
                 "#6fb58a", "#b9d48a", "#9fcf7f", "#7dbb5e", "#c9dfa5", "#d9c6e5", "#e6e6e6"]


def tree_of(folded):
    """{name: [samples, tree of those it calls]}"""
    root = {}
    for path, n in folded.items():
        level = root
        for name in path:
            node = level.setdefault(name, [0, {}])
            node[0] += n
            level = node[1]
    return root


def frame_at(x, y, w, name, n, total, colour):
    words = f"{name}: {100 * n / total:.1f} %"
    out = (f'<g><title>{escape(words)}</title><rect x="{x:.1f}" y="{y}" width="{max(w - 0.3, 0.3):.1f}" '
           f'height="{FRAME_H - 1}" class="{colour}"/>')
    fits = int((w - 4) / LETTER_W)
    if fits >= 4:
        label_of = words if len(words) <= fits else name if len(name) <= fits else name[:fits - 1] + "…"
        out += f'<text x="{x + 2:.1f}" y="{y + 10}">{escape(label_of)}</text>'
    return out + "</g>"


def flames(title, folded, first, of, what):
    """Who called whom, as wide as it took: @first are the roots in their order, @of[function] one of @what."""
    total, depth = sum(folded.values()), max(len(p) for p in folded)
    top, colour = 44, {w: f"c{i}" for i, w in enumerate(what)}
    body = []

    def draw(level, x, deep, order):
        for name, (n, below) in sorted(level.items(), key=order):
            w = (FLAME_W - 20) * n / total
            if w >= THIN:
                kind = "who" if deep < 2 else colour.get(of.get(name), "who")
                y = top + (depth - 1 - deep) * FRAME_H
                body.append(frame_at(x, y, w, name, n, total, "idle" if name == first[-1] else kind))
                draw(below, x, deep + 1, lambda item: item[0])
            x += w

    draw(tree_of(folded), 10, 0, lambda item: first.index(item[0]))
    bottom = top + depth * FRAME_H
    return picture(FLAME_W, bottom + 40, [
        flame_style(), text(10, 22, title, "font-size:14px;font-weight:bold"),
        text(10, 37, f"{total} samples; all processors are the whole width", "fill:#666"),
        *body, *legend(what, bottom + 18)])


def flame_style():
    kinds = "".join(f".c{i}{{fill:{c}}}" for i, c in enumerate(FLAME_COLOURS))
    return (f"<style>{kinds}.who{{fill:{WHO_COLOUR}}}.idle{{fill:{IDLE_COLOUR};stroke:#bbb}}"
            "text{font-family:monospace;font-size:9px;fill:#222}</style>")


def legend(what, y):
    out, x = [], 10.0
    for i, word in enumerate(what):
        w = 24 + len(word) * LETTER_W
        if x + w > FLAME_W:
            x, y = 10.0, y + FRAME_H
        out += [f'<rect x="{x:.0f}" y="{y - 8}" width="9" height="9" class="c{i}"/>',
                f'<text x="{x + 12:.0f}" y="{y}">{escape(word)}</text>']
        x += w
    return out
