#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kept_names.py ROUNDS MOUNT...: changes names and attributes on one host and looks at them on the others at once,
by paths that these have just used, so that their kernels keep what was true before. Prints what was stale."""
import errno
import os
import random
import stat
import sys
import threading

rounds = int(sys.argv[1])
hosts = sys.argv[2:]
bad = []


def check(true, what):
    if not true:
        bad.append(what)
        print("stale:", what)


def there(path):
    try:
        return os.lstat(path)
    except OSError as e:
        if e.errno != errno.ENOENT:
            raise
        return None


def warm(paths):
    # twice: the first look brings it, the second is answered by the kernel
    for p in paths:
        for _ in range(2):
            there(p)


def one_round(i, sub):
    a, *others = random.sample(hosts, len(hosts))
    b = random.choice(others)
    f, g, h = (f"{sub}/{n}{i}" for n in "fgh")
    names = [f"{m}/{n}" for m in hosts for n in (f, g, h)]
    warm(names)  # that there is none
    with open(f"{a}/{f}", "xb") as out:
        out.write(b"12345")
    check(there(f"{b}/{f}") is not None, f"{f} was created")
    check(os.stat(f"{b}/{f}").st_size == 5, f"{f} was written")
    warm(names)
    os.chmod(f"{a}/{f}", 0o600)
    check(stat.S_IMODE(os.stat(f"{b}/{f}").st_mode) == 0o600, f"{f}: mode")
    os.link(f"{a}/{f}", f"{a}/{g}")
    check(os.stat(f"{b}/{f}").st_nlink == 2, f"{f}: link count after a link")
    check(os.stat(f"{b}/{g}").st_ino == os.stat(f"{b}/{f}").st_ino, f"{g} is a link")
    os.truncate(f"{b}/{g}", 3)
    check(os.stat(f"{a}/{f}").st_size == 3, f"{f}: size after a truncation")
    with open(f"{a}/{f}", "ab") as out:
        out.write(b"678")
    check(os.stat(f"{b}/{g}").st_size == 6, f"{g}: size after an append")
    before = os.stat(f"{b}/{f}").st_ctime_ns
    os.setxattr(f"{a}/{f}", "user.x", b"1" * 100)
    check(os.stat(f"{b}/{f}").st_ctime_ns > before, f"{f}: ctime after setxattr")
    before = os.stat(f"{b}/{sub}").st_mtime_ns
    os.rename(f"{a}/{g}", f"{a}/{h}")
    check(there(f"{b}/{g}") is None and there(f"{b}/{h}") is not None, f"{g} was renamed to {h}")
    check(os.stat(f"{b}/{sub}").st_mtime_ns > before, f"{sub}: mtime after a rename")
    warm(names)
    os.unlink(f"{b}/{f}")
    check(there(f"{a}/{f}") is None, f"{f} was removed")
    check(os.stat(f"{a}/{h}").st_nlink == 1, f"{h}: link count after a removal")
    with open(f"{a}/{f}", "xb") as out:
        out.write(b"new")
    new = os.stat(f"{a}/{f}").st_ino
    warm(names)
    os.rename(f"{a}/{f}", f"{a}/{h}")  # over it
    check(os.stat(f"{b}/{h}").st_ino == new, f"{h} was renamed over")
    check(there(f"{b}/{f}") is None, f"{f} was renamed away")
    os.unlink(f"{b}/{h}")
    check(there(f"{a}/{h}") is None, f"{h} was removed")
    os.mkdir(f"{a}/{f}")
    check(os.stat(f"{b}/{sub}").st_nlink == os.stat(f"{a}/{sub}").st_nlink, f"{sub}: link count")
    check(os.listdir(f"{b}/{f}") == [], f"{f} is an empty directory")
    open(f"{b}/{f}/in", "x").close()
    check(there(f"{a}/{f}/in") is not None, f"{f}/in was created")
    os.rename(f"{a}/{f}", f"{a}/{sub}.moved{i}")
    check(there(f"{b}/{f}/in") is None, f"{f} was moved with what is in it")
    check(there(f"{b}/{sub}.moved{i}/in") is not None, f"{sub}.moved{i}/in came with its directory")
    os.unlink(f"{b}/{sub}.moved{i}/in")
    os.rmdir(f"{b}/{sub}.moved{i}")
    check(there(f"{a}/{sub}.moved{i}") is None, f"{sub}.moved{i} was removed")


def looker(stop, sub):
    # names are looked up while they come and go, so that answers are on their way all the time
    while not stop.is_set():
        for m in hosts:
            for n in "fgh":
                there(f"{m}/{sub}/{n}{random.randrange(rounds)}")


def main():
    stop = threading.Event()
    sub = "kept"
    os.makedirs(f"{hosts[0]}/{sub}")
    lookers = [threading.Thread(target=looker, args=(stop, sub)) for _ in range(2)]
    for t in lookers:
        t.start()
    try:
        for i in range(rounds):
            one_round(i, sub)
    finally:
        stop.set()
        for t in lookers:
            t.join()
    os.rmdir(f"{hosts[-1]}/{sub}")
    return 1 if bad else 0


sys.exit(main())
