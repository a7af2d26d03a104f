"""Making and ending mounts: mount(2) where this process may, and fusermount3 where it may not."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import Final

from fs3.drivers.fuse.records import MountOptions

DEVICE: Final = "/dev/fuse"
HELPER: Final = "fusermount3"

_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MNT_FORCE: Final = 1
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8

_libc = ctypes.CDLL(None, use_errno=True)


def mount(directory: str, options: MountOptions) -> int:
    """Mount on a directory: the descriptor to answer requests on. OSError says what is missing, and names it."""
    path = check_directory(directory)
    if not os.path.exists(DEVICE):
        raise OSError(errno.ENODEV, "no FUSE here: its kernel module is not loaded, or the container hides it", DEVICE)
    if is_privileged():
        return _mount_directly(path, options)
    return _mount_by_helper(path, options)


def check_directory(directory: str) -> str:
    """The absolute path of a place to mount on. OSError when it is no directory, or a mount is there already."""
    path = os.path.realpath(directory)
    is_taken = any(point == path for point, kind, _ in list_mounts() if kind.startswith("fuse"))
    try:
        if is_taken:
            os.statvfs(path)  # which is never answered from memory
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as wrong:
        if is_dead(wrong):
            raise OSError(
                errno.ENOTCONN, "a mount whose process has died is there; fs3 umount takes it away", directory
            ) from wrong
        raise
    if not is_directory:
        raise OSError(errno.ENOTDIR, "is not a directory", directory)
    if is_taken:
        raise OSError(errno.EBUSY, "something is mounted there already", directory)
    return path


def is_dead(wrong: OSError) -> bool:
    """A call on a mount failed since the process that served it has died, before the call or while it waited."""
    return wrong.errno in (errno.ENOTCONN, errno.ECONNABORTED)


def is_privileged() -> bool:
    """This process may call mount(2): it has CAP_SYS_ADMIN."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return os.geteuid() == 0
    line = next((line for line in text.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(line.split()[1], 16) >> 21 & 1)


def unmount(directory: str, *, lazily: bool = False, forcibly: bool = False) -> None:
    """End a mount. `lazily`: its name goes at once, and the mount when its last user does; so it works whatever happens there.
    `forcibly`: the same, and all calls on it fail at once, those that wait for an answer as well. OSError EBUSY while it is in
    use, EINVAL when none is there."""
    path = _absolute(directory)
    lazily = lazily or forcibly
    if is_privileged():
        flags = (_MNT_DETACH if lazily else 0) | (_MNT_FORCE if forcibly else 0) | _UMOUNT_NOFOLLOW
        if _libc.umount2(os.fsencode(path), flags):
            number = ctypes.get_errno()
            why = "is not mounted" if number == errno.EINVAL else os.strerror(number)
            raise OSError(number, why, directory)
        return
    if forcibly:
        _abort(path, directory)
    helper = shutil.which(HELPER)
    if helper is None:
        raise OSError(errno.EPERM, f"only root unmounts without {HELPER}, which is not installed (package fuse3)", directory)
    arguments = [helper, "-u", "-q", *(["-z"] if lazily else []), "--", path]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or "it is in use, or not yours"
        raise OSError(errno.EBUSY if is_mounted(directory) else errno.EINVAL, said, directory)


def _abort(path: str, directory: str) -> None:
    """End the connection of a mount of this user. EINVAL when none is there, EPERM where only root may."""
    number = _connection(path)
    if number is None:
        raise OSError(errno.EINVAL, "is not mounted", directory)
    try:
        Path(f"/sys/fs/fuse/connections/{number}/abort").write_text("1", encoding="ascii")
    except OSError as wrong:
        raise OSError(errno.EPERM, f"only root ends it by force: {wrong}", directory) from wrong


def _connection(path: str) -> int | None:
    """The number of the newest mount by FUSE at a path, which is that of its device; found without asking it anything."""
    found = None
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, behind = line.partition(" - ")
        fields = before.split(" ")
        if _unescape(fields[4]) == path and behind.startswith("fuse"):
            found = int(fields[2].partition(":")[2])
    return found


def is_mounted(directory: str) -> bool:
    """A mount by FUSE is at this directory, whether or not its process lives."""
    path = _absolute(directory)
    return any(point == path and kind.startswith("fuse") for point, kind, _ in list_mounts())


def list_mounts() -> list[tuple[str, str, str]]:
    """(directory, type, source) of all mounts that this process sees."""
    found = []
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        source, point, kind, *_ = line.split(" ")
        found.append((_unescape(point), kind, _unescape(source)))
    return found


def _unescape(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text


def _absolute(directory: str) -> str:
    """The path without looking at the last component: a mount whose process has died cannot be looked at."""
    parent, name = os.path.split(os.path.abspath(directory))
    return os.path.join(os.path.realpath(parent), name)


def _mount_directly(path: str, options: MountOptions) -> int:
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        data = [f"fd={fd}", f"rootmode={options.root_mode:o}", f"user_id={os.geteuid()}", f"group_id={os.getegid()}"]
        data += [f"max_read={options.max_read_bytes}", "default_permissions"]
        if options.allow_other:
            data.append("allow_other")
        flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if options.read_only else 0)
        kind = f"fuse.{options.subtype}".encode()
        if _libc.mount(os.fsencode(options.source), os.fsencode(path), kind, flags, ",".join(data).encode()):
            number = ctypes.get_errno()
            raise OSError(number, f"mount(2) refused: {os.strerror(number)}", path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _mount_by_helper(path: str, options: MountOptions) -> int:
    helper = shutil.which(HELPER)
    if helper is None:
        raise OSError(errno.EPERM, f"only root mounts without {HELPER}, which is not installed (package fuse3)", path)
    wanted = [f"fsname={options.source}", f"subtype={options.subtype}", "default_permissions", "nosuid", "nodev"]
    wanted.append(f"max_read={options.max_read_bytes}")
    if options.allow_other:
        wanted.append("allow_other")
    if options.read_only:
        wanted.append("ro")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            running = subprocess.Popen(
                [helper, "-o", ",".join(option.replace(",", "\\,") for option in wanted), "--", path],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
                text=True,
            )
        fd = _receive_fd(ours)
    _, said = running.communicate()
    if fd is None:
        why = said.strip() or f"{HELPER} ended with status {running.returncode}"
        raise OSError(errno.EPERM, why, path)
    return fd


def _receive_fd(end: socket.socket) -> int | None:
    """The descriptor that comes through a socket; None: the other end was closed without one."""
    fds = array.array("i")
    _, ancillary, _, _ = end.recvmsg(1, socket.CMSG_SPACE(fds.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: fds.itemsize])
            os.set_inheritable(fds[0], False)
            return fds[0]
    return None
