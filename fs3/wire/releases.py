"""Releases of the software of processes, to and from protobuf."""

from __future__ import annotations

from fs3.base.limits import name_bytes_max
from fs3.base.version import FIRST_LEVEL, UNTOLD_RELEASE, Release
from fs3.wire.malformed import malformed
from fs3.wire.pb import mgmtd_pb2 as pb


def release_to_pb(release: Release) -> pb.Release:
    """What a process runs."""
    return pb.Release(software=release.software, level=release.level, oldest_level=release.oldest_level)


def release_from_pb(message: pb.Release, field: str) -> Release:
    """What a process runs; `UNTOLD_RELEASE` when it does not say it. Raises INVALID for what cannot be."""
    if not message.level:
        return UNTOLD_RELEASE
    if len(message.software.encode()) > name_bytes_max or not message.software.isprintable():
        raise malformed(f"{field}.software", f"not printable, or longer than {name_bytes_max} bytes")
    if not FIRST_LEVEL <= message.oldest_level <= message.level:
        raise malformed(f"{field}.oldest_level", f"{message.oldest_level}, must be {FIRST_LEVEL} to {message.level}")
    return Release(message.software, message.level, message.oldest_level)
