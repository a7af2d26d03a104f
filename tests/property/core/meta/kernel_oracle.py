"""The same steps on a directory of this machine's kernel and on a namespace in memory: `python -m … DIRECTORY SEED STEPS`.

Four users do what they like to a small tree. Each step must be granted or refused as the kernel does it, with the same errno,
and leave the same tree. It needs root, to be other users and to make the directory the root of what it sees. Where the two
differ, the exit status is 1, and one line says how.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fs3.core.meta.context import LayoutDefaults
from fs3.core.meta.errors import MetaError
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.mknod import mknod
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.meta.ops.stat import stat as stat_inode
from fs3.core.meta.ops.symlink import symlink
from fs3.model.inode import DEVICES, SPECIAL_FILES, InodeType, User
from fs3.model.namespace import RemoveKind
from fs3.model.requests import TIME_NOW
from tests.unit.core.meta.conftest import Space

USERS = [User(0, 0), User(1000, 1000, (50,)), User(1000, 1000, (50,)), User(1001, 1001), User(1002, 1002, (1000,))]
NAMES = ["a", "b", "c", "é", "d\udcff"]
MODES = [0o777, 0o777, 0o1777, 0o1777, 0o2775, 0o6775, 0o3777, 0o750, 0o070]
DEVICE = 0x801
BITS = {
    InodeType.FILE: stat.S_IFREG,
    InodeType.DIRECTORY: stat.S_IFDIR,
    InodeType.SYMLINK: stat.S_IFLNK,
    InodeType.FIFO: stat.S_IFIFO,
    InodeType.SOCKET: stat.S_IFSOCK,
    InodeType.BLOCK_DEVICE: stat.S_IFBLK,
    InodeType.CHARACTER_DEVICE: stat.S_IFCHR,
}
OPENS = [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDONLY | os.O_CREAT]

Step = tuple[str, Callable[[], Any], tuple[Any, ...], dict[str, Any]]
"""(what it is, what the kernel is asked, the operation and its arguments, its options)."""


def list_paths() -> list[str]:
    """All that is there, in an order that does not depend on the file system."""
    found = []
    for above, directories, files in os.walk("/"):
        directories.sort(key=os.fsencode)
        found += [os.path.join(above, name)[1:] for name in sorted((*directories, *files), key=os.fsencode)]
    return found


def draw_path(draw: random.Random, there: list[str]) -> str:
    """Mostly what is there, or a name in a directory that is."""
    if there and draw.random() < 0.5:
        return draw.choice(there)
    above = draw.choice(["", *[path for path in there if draw.random() < 0.2 or os.path.isdir(f"/{path}")]])
    return os.path.join(above, draw.choice(NAMES))


def draw_step(draw: random.Random) -> Step:
    """What is asked of both."""
    there = list_paths()
    path, other, mode = draw_path(draw, there), draw_path(draw, there), draw.choice(MODES)
    match draw.choice("dddddnnnnnslluuxrrrcmmooooatt"):
        case "d":
            # The kernel takes no more than these bits when it makes a directory.
            return f"mkdir {path!r} {mode:o}", lambda: os.mkdir(path, mode), (mkdir, path), {"mode": mode & 0o1777}
        case "n":
            kind = draw.choice([InodeType.FILE, *sorted(SPECIAL_FILES)])
            device = DEVICE if kind in DEVICES else 0
            ask = (mknod, path, kind), {"mode": mode, "rdev": device}
            return f"mknod {path!r} {kind.name} {mode:o}", lambda: os.mknod(path, BITS[kind] | mode, device), *ask
        case "s":
            return f"symlink {other!r} {path!r}", lambda: os.symlink(other, path), (symlink, path), {"target": other}
        case "l":
            return f"link {path!r} {other!r}", lambda: os.link(path, other, follow_symlinks=False), (link, path, other), {}
        case "u":
            return f"unlink {path!r}", lambda: os.unlink(path), (remove, path, RemoveKind.FILE), {}
        case "x":
            return f"rmdir {path!r}", lambda: os.rmdir(path), (remove, path, RemoveKind.DIRECTORY), {}
        case "r":
            return f"rename {path!r} {other!r}", lambda: os.rename(path, other), (rename, path, other), {}
        case "c":
            uid, gid, follow = draw.choice([0, 1000, 1001]), draw.choice([0, 50, 1000]), draw.random() < 0.5
            ask = (set_attributes, path), {"uid": uid, "gid": gid, "follow": follow}
            return f"chown {path!r} {uid} {gid}", lambda: os.chown(path, uid, gid, follow_symlinks=follow), *ask
        case "m":
            return f"chmod {path!r} {mode:o}", lambda: os.chmod(path, mode), (set_attributes, path), {"mode": mode}
        case "o":
            flags = draw.choice(OPENS)
            ask = (open_file, path), {
                "write": bool(flags & os.O_RDWR), "create": bool(flags & os.O_CREAT), "exclusive": bool(flags & os.O_EXCL),
                "mode": mode,
            }  # fmt: skip
            return f"open {path!r} {flags:o} {mode:o}", lambda: os.close(os.open(path, flags | os.O_NONBLOCK, mode)), *ask
        case "a":
            return f"stat {path!r}", lambda: os.stat(path), (stat_inode, path, True), {}
        case _:
            now = draw.random() < 0.5
            time = TIME_NOW if now else 1
            ask = (set_attributes, path), {"atime_ns": time, "mtime_ns": time}
            return f"utime {path!r} {now}", lambda: os.utime(path) if now else os.utime(path, ns=(1, 1)), *ask


def ask_kernel(user: User, ask: Callable[[], Any]) -> int:
    """The errno of a step, 0 when it is granted."""
    os.setgroups(list(user.groups))
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        ask()
    except OSError as refusal:
        return refusal.errno or -1
    finally:
        os.seteuid(0)
        os.setegid(0)
    return 0


def ask_space(space: Space, user: User, arguments: tuple[Any, ...], options: dict[str, Any]) -> int:
    """The same of a namespace in memory."""
    try:
        space.do(*arguments, user=user, **options)
    except MetaError as refusal:
        return refusal.code.errno
    return 0


def is_same_answer(what: str, kernel: int, ours: int) -> bool:
    """Where two paths are wrong, either may be told. Special files, and directories that are read, are opened by the kernel."""
    verb = what.partition(" ")[0]
    return (
        kernel == ours
        or (verb == "open" and ours in (errno.EOPNOTSUPP, errno.EISDIR))
        or (verb in ("link", "rename") and bool(kernel) and bool(ours))
    )


def explain_difference(space: Space) -> str:
    """How the two trees differ; "" when they do not."""
    todo = [""]
    while todo:
        above = todo.pop()
        names, ours = sorted(os.listdir(above or "/"), key=os.fsencode), space.names(above)
        if names != ours:
            return f"{above!r} has {names}, and not {ours}"
        for name in names:
            path = f"{above}/{name}" if above else name
            found, inode = os.lstat(path), space.stat(path)
            kernel = oct(found.st_mode), found.st_uid, found.st_gid, found.st_nlink, found.st_rdev
            said = oct(BITS[inode.type] | inode.mode), inode.uid, inode.gid, inode.nlink, inode.rdev
            if kernel != said:
                return f"{path!r} is {kernel}, and not {said}"
            if stat.S_ISDIR(found.st_mode):
                todo.append(path)
    return ""


def main(directory: Path, seed: int, steps: int) -> str:
    """Do so many steps in an empty directory; what is wrong, "" nothing."""
    directory.chmod(0o777)
    os.umask(0)
    os.chroot(directory)
    os.chdir("/")
    space, draw, granted = Space(), random.Random(seed), 0
    space.defaults = LayoutDefaults(space.defaults.table, inline_bytes=0)
    for path in ("a", "b", "a/b"):  # something to begin with
        os.mkdir(path, 0o777)
        space.dir(path, 0o777)
    for number in range(steps):
        user = draw.choice(USERS)
        what, ask, arguments, options = draw_step(draw)
        kernel = ask_kernel(user, ask)
        if what.startswith("link ") and kernel == errno.EPERM:
            continue  # /proc/sys/fs/protected_hardlinks
        ours = ask_space(space, user, arguments, options)
        if not is_same_answer(what, kernel, ours):
            said, name = errno.errorcode.get(kernel, "granted"), errno.errorcode.get(ours, "granted")
            return f"step {number} of user {user.uid}, {what}: the kernel says {said}, we say {name}"
        if not kernel and (problem := explain_difference(space)):
            return f"after step {number} of user {user.uid}, {what}: {problem}"
        granted += not kernel
    return "" if granted > steps // 10 else f"hardly a step was granted: {granted} of {steps}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])) or 0)
