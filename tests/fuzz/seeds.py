#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""seeds.py OUT: the edits of all recipes as inputs of the fuzzers, one folder a target, each on every volume of the target."""
import pathlib
import sys

BASES = {"check": ("tree", "dead", "4k"), "repair": ("tree", "dead", "4k"), "mount": ("tree", "dead", "4k"),
         "journal": ("dead",), "redo": ("redo",)}
RECIPES = pathlib.Path(__file__).resolve().parent.parent / "images"


def main():
    out = pathlib.Path(sys.argv[1])
    for target, bases in BASES.items():
        folder = out / target
        folder.mkdir(parents=True, exist_ok=True)
        for recipe in sorted(RECIPES.glob("*.recipe")):
            lines = [line[5:].split("#", 1)[0].strip() for line in recipe.read_text(encoding="utf-8").splitlines()
                     if line.startswith("edit ")]
            if not lines or len(lines) > 15:
                continue
            # Most are about one thing: the volumes take turns.
            base = bases[sum(map(ord, recipe.stem)) % len(bases)]
            (folder / recipe.stem).write_text("\n".join([f"base {base}"] + lines) + "\n", encoding="utf-8")


main()
