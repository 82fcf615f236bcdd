#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""append_all.py COUNT PATH...: a process for each path (all the same file through different hosts)
appends COUNT lines with O_APPEND; then every line must be there, whole, and in each writer's order."""
import os
import sys

count, paths = int(sys.argv[1]), sys.argv[2:]
open(paths[0], "w").close()
children = []
for who, path in enumerate(paths):
    pid = os.fork()
    if pid == 0:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        for i in range(count):
            line = b"%d %d %s\n" % (who, i, b"x" * (i % 97))
            if os.write(fd, line) != len(line):
                os._exit(1)
        os._exit(0)
    children.append(pid)
if any(os.waitpid(pid, 0)[1] for pid in children):
    sys.exit("a writer failed")
want = [0] * len(paths)
for line in open(paths[-1], "rb"):
    who, i, rest = line.rstrip(b"\n").split(b" ")
    who, i = int(who), int(i)
    if i != want[who] or rest != b"x" * (i % 97):
        sys.exit("line %d of writer %d is missing or torn (found %r)" % (want[who], who, line))
    want[who] += 1
if want != [count] * len(paths):
    sys.exit("lines are missing: %r" % want)
