#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Of waiters.sh: waiters.py DIRECTORY-AT-A DIRECTORY-AT-B PID-OF-A COUNT [CGROUP-OF-A]

A is stopped. B, which has a directory, looks at a file in it that A has, and has stored to by a
mapping. COUNT threads look up a name each at A, and will wait for the directory. So when A goes on,
all these requests come first, and then the one that writes back what was stored. With CGROUP-OF-A
there are no more threads for A than before, for a while.
"""
import mmap
import os
import signal
import sys
import threading
import time

TURNS = 3
WAIT_S = 20
at_a, at_b = sys.argv[1:3]
pid_a, count = map(int, sys.argv[3:5])
cgroup = sys.argv[5] if len(sys.argv) > 5 else None


def start(fn, *args):
    t = threading.Thread(target=fn, args=args, daemon=True)
    t.start()
    return t


def join(threads, what):
    end = time.monotonic() + WAIT_S
    for t in threads:
        t.join(max(0.01, end - time.monotonic()))
        if t.is_alive():
            print(f"waiters.py: {what}", flush=True)
            os._exit(1)


def limit_a(most):
    if cgroup:
        with open(f"{cgroup}/pids.max", "w") as f:
            f.write(str(most))


def look_up(directory, name):
    try:
        os.stat(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def turn(k):
    a, b = f"{at_a}/{k}", f"{at_b}/{k}"
    os.mkdir(a)
    with open(f"{a}/f", "w+b") as f:
        f.truncate(mmap.PAGESIZE)
        stored = mmap.mmap(f.fileno(), mmap.PAGESIZE)
    directory = os.open(a, os.O_RDONLY)  # else all wait for one request, for its name
    open(f"{b}/b", "w").close()  # the directory is B's now
    os.stat(b)  # its kernel has the attributes, and asks for nothing but the name
    stored[:8] = f"{k:8}".encode()
    os.kill(pid_a, signal.SIGSTOP)
    try:
        limit_a(len(os.listdir(f"/proc/{pid_a}/task")))
        looks = start(os.path.lexists, f"{b}/f")
        names = [start(look_up, directory, f"none.{n}") for n in range(count)]
        time.sleep(0.3)  # they are on their way
    finally:
        os.kill(pid_a, signal.SIGCONT)
    if cgroup:
        looks.join(1)
        limit_a("max")
    join([looks], "B waits for a file that A does not write back")
    join(names, "A waits for a directory")
    os.close(directory)


threading.stack_size(256 << 10)
for i in range(TURNS):
    turn(i)
