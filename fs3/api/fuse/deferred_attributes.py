"""Attributes that are set while the bytes of a small file wait to be stored, as `tar` does with each file: stored with the bytes,
by one request and one commit.

Others see them once the file is closed, synced, or looked at on this mount: whatever asks for it publishes it. They outlive this
process as the bytes do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import TIME_NOW, SetAttributes

_PERMISSIONS = 0o777
_NAMES = ("mode", "uid", "gid", "atime_ns", "mtime_ns")
_WORD: Final = 1 << 64

Note = Callable[[SetAttributes | None], bool]
"""Writes down for the next process what is to be asked for; False: there is no room."""


class DeferredAttributes:
    """Of one open inode."""

    def __init__(self, note: Note = lambda wanted: True) -> None:
        self._note = note
        self.wanted: SetAttributes | None = None
        """What is to be asked for; None: nothing."""

    def add(self, inode: Inode, wanted: SetAttributes) -> Inode | None:
        """These may wait. The inode as it will be but for the times that the services set; None: they have to be set now, since
        other attributes follow from them: set-user-id bits, ACLs, or a clock that only the services have."""
        has_more = inode.xattr_bytes or (inode.mode | (wanted.mode or 0)) & ~_PERMISSIONS
        if has_more or TIME_NOW in (wanted.atime_ns, wanted.mtime_ns):
            return None
        wanted = replace(self.wanted, **_set_in(wanted)) if self.wanted is not None else wanted
        if not self._note(wanted):
            return None
        self.wanted = wanted
        return replace(inode, **_set_in(wanted))

    def on_written(self) -> None:
        """Bytes were written since, which is a newer time of change than one that was set."""
        if self.wanted is not None and self.wanted.mtime_ns is not None:
            left = replace(self.wanted, mtime_ns=None)
            self.wanted = left if _set_in(left) else None
            self._note(self.wanted)

    def inherit(self, wanted: SetAttributes) -> None:
        """An earlier process has written them down."""
        self.wanted = wanted

    def clear(self) -> None:
        """They are set, or given up."""
        if self.wanted is not None:
            self.wanted = None
            self._note(None)


def _set_in(wanted: SetAttributes) -> dict[str, int]:
    return {name: value for name in _NAMES if (value := getattr(wanted, name)) is not None}


def to_numbers(wanted: SetAttributes) -> tuple[int, ...]:
    """Attributes as six words without a sign: which of them there are, and their values; see `from_numbers`."""
    values = [getattr(wanted, name) for name in _NAMES]
    there = sum(1 << index for index, value in enumerate(values) if value is not None)
    return there, *((value or 0) % _WORD for value in values)


def from_numbers(inode: InodeId, numbers: Sequence[int]) -> SetAttributes:
    """Of an inode. Times before 1970 are negative."""
    there, *words = numbers
    values = (word - _WORD if word >= _WORD // 2 else word for word in words)
    mode, uid, gid, atime_ns, mtime_ns = (
        value if there >> index & 1 else None for index, value in zip(range(len(_NAMES)), values, strict=False)
    )
    return SetAttributes(PathRef(inode, ""), False, mode, uid, gid, atime_ns, mtime_ns)
