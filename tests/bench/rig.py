# SPDX-License-Identifier: GPL-2.0-or-later
"""
The device and who is put on it: a loop device on an image in memory, formatted and mounted for one
contender at a time. Whatever was started or mounted stands on a stack and is undone by its id, last
first, also when something fails half-way.
"""

import contextlib
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

MOUNT_SECONDS = 30
END_SECONDS = 30
PIPE_LIMIT = pathlib.Path("/proc/sys/fs/pipe-max-size")
PIPE_BYTES = 2 << 20
EXAMPLES = pathlib.Path("/usr/share/doc/libfuse3-dev/examples")
CONTENDERS = ["raw", "ext4", "xfs", "fuse2fs", "ntfs-3g", "passthrough_ll", "passthrough_hp",
              "lunfs", "lunfs2"]
TITLES = {
    "raw": "the device itself", "ext4": "ext4 (kernel)", "xfs": "xfs (kernel)",
    "fuse2fs": "fuse2fs", "ntfs-3g": "ntfs-3g",
    "passthrough_ll": "libfuse passthrough_ll on ext4",
    "passthrough_hp": "libfuse passthrough_hp on ext4",
    "lunfs": "lunfs, one host", "lunfs2": "lunfs, two hosts mounted",
}
LUNFS = ("lunfs", "lunfs2")


class Failed(Exception):
    """A step that went wrong, in one line."""


def command(*args, seconds=120, cwd=None, group=None):
    """Runs it and gives what it printed; a failure is its last line."""
    # in a control group of its own if told: the limits of the device count for whoever writes
    args = [str(a) for a in args]
    if group:
        args = ["sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', str(group), *args]
    try:
        p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, cwd=cwd, start_new_session=True)
    except OSError as e:
        raise Failed(f"{args[0]}: {e.strerror}") from None
    try:
        out, err = p.communicate(timeout=seconds)
    except BaseException as e:
        os.killpg(p.pid, signal.SIGKILL)  # its children too, which would go on
        p.communicate()
        if isinstance(e, subprocess.TimeoutExpired):
            raise Failed(f"{args[0]}: not done in {seconds} s") from None
        raise
    if p.returncode != 0:
        lines = (err.strip() or out.strip()).splitlines() or [f"exit code {p.returncode}"]
        raise Failed(f"{os.path.basename(args[0])}: {lines[-1][:200]}")
    return out


# ---- libfuse's examples: built where they run, never part of this tree ---------------------------


def unpack_example(name, folder):
    """From the development package's documents, else from Debian's source package."""
    if (EXAMPLES / name).exists():
        shutil.copy(EXAMPLES / name, folder)
    elif (EXAMPLES / f"{name}.gz").exists():
        (folder / name).write_bytes(gzip.decompress((EXAMPLES / f"{name}.gz").read_bytes()))
    else:
        unpack_source(name, folder)


def unpack_source(name, folder):
    apt = folder / "apt"
    for d in ("parts", "lists/partial"):
        (apt / d).mkdir(parents=True, exist_ok=True)
    for f in pathlib.Path("/etc/apt/sources.list.d").glob("debian*.sources"):
        text = f.read_text().replace("Types: deb\n", "Types: deb-src\n")
        (apt / "parts" / f.name).write_text(text)
    for f in pathlib.Path("/etc/apt").glob("sources.list"):
        text = "\n".join(x.replace("deb ", "deb-src ", 1) for x in f.read_text().splitlines()
                         if x.startswith("deb "))
        (apt / "parts/main.list").write_text(text + "\n")
    own = ["-o", f"Dir::Etc::sourceparts={apt}/parts", "-o", "Dir::Etc::sourcelist=/dev/null",
           "-o", f"Dir::State::lists={apt}/lists", "-qq"]
    command("apt-get", *own, "update", seconds=120)
    command("apt-get", *own, "source", "--download-only", "fuse3", cwd=apt, seconds=120)
    tar = next(apt.glob("fuse3_*.orig.tar.*z"), None)
    if not tar:
        raise Failed("Debian's source package of fuse3 has no archive")
    command("tar", "xf", tar, "-C", folder, "--strip-components=2", "--wildcards",
            "*/example/passthrough_*", "*/example/cxxopts.hpp")
    if not (folder / name).exists():
        raise Failed(f"Debian's source package of fuse3 has no {name}")


def build_example(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    flags = command("pkg-config", "fuse3", "--cflags", "--libs").split()
    program = folder / name
    if name == "passthrough_ll":
        for f in ("passthrough_ll.c", "passthrough_helpers.h"):
            unpack_example(f, folder)
        command("gcc", "-O2", "-w", "-DHAVE_UTIMENSAT", folder / "passthrough_ll.c", "-o", program,
                *flags)
    else:
        unpack_example("passthrough_hp.cc", folder)
        command("g++", "-O2", "-w", "-std=gnu++17", "-DFUSE_USE_VERSION=312", folder / "passthrough_hp.cc",
                "-o", program, *flags)
    return program


# ---- the rig --------------------------------------------------------------------------------------


class Rig:
    """Where everything stands; one at a time is set up on it."""

    def __init__(self, work, build, size):
        self.work, self.build, self.size = pathlib.Path(work), pathlib.Path(build), size
        self.examples = {}  # name: program, or the reason why there is none

    def example(self, name):
        if name not in self.examples:
            try:
                self.examples[name] = build_example(name, self.work / "examples" / name)
            except Failed as e:
                self.examples[name] = e
        if isinstance(self.examples[name], Failed):
            raise Failed(f"could not be built: {self.examples[name]}")
        return self.examples[name]

    @contextlib.contextmanager
    def contender(self, name, mkfs=()):
        """Sets one up and takes it away: gives a Stage. @mkfs: more for mkfs.lunfs."""
        with contextlib.ExitStack() as stack:
            stage = Stage(self, name, stack)
            stage.mkfs = mkfs
            stage.set_up()
            yield stage


class Stage:
    """One contender on the device: dirs[0] is where to work, dirs[1] the second host."""

    def __init__(self, rig, name, stack):
        self.rig, self.name, self.stack = rig, name, stack
        self.device, self.dirs, self.daemons, self.mkfs = None, [], [], ()

    # -- parts

    def loop(self):
        image = self.rig.work / "device.img"
        with open(image, "wb") as f:
            f.truncate(self.rig.size)
        self.stack.callback(lambda: image.unlink(missing_ok=True))
        self.device = command("losetup", "--direct-io=on", "-f", "--show", image).strip()
        self.stack.callback(self.detach, self.device)

    @staticmethod
    def detach(device):
        for _ in range(100):
            if subprocess.run(["losetup", "-d", device], capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)

    def folder(self, name):
        path = self.rig.work / name
        path.mkdir(exist_ok=True)
        return path

    def unmount(self, path):
        if not os.path.ismount(path):
            return
        for _ in range(50):
            r = subprocess.run(["umount", path], capture_output=True, check=False)
            if r.returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "-l", path], capture_output=True, check=False)

    def kernel_mount(self, path, kind):
        command("mount", "-t", kind, self.device, path)
        self.stack.callback(self.unmount, path)

    def daemon(self, path, *args):
        with open(self.rig.work / f"{path.name}.log", "wb") as out:
            p = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 start_new_session=True)
        self.daemons.append(p)
        self.stack.callback(self.end, p, path)
        until = time.monotonic() + MOUNT_SECONDS
        while not os.path.ismount(path):
            if p.poll() is not None or time.monotonic() > until:
                raise Failed(f"{os.path.basename(str(args[0]))} did not mount: {self.last_word(path)[:200]}")
            time.sleep(0.01)

    def end(self, p, path):
        self.unmount(path)
        try:
            p.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            subprocess.run(["umount", "-l", path], capture_output=True, check=False)

    def death(self):
        """Why it serves no more, if so: figures of an empty mount point would be those of memory."""
        for path in self.dirs:
            if not os.path.ismount(path):
                return f"{path.name} is mounted no more; its log: {self.last_word(path)}"
        return None

    def check_alive(self):
        reason = self.death()
        if reason:
            raise Failed(reason)

    def cpu_seconds(self, host):
        """What the daemon of that host used of a processor so far."""
        fields = pathlib.Path(f"/proc/{self.daemons[host].pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self, host):
        """As by kill -9: its mount goes too, and it is no host of this stage any more."""
        path = self.dirs.pop(host)
        self.daemons[host].kill()
        self.daemons[host].wait()
        command("umount", "-l", path)

    def find_in_log(self, host, pattern, seconds=5):
        path, until = self.rig.work / f"{self.dirs[host].name}.log", time.monotonic() + seconds
        while time.monotonic() < until:
            found = re.search(pattern, path.read_text(errors="replace"))
            if found:
                return found
            time.sleep(0.05)
        raise Failed(f"the log of {path.name} has nothing like: {pattern[:60]}")

    def last_word(self, path):
        with contextlib.suppress(OSError, IndexError):
            return (self.rig.work / f"{path.name}.log").read_text(errors="replace").strip().splitlines()[-1]
        return "nothing"

    # -- contenders

    def set_up(self):
        self.loop()
        getattr(self, "set_up_" + self.name.replace("-", "_"))()

    def set_up_raw(self):
        pass

    def ext4(self, path):
        command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.device)
        if path:
            self.kernel_mount(path, "ext4")

    def set_up_ext4(self):
        self.dirs = [self.folder("mnt")]
        self.ext4(self.dirs[0])

    def set_up_xfs(self):
        self.dirs = [self.folder("mnt")]
        command("mkfs.xfs", "-q", "-f", self.device)
        self.kernel_mount(self.dirs[0], "xfs")

    def set_up_fuse2fs(self):
        self.dirs = [self.folder("mnt")]
        self.ext4(None)
        self.daemon(self.dirs[0], "fuse2fs", "-f", "-o", "rw,fakeroot", self.device, self.dirs[0])

    def set_up_ntfs_3g(self):
        self.dirs = [self.folder("mnt")]
        command("mkntfs", "-q", "-Q", "-F", self.device)
        self.daemon(self.dirs[0], "ntfs-3g", "-o", "no_detach,big_writes", self.device, self.dirs[0])

    def wide_pipes(self):
        """Without these libfuse 3.14 copies what is written to where direct I/O refuses it."""
        # a request of 1 MiB and its header do not fit into a pipe of the usual limit, and so none is used
        old = int(PIPE_LIMIT.read_text())
        if old < PIPE_BYTES:
            PIPE_LIMIT.write_text(f"{PIPE_BYTES}\n")
            self.stack.callback(PIPE_LIMIT.write_text, f"{old}\n")

    def set_up_passthrough_ll(self):
        self.wide_pipes()
        program = self.rig.example("passthrough_ll")
        back = self.folder("back")
        self.dirs = [self.folder("mnt")]
        self.ext4(back)
        self.daemon(self.dirs[0], program, "-f", "-o", f"source={back}", self.dirs[0])

    def set_up_passthrough_hp(self):
        self.wide_pipes()
        program = self.rig.example("passthrough_hp")
        back = self.folder("back")
        self.dirs = [self.folder("mnt")]
        self.ext4(back)
        self.daemon(self.dirs[0], program, "--foreground", back, self.dirs[0])

    def set_up_lunfs(self, hosts="a"):
        command(self.rig.build / "mkfs/mkfs.lunfs", "-q", *self.mkfs, self.device)
        for h in hosts:
            path = self.folder(f"mnt.{h}")
            self.dirs.append(path)
            self.daemon(path, self.rig.build / "fs/mount.lunfs", "-f", "-o", f"host={h}", self.device,
                        path)

    def set_up_lunfs2(self):
        self.set_up_lunfs("ab")

    # -- what work asks for

    def dir(self, name, host=0):
        """A folder of that name, seen by a host."""
        path = self.dirs[host] / name
        path.mkdir(exist_ok=True)
        return path

    def stats(self, host):
        return json.loads(command(self.rig.build / "fs/lunfs", "stats", self.dirs[host], "--json"))

    def limit(self, bytes_a_second):
        """A control group in which this device is no faster; everything that serves is in it."""
        root = pathlib.Path("/sys/fs/cgroup/blkio")
        if not (root / "blkio.throttle.read_bps_device").exists():
            raise Failed("no blkio control groups to slow the device with")
        group = root / f"lunfs-bench.{os.getpid()}"
        group.mkdir()
        self.stack.callback(self.lift, group)
        number = os.stat(self.device).st_rdev
        for what in ("read", "write"):
            (group / f"blkio.throttle.{what}_bps_device").write_text(
                f"{os.major(number)}:{os.minor(number)} {bytes_a_second}\n")
        for p in self.daemons:
            (group / "cgroup.procs").write_text(f"{p.pid}\n")
        return group

    def lift(self, group):
        for p in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(p)
        for _ in range(20):
            with contextlib.suppress(OSError):
                group.rmdir()
                return
            time.sleep(0.05)
