#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""churn.py DIR NAME: create, grow, truncate, link, rename, remove, make and remove directories without ever
syncing, until the volume fails."""
import os
import random
import sys

where, name = sys.argv[1:3]
rng = random.Random(name)
i = 0


def attempt(fn, *args):
    try:
        return fn(*args)
    except (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError):
        return None


def grow(path):
    with open(path, "ab") as f:
        f.write(b"z" * rng.randrange(200000))


while True:
    i += 1
    path = "%s/%s.%d" % (where, name, i % 40)
    other = "%s/%s.%d" % (where, rng.choice(("ca", "cb", "cc")), rng.randrange(40))
    what = rng.randrange(7)
    if what <= 1:
        attempt(grow, path)
    elif what == 2:
        attempt(os.truncate, path, rng.randrange(300000))
    elif what == 3:
        attempt(os.unlink, other)
    elif what == 4:
        attempt(os.rename, path, other)
    elif what == 5:
        attempt(os.link, path, other)
    else:
        sub = "%s/%s.dir%d" % (where, name, i % 5)
        attempt(os.mkdir, sub)
        attempt(os.rename, path, sub + "/x%d" % (i % 3))
        for e in attempt(os.listdir, sub) or []:
            attempt(os.unlink, sub + "/" + e)
        attempt(os.rmdir, sub)
