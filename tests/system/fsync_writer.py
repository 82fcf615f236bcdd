#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""fsync_writer.py write DIR LOG NAME: create, write, append, overwrite, rename, fsync; each promise that
was acknowledged goes to LOG (outside the volume, itself fsynced) as "path size sha256", "gone path".
Ends when the volume fails. fsync_writer.py verify DIR LOG: the last promise on each path holds."""
import hashlib
import os
import random
import sys


def body(rng):
    return rng.randbytes(rng.choice((0, 10, 500, 2816, 2817, 5000, 70000)))


def put(path, data, append=False):
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
    fd = os.open(path, flags, 0o644)
    try:
        while data:
            data = data[os.write(fd, data):]
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_dir(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Log:
    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def say(self, text):
        os.write(self.fd, (text + "\n").encode())


def digest(data):
    return "%d %s" % (len(data), hashlib.sha256(data).hexdigest())


def step(where, log, name, i, rng, live):
    path = "%s.%d" % (name, i)
    full = os.path.join(where, path)
    data = body(rng)
    log.say("try " + path)
    put(full, data)
    sync_dir(where)
    log.say("is %s %s" % (path, digest(data)))
    live[path] = data
    old = rng.choice(sorted(live))
    what = rng.randrange(3)
    log.say("try " + old)
    if what == 0:
        more = body(rng)
        put(os.path.join(where, old), more, append=True)
        live[old] += more
        log.say("is %s %s" % (old, digest(live[old])))
    elif what == 1:
        os.rename(os.path.join(where, old), full + ".r")
        sync_dir(where)
        log.say("gone " + old)
        live[path + ".r"] = live.pop(old)
        log.say("is %s %s" % (path + ".r", digest(live[path + ".r"])))
    elif len(live) > 5:
        os.unlink(os.path.join(where, old))
        sync_dir(where)
        live.pop(old)
        log.say("gone " + old)


def write(where, logfile, name):
    log = Log(logfile)
    rng = random.Random(name)
    live = {}
    i = 0
    try:
        while True:
            step(where, log, name, i, rng, live)
            i += 1
    except OSError:
        return


def promises(logfile):
    """path -> last promise, or None if something that was not acknowledged was tried after it."""
    last = {}
    for line in open(logfile):
        if not line.endswith("\n"):
            break
        word, path, *rest = line.split()
        last[path] = None if word == "try" else (word, rest)
    return last


def verify(where, logfile):
    bad = checked = 0
    for path, promise in promises(logfile).items():
        if promise is None:
            continue
        checked += 1
        full = os.path.join(where, path)
        if promise[0] == "gone":
            ok = not os.path.lexists(full)
        else:
            try:
                ok = digest(open(full, "rb").read()).split() == promise[1]
            except OSError as e:
                print(e)
                ok = False
        if not ok:
            bad += 1
            print("broken promise: %s %s" % (path, promise))
    print("  %d acknowledged promises checked" % checked)
    return bad


if sys.argv[1] == "write":
    write(*sys.argv[2:5])
else:
    sys.exit(1 if verify(*sys.argv[2:4]) else 0)
