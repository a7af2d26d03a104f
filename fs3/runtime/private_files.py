"""Files and directories for their owner alone: made so from the first moment, and looked at before they are believed.

A directory that another user has made, or may change, can lead anywhere: names in it are exchanged between a look and a use.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fs3.base.errors import error
from fs3.base.status import Code

PRIVATE_UMASK = 0o077
"""Of service processes: what they make is for their owner alone, whatever the terminal says they were started from."""


def make_private_directory(path: Path) -> None:
    """Make a directory for its owner alone, and those above it that are missing; one that is there is looked at.

    FS3Error ACCESS, as `check_own_directory`, DISK when it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as why:
        raise error(Code.DISK, f"the directory cannot be made: {why.strerror}", str(path)) from why
    check_own_directory(path)


def check_own_directory(path: Path) -> None:
    """FS3Error ACCESS when a directory belongs to another user than this one and root, when others may change what is in it (in
    a sticky one, as /tmp, they may not), or when it is a link. NOT_FOUND when it is not there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        raise error(Code.NOT_FOUND, "there is no such directory", str(path)) from None
    except OSError as why:
        raise error(Code.ACCESS, f"the directory cannot be looked at: {why.strerror}", str(path)) from None
    if stat.S_ISLNK(status.st_mode):
        # The last part alone: a link that its owner alone can exchange.
        check_owner(status, str(path))
        check_own_directory(Path(os.path.realpath(path)))
        return
    if not stat.S_ISDIR(status.st_mode):
        raise error(Code.ACCESS, "this is no directory", str(path))
    check_owner(status, str(path))
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        mode = stat.S_IMODE(status.st_mode)
        told = f"other users may change what is in it (mode {mode:04o}): look at its files, then chmod go-w it"
        raise error(Code.ACCESS, told, str(path))


def check_owner(status: os.stat_result, path: str) -> None:
    """FS3Error ACCESS when a file belongs to another user than this one and root."""
    if status.st_uid not in (os.geteuid(), 0):
        raise error(Code.ACCESS, f"it belongs to another user (uid {status.st_uid}), and is not believed", path)


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file that is made for its owner alone when it is missing, and is no link. Raises OSError."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
