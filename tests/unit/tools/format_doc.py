#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""format_doc.py FORMAT.md format.h: every struct's tables name the fields, offsets and widths of the header."""
import re
import sys

doc, header = (open(p, encoding="utf-8").read() for p in sys.argv[1:3])
width = {"uint8_t": 1, "le16": 2, "le32": 4, "le64": 8}
define = {"LUNFS_XATTR_FORK_BYTES": 0x200, "LUNFS_DATA_FORK_BYTES": 0xB00, "LUNFS_HOSTNAME_BYTES": 64,
          "LUNFS_BITMAP_BYTES": 3520, "LUNFS_MAX_SLOTS": 128, "LUNFS_WISHES": 16, "LUNFS_JDESC_ENTRIES": 100,
          "LUNFS_REDO_ENTRIES": 500,
          "LUNFS_GROUP_WINDOWS": 1024, "LUNFS_PAYLOAD_BYTES - 0x40": 3520}
size, structs, bad = {}, {}, []

for name, body in re.findall(r"^struct (lunfs_\w+) \{(.*?)^\};", header, re.S | re.M):
    at, fields = 0, {}
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    for ctype, field, dim in re.findall(r"([\w ]+?)\s+(\w+)(\[[^]]*\])?;", body):
        ctype = ctype.strip().removeprefix("struct ")
        one = width.get(ctype) or size[ctype]
        inner = dim[1:-1] if dim else None
        count = 1 if not dim else 0 if inner == "" else define.get(inner) or int(inner, 0)
        fields[field] = (at, one * count if count else None)
        at += one * count
    size[name], structs[name] = at, fields

documented = {}
for part in re.split(r"^## ", doc, flags=re.M)[1:]:
    title = part.split("\n", 1)[0]
    if title.startswith("struct "):
        rows = re.findall(r"^\| 0x([0-9a-f]+) \| ([^|]+) \| (\w+) \|", part, re.M)
        documented[title[7:]] = {f: (int(o, 16), w.strip()) for o, w, f in rows}


def product(text):
    n = 1
    for factor in text.split("×"):
        if not factor.strip().isdigit():
            return None
        n *= int(factor)
    return n


for name, fields in structs.items():
    have = documented.get(name)
    if have is None:
        bad.append(f"{name} has no heading")
        continue
    for field, (off, nbytes) in fields.items():
        if field not in have:
            bad.append(f"{name}.{field} is not in the text")
        elif have[field][0] != off:
            bad.append(f"{name}.{field}: offset {have[field][0]:#x} in the text, {off:#x} in the header")
        elif nbytes and product(have[field][1]) != nbytes:
            bad.append(f"{name}.{field}: width {have[field][1]} in the text, {nbytes} in the header")
    bad += [f"{name}.{field} is only in the text" for field in have if field not in fields]
bad += [f"{name} is only in the text" for name in documented if name not in structs]
if len(structs) < 20:
    bad.append("the header could not be read")
print("\n".join(bad) or f"{len(structs)} structs agree")
sys.exit(bool(bad))
