"""Modes of what requests create, to and from protobuf.

Services that know nothing of default ACLs go by the modes alone, so the umask is off them when they travel.
"""

from __future__ import annotations

from typing import Any

from fs3.model.inode import MODE_BITS
from fs3.model.requests import Close, Mkdir, Mknod, Open, Put, Rename
from fs3.wire.malformed import malformed


def fill_mode(message: Any, request: Open | Put | Mkdir | Mknod) -> None:
    """Write the mode of what is created."""
    message.mode = request.mode & ~request.umask
    message.mode_masked = request.mode & request.umask


def fill_parents_mode(message: Any, request: Open | Put | Close | Mkdir | Rename) -> None:
    """Write the mode of missing directories above it."""
    if request.parents_mode is not None:
        message.parents_mode = request.parents_mode & ~request.umask
        message.parents_mode_masked = request.parents_mode & request.umask


def mode_of_new(message: Any) -> int:
    """The mode of what is created, before the umask."""
    return mode_from_pb(message.mode | message.mode_masked)


def parents_mode_from_pb(message: Any) -> int | None:
    """The mode of missing directories above it, before the umask; None where none are made."""
    return mode_from_pb(message.parents_mode | message.parents_mode_masked) if message.HasField("parents_mode") else None


def mode_from_pb(mode: int) -> int:
    """Permission bits. Raises InvalidArgument for more than those."""
    if mode > MODE_BITS:
        raise malformed("mode", f"{mode:#o} has more than the permission bits {MODE_BITS:#o}")
    return mode
