#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""seeds.py OUT: the edits of all recipes as inputs of the fuzzers, one folder a target, and inputs of those that take bytes."""
import pathlib
import struct
import sys

BASES = {"check": ("tree", "dead", "4k"), "repair": ("tree", "dead", "4k"), "mount": ("tree", "dead", "4k"),
         "look": ("tree", "dead", "4k"), "journal": ("dead",), "redo": ("redo",)}
RECIPES = pathlib.Path(__file__).resolve().parent.parent / "images"

# Of kinds without an example in fuzz_decode.c: number of the kind, bytes.
OTHERS = [
    # ACLs: minimal; with a named user, a mask.
    (10, struct.pack("<IHHIHHIHHI", 2, 1, 7, 2**32 - 1, 4, 5, 2**32 - 1, 32, 5, 2**32 - 1)),
    (10, struct.pack("<I" + "HHI" * 5, 2, 1, 7, 2**32 - 1, 2, 6, 1000, 4, 5, 2**32 - 1, 16, 7, 2**32 - 1, 32, 0, 2**32 - 1)),
    # Sense in both forms, READ CAPACITY(16), pages B0 and 83, INQUIRY.
    (11, bytes.fromhex("700005000000000a00000000240000000000")),
    (11, bytes.fromhex("720e1d0000000000")),
    (11, struct.pack(">QI", 2097151, 512) + bytes([0, 3, 0xC0, 0]) + bytes(16)),
    (11, bytes.fromhex("00b0003c0101") + struct.pack(">HIIIII", 8, 65535, 1024, 8, 65535, 1) + bytes(38)),
    (11, bytes.fromhex("0083001c") + bytes.fromhex("0103000860014050deadbeef") + bytes.fromhex("020100084c494f2d4f524700") + bytes(4)),
    (11, bytes.fromhex("000006025b001002") + b"LIO-ORG disk1           4.0 "),
    # READ KEYS, READ RESERVATION, REPORT CAPABILITIES.
    (12, struct.pack(">IIQQ", 3, 16, 0x6C756E6673000101, 0x6C756E6673000202)),
    (12, struct.pack(">IIQIBBH", 3, 16, 0x6C756E6673000101, 0, 0, 7, 0)),
    (12, bytes.fromhex("00081581ea010000")),
    (13, "Ärger\x07 ok".encode()),
]
KINDS, EXAMPLES = 14, 13

# op, record, offset, value: see fuzz_undo.c.
UNDO = [(0, 1, 0, 3), (0, 1, 1, 5), (0, 0, 0, 256), (1, 1, 0, 1), (2, 2, 100, 255), (3, 0, 8, 1), (3, 0, 24, 1),
        (4, 2, 20, 0), (4, 0, 0, 0), (5, 1, 0, 2), (6, 1, 0, 2), (7, 1, 0, 0), (8, 3, 0, 0)]

def edits(out):
    for target, bases in BASES.items():
        folder = out / target
        folder.mkdir(parents=True, exist_ok=True)
        for recipe in sorted(RECIPES.glob("*.recipe")):
            text = recipe.read_text(encoding="utf-8").splitlines()
            lines = [line[5:].split("#", 1)[0].strip() for line in text if line.startswith("edit ")]
            if not lines or len(lines) > 15:
                continue
            # Most are about one thing: the volumes take turns.
            base = bases[sum(map(ord, recipe.stem)) % len(bases)]
            if "tree crash" in text and "dead" in bases:
                base = "dead"
            (folder / recipe.stem).write_text("\n".join([f"base {base}"] + lines) + "\n", encoding="utf-8")


def raw(out, target, inputs):
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(inputs):
        (folder / f"seed-{i:03}").write_bytes(data)


def main():
    out = pathlib.Path(sys.argv[1])
    edits(out)
    raw(out, "decode", [bytes([base, kind, example, flags]) + bytes([64, 0, 0, 0]) for base in range(3)
                        for kind in range(KINDS) for example in range(EXAMPLES) for flags in (0, 2)
                        if base == 0 or example < 2] + [bytes([0, kind]) + data for kind, data in OTHERS])
    ops = [struct.pack("<BBHI", *op) for op in UNDO]
    raw(out, "undo", [bytes([base]) + op for base in range(2) for op in ops + [b""]] + [b"\0" + b"".join(ops[:4])])


main()
