#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""features.py A B: operations through mount A, their results through mount B (another host)."""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import stat
import struct
import sys
import threading
import time

A, B = sys.argv[1:3]
libc = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


def fallocate(fd, mode, off, length):
    if libc.fallocate(fd, mode, ctypes.c_long(off), ctypes.c_long(length)):
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def renameat2(old, new, flags):
    if libc.renameat2(-100, old.encode(), -100, new.encode(), flags):
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def expect_errno(number, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except OSError as e:
        assert e.errno == number, "%s, not %s" % (e, errno.errorcode[number])
        return
    raise AssertionError("%s did not fail" % fn)


def sparse():
    fd = os.open(A + "/s", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * 8192, 1 << 20)
    os.pwrite(fd, b"y" * 100, 4 << 20)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 20
    assert os.lseek(fd, 1 << 20, os.SEEK_HOLE) == (1 << 20) + 8192
    assert os.lseek(fd, (1 << 20) + 8192, os.SEEK_DATA) == 4 << 20
    assert os.lseek(fd, 4 << 20, os.SEEK_HOLE) in ((4 << 20) + 100, (4 << 20) + 4096)
    expect_errno(errno.ENXIO, os.lseek, fd, 5 << 20, os.SEEK_DATA)
    assert os.stat(B + "/s").st_blocks <= 32
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, (1 << 20) + 100, 8000)
    want = b"\0" * (1 << 20) + b"x" * 100 + b"\0" * 8000 + b"x" * 92
    assert read(B + "/s")[: len(want)] == want
    fallocate(fd, 0, 8 << 20, 1 << 20)
    assert os.stat(B + "/s").st_size == 9 << 20
    assert os.stat(B + "/s").st_blocks >= 2048
    fallocate(fd, KEEP_SIZE, 16 << 20, 1 << 20)
    assert os.stat(B + "/s").st_size == 9 << 20
    fallocate(fd, ZERO_RANGE, 4 << 20, 50)
    assert os.pread(fd, 100, 4 << 20) == b"\0" * 50 + b"y" * 50
    os.ftruncate(fd, (4 << 20) + 60)
    os.ftruncate(fd, (4 << 20) + 200)
    assert read(B + "/s")[4 << 20:] == b"\0" * 50 + b"y" * 10 + b"\0" * 140
    os.close(fd)


def random_io(seed, steps):
    """Random reads, writes, truncates, punches against a model, through both hosts by turns."""
    rng = random.Random(seed)
    fds = [os.open("%s/r%d" % (p, seed), os.O_RDWR | os.O_CREAT) for p in (A, B)]
    model = bytearray()
    for step in range(steps):
        fd = fds[rng.randrange(2)]
        off, length = rng.randrange(300000), rng.choice((1, 100, 4096, 5000, 70000))
        what = rng.randrange(10)
        if what < 5:
            data = rng.randbytes(length)
            if off > len(model):
                model.extend(bytes(off - len(model)))
            model[off:off + length] = data
            assert os.pwrite(fd, data, off) == length
        elif what < 8:
            assert os.pread(fd, length, off) == bytes(model[off:off + length]), "seed %d, step %d" % (seed, step)
        elif what == 8:
            os.ftruncate(fd, off)
            del model[off:]
            model.extend(bytes(off - len(model)))
        else:
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, off, length)
            end = min(off + length, len(model))
            if off < end:
                model[off:end] = bytes(end - off)
    assert read("%s/r%d" % (A, seed)) == read("%s/r%d" % (B, seed)) == bytes(model)
    for fd in fds:
        os.close(fd)


def much_random_io():
    """Seed 2009 has found reads that went by a size of before, in every other run."""
    random_io(7, 1500)
    for seed in range(2005, 2015):
        random_io(seed, 600)


def xattrs():
    open(A + "/x", "w").close()
    os.setxattr(A + "/x", "user.one", b"1")
    os.setxattr(A + "/x", "user.big", b"v" * 30000)
    os.setxattr(A + "/x", "trusted.t", b"")
    assert os.getxattr(B + "/x", "user.big") == b"v" * 30000
    assert set(os.listxattr(B + "/x")) == {"user.one", "user.big", "trusted.t"}
    expect_errno(errno.EEXIST, os.setxattr, B + "/x", "user.one", b"2", os.XATTR_CREATE)
    expect_errno(errno.ENODATA, os.setxattr, B + "/x", "user.two", b"2", os.XATTR_REPLACE)
    os.removexattr(B + "/x", "user.one")
    expect_errno(errno.ENODATA, os.getxattr, A + "/x", "user.one")
    for i in range(100):
        os.setxattr(A + "/x", "user.n%d" % i, b"%d" % i * 20)
    assert len(os.listxattr(B + "/x")) == 102


def special():
    os.mkfifo(A + "/fifo")
    os.mknod(A + "/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(A + "/blk", stat.S_IFBLK | 0o600, os.makedev(259, 300000))
    assert stat.S_ISFIFO(os.stat(B + "/fifo").st_mode)
    assert os.stat(B + "/null").st_rdev == os.makedev(1, 3)
    assert os.stat(B + "/blk").st_rdev == os.makedev(259, 300000)
    for n in (1, 60, 2816, 2817, 4000, 4095):
        os.symlink("t" * n, A + "/link%d" % n)
        assert os.readlink(B + "/link%d" % n) == "t" * n
    os.link(A + "/x", A + "/x2")
    assert os.stat(B + "/x").st_nlink == 2
    os.unlink(B + "/x2")
    assert os.stat(A + "/x").st_nlink == 1


def renames():
    for n in ("ra", "rb"):
        with open(A + "/" + n, "w") as f:
            f.write(n)
    expect_errno(errno.EEXIST, renameat2, A + "/ra", A + "/rb", 1)
    renameat2(A + "/ra", A + "/rb", 2)
    assert read(B + "/ra") == b"rb" and read(B + "/rb") == b"ra"
    renameat2(B + "/ra", B + "/rc", 1)
    open(A + "/rw", "w").close()
    renameat2(A + "/rw", A + "/rv", 4)  # RENAME_WHITEOUT
    st = os.lstat(B + "/rw")
    assert st.st_mode == stat.S_IFCHR and st.st_rdev == 0 and os.path.isfile(B + "/rv")
    assert not os.path.exists(A + "/ra")
    os.makedirs(A + "/d1/sub")
    os.mkdir(A + "/d2")
    expect_errno(errno.EINVAL, os.rename, A + "/d1", A + "/d1/sub/x")
    renameat2(A + "/d1", A + "/d2", 2)
    assert os.path.isdir(B + "/d2/sub")
    os.rename(B + "/d2/sub", B + "/d1/sub")
    assert os.stat(A + "/d1").st_nlink == 3 and os.stat(A + "/d2").st_nlink == 2
    expect_errno(errno.ENOTEMPTY, os.rename, A + "/d2", A + "/d1")
    os.rename(A + "/d1", A + "/d2")
    assert os.path.isdir(B + "/d2/sub")
    expect_errno(errno.ENOTEMPTY, os.rmdir, B + "/d2")


def locks():
    f, g = open(A + "/ra2", "w"), open(A + "/ra2", "r+")
    fcntl.flock(f, fcntl.LOCK_EX)
    expect_errno(errno.EAGAIN, fcntl.flock, g, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(f, fcntl.LOCK_UN)
    fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10)
    pid = os.fork()
    if pid == 0:
        try:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10)
        except BlockingIOError:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, "two processes hold the same byte-range lock"


def mapping():
    with open(A + "/m", "wb") as f:
        f.write(b"a" * 10000)
    with open(A + "/m", "r+b") as f:
        m = mmap.mmap(f.fileno(), 10000)
        m[5000:5003] = b"zzz"
        m.flush()
        m.close()
    assert read(B + "/m") == b"a" * 5000 + b"zzz" + b"a" * 4997
    fa, fb = open(A + "/m", "r+b"), open(B + "/m", "rb")
    mb = mmap.mmap(fb.fileno(), 10000, prot=mmap.PROT_READ)
    assert mb[0:1] == b"a"
    os.pwrite(fa.fileno(), b"Q", 0)
    assert mb[0:1] == b"Q", "a mapping on b shows old data"
    ma = mmap.mmap(fa.fileno(), 10000)
    ma[1:2] = b"R"
    assert os.pread(fb.fileno(), 2, 0) == b"QR", "b does not see a store into a's mapping"


def as_user(fn):
    """fn() by somebody who owns nothing here and may do nothing special; what it has open comes from root."""
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(A)  # the way there is not open to all
            os.setgroups([])
            os.setresgid(1234, 1234, 1234)
            os.setresuid(1234, 1234, 1234)
            fn()
        except BaseException as e:
            print("  as user: %r" % e, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def as_root(fn):
    fn()


def store(fd):
    with mmap.mmap(fd, 4096) as m:
        m[0:3] = b"abc"
        m.flush()


def touch_kernel(fd):
    """The kernel has seen that there is nothing to drop, and does not look again by itself."""
    os.pwrite(fd, b"x" * 4096, 0)
    os.pwrite(fd, b"x" * 4096, 0)


# What changes a file: how it is opened, what is done.
CHANGES = {
    "write": (0, lambda fd: os.write(fd, b"x")),
    "whole block": (0, lambda fd: os.write(fd, mmap.mmap(-1, 4096))),
    "append": (os.O_APPEND, lambda fd: os.write(fd, b"x")),
    "direct": (os.O_DIRECT, lambda fd: os.write(fd, mmap.mmap(-1, 4096))),
    "direct, longer": (os.O_DIRECT, lambda fd: os.pwrite(fd, mmap.mmap(-1, 8192), 4096)),
    "shorter": (0, lambda fd: os.ftruncate(fd, 100)),
    "longer": (0, lambda fd: os.ftruncate(fd, 100000)),
    "as long": (0, lambda fd: os.ftruncate(fd, 8192)),
    "allocate": (0, lambda fd: fallocate(fd, 0, 0, 1 << 20)),
    "punch": (0, lambda fd: fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 0, 4096)),
}


def changes(name, give):
    """A file with privileges, which another host gave it when this kernel had seen that there were none."""
    for what, (flags, fn) in CHANGES.items():
        for way in (as_root, as_user):
            path = "/%s.%s.%s" % (name, what, way.__name__)
            fd = os.open(A + path, os.O_RDWR | os.O_CREAT | flags, 0o777)
            with open(A + path, "r+b", 0) as f:
                f.write(b"x" * 8192)
                touch_kernel(f.fileno())
            os.chmod(A + path, 0o755)
            give(B + path)
            way(lambda: fn(fd))
            yield what, way, path
            os.close(fd)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def set_id():
    """Set-id bits go when somebody changes the file who may not leave them, or its owner changes."""
    for what, way, path in changes("id", lambda p: os.chmod(p, 0o6755)):
        for where in (A, B):
            want = 0o755 if way is as_user else 0o6755
            assert mode(where + path) == want, "%s, %s: %o" % (what, way.__name__, mode(where + path))
    path = A + "/id"
    with open(path, "w") as f:
        f.write("x" * 8192)
    fd = os.open(path, os.O_RDWR)
    os.chmod(path, 0o6755)
    as_user(lambda: store(fd))
    os.fsync(fd)
    assert mode(path) == mode(B + "/id") == 0o6755, "a store into a mapping: %o" % mode(path)
    os.chown(path, 1234, 1234)
    assert mode(path) == mode(B + "/id") == 0o755, "chown"
    os.chmod(path, 0o2745)
    as_user(lambda: os.truncate("id", 5))
    assert mode(path) == mode(B + "/id") == 0o2745, "sgid without execution is no privilege"
    os.chmod(path, 0o6755)
    as_user(lambda: os.close(os.open("id", os.O_WRONLY | os.O_TRUNC)))
    assert mode(path) == mode(B + "/id") == 0o755, "O_TRUNC"
    as_user(lambda: os.chmod("id", 0o4755))
    assert mode(path) == mode(B + "/id") == 0o4755, "chmod"
    os.close(fd)


def capabilities():
    """What a file may do goes when somebody, whoever it is, writes to it, truncates it or gives it away."""
    cap = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)

    def give(path):
        os.setxattr(path, "user.other", b"stays")
        os.setxattr(path, "security.capability", cap)

    def names(path):
        got = [sorted(os.listxattr(where + path)) for where in (A, B)]
        assert got[0] == got[1], got
        return got[0]

    for what, way, path in changes("cap", give):
        assert names(path) == ["user.other"], "%s, %s" % (what, way.__name__)
    all_of_them = ["security.capability", "user.other"]
    path = "/cap"
    with open(A + path, "w") as f:
        f.write("x" * 8192)
    fd = os.open(A + path, os.O_RDWR)
    give(B + path)
    os.chmod(A + path, 0o711)
    os.utime(A + path)
    store(fd)
    os.fsync(fd)
    assert names(path) == all_of_them, "chmod, utimes, or a store into a mapping"
    os.chown(A + path, 5, -1)
    assert names(path) == ["user.other"], "chown"
    give(A + path)
    os.close(os.open(A + path, os.O_WRONLY | os.O_TRUNC))
    assert names(path) == ["user.other"], "O_TRUNC"
    give(A + path)
    assert names(path) == all_of_them
    os.close(fd)


def direct():
    """Several threads write side by side past the page cache; what is mapped or cached sees it."""
    blocks = 1024
    fd = os.open(A + "/direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    fallocate(fd, 0, 0, blocks * 4096)
    cached, far = open(A + "/direct", "rb"), open(B + "/direct", "rb")
    for turn in (1, 2):
        assert len(os.pread(cached.fileno(), blocks * 4096, 0)) == blocks * 4096

        def write(first):
            m = mmap.mmap(-1, 4096)
            for i in range(first, blocks, 4):
                m[:] = struct.pack("<Q", i * turn) * 512
                assert os.pwrite(fd, m, i * 4096) == 4096

        threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        want = b"".join(struct.pack("<Q", i * turn) * 512 for i in range(blocks))
        assert os.pread(far.fileno(), blocks * 4096, 0) == want, "b sees something else"
        assert os.pread(cached.fileno(), blocks * 4096, 0) == want, "a's cache shows old data"
    m = mmap.mmap(fd, 8192)
    m[4096:4099] = b"abc"
    assert os.pread(far.fileno(), 3, 4096) == b"abc", "b does not see a store into a mapping of a direct file"
    block = mmap.mmap(-1, 4096)
    block[:] = b"d" * 4096
    assert os.pwrite(fd, block, 4096) == 4096
    assert m[4096:4100] == b"dddd", "a mapping shows what stood there before a direct write"
    before = os.stat(B + "/direct").st_mtime_ns
    time.sleep(0.02)
    os.pwrite(fd, block, 0)
    assert os.stat(B + "/direct").st_mtime_ns > before, "a direct write leaves the time stamp"


def append_set_later():
    """O_APPEND set by fcntl on a cached handle appends where the other host has moved the end to."""
    fds = [os.open(p + "/al", os.O_RDWR | os.O_CREAT) for p in (A, B)]
    for fd in fds:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    want = b""
    for i in range(100):
        line = b"%d\n" % i
        assert os.write(fds[i % 2], line) == len(line)
        want += line
    for got in (read(A + "/al"), read(B + "/al")):
        assert got == want, "%r" % got
    for fd in fds:
        os.close(fd)


def new_names():
    """Both hosts open the same new names, as programs open a log: both get it; with O_EXCL one does."""
    os.mkdir(A + "/new")
    start = threading.Barrier(2)
    opened = {A: [], B: []}

    def open_all(host):
        for i in range(300):
            excl = os.O_EXCL if i % 3 == 0 else 0
            start.wait(30)
            try:
                os.close(os.open("%s/new/%d" % (host, i), os.O_WRONLY | os.O_CREAT | excl))
                opened[host].append(i)
            except FileExistsError:
                assert excl, "open(O_CREAT) says that %d is there" % i

    def run(host):
        try:
            open_all(host)
        except BaseException:
            start.abort()
            raise

    failed = []
    threading.excepthook = lambda a: failed.append(a.exc_value)
    threads = [threading.Thread(target=run, args=(h,)) for h in (A, B)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    threading.excepthook = threading.__excepthook__
    assert not failed, failed
    for i in range(300):
        assert (i in opened[A]) + (i in opened[B]) == (1 if i % 3 == 0 else 2), "%d: %s" % (i, opened)


def many_names():
    d = A + "/many"
    os.mkdir(d)
    for i in range(3000):
        os.mknod("%s/%d" % (d, i))
    names = set()
    with os.scandir(B + "/many") as it:
        for k, e in enumerate(it):
            names.add(e.name)
            if k % 3 == 0:
                os.unlink(e.path)
    assert names == {str(i) for i in range(3000)}, "readdir while names go away"
    assert len(os.listdir(d)) == 2000
    for e in os.listdir(d):
        os.unlink(d + "/" + e)
    os.rmdir(B + "/many")
    assert not os.path.exists(d)


for part in (sparse, much_random_io, xattrs, special, renames, locks, mapping, append_set_later, set_id, capabilities,
             direct, new_names, many_names):
    part()
    print("  %s: as it should be" % part.__name__)
