"""Attributes that are set while the bytes of a small file wait to be stored, as `tar` does with each file: stored with the bytes,
by one request and one commit.

Others see them once the file is closed, synced, or looked at on this mount: whatever asks for it publishes it.
"""

from __future__ import annotations

from msgspec.structs import replace

from fs3.model.inode import Inode
from fs3.model.requests import TIME_NOW, SetAttributes

_PERMISSIONS = 0o777
_NAMES = ("mode", "uid", "gid", "atime_ns", "mtime_ns")


class DeferredAttributes:
    """Of one open inode."""

    def __init__(self) -> None:
        self.wanted: SetAttributes | None = None
        """What is to be asked for; None: nothing."""

    def add(self, inode: Inode, wanted: SetAttributes) -> Inode | None:
        """These may wait. The inode as it will be but for the times that the services set; None: they have to be set now, since
        other attributes follow from them: set-user-id bits, ACLs, or a clock that only the services have."""
        has_more = inode.xattr_bytes or (inode.mode | (wanted.mode or 0)) & ~_PERMISSIONS
        if has_more or TIME_NOW in (wanted.atime_ns, wanted.mtime_ns):
            return None
        self.wanted = replace(self.wanted, **_set_in(wanted)) if self.wanted is not None else wanted
        return replace(inode, **_set_in(self.wanted))

    def on_written(self) -> None:
        """Bytes were written since, which is a newer time of change than one that was set."""
        if self.wanted is not None and self.wanted.mtime_ns is not None:
            left = replace(self.wanted, mtime_ns=None)
            self.wanted = left if _set_in(left) else None

    def clear(self) -> None:
        """They are set, or given up."""
        self.wanted = None


def _set_in(wanted: SetAttributes) -> dict[str, int]:
    return {name: value for name in _NAMES if (value := getattr(wanted, name)) is not None}
