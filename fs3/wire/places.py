"""The payload of a PLACES frame: where the bytes of a reply lie, in files of the host that both ends are on.

    0       4          8
    | count | reserved | count × (file number, length, offset) | inline bytes ...

Little-endian; u32, but for the u64 offset. File 0 is the inline bytes of the frame itself, taken in order, and its offset is 0.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from fs3.base.limits import frame_payload_bytes_max
from fs3.wire.frames import FrameError

INLINE = 0
"""Number of the file that is the frame's own rest."""
_COUNT = struct.Struct("<II")
_PLACE = struct.Struct("<IIQ")


class Place(NamedTuple):
    """A range of a file."""

    file: int
    """Its number on this connection, or `INLINE`."""
    length: int
    """In bytes, not 0."""
    offset: int


def pack_places(places: Sequence[Place]) -> bytes:
    """The list, which the inline bytes follow."""
    return _COUNT.pack(len(places), 0) + b"".join([_PLACE.pack(*place) for place in places])


def unpack_places(payload: memoryview) -> tuple[list[Place], memoryview]:
    """The list, and the inline bytes. Raises FrameError when it is cut short, when an element is empty, when the inline bytes are
    not exactly what the list takes of them, or when there is more in all than a payload may have."""
    if len(payload) < _COUNT.size:
        raise FrameError(f"a list of places of {len(payload)} bytes")
    count, _ = _COUNT.unpack_from(payload)
    end = _COUNT.size + count * _PLACE.size
    if end > len(payload):
        raise FrameError(f"{count} places in a list of {len(payload)} bytes")
    places = [Place(*fields) for fields in _PLACE.iter_unpack(payload[_COUNT.size : end])]
    inline = payload[end:]
    if sum([place.length for place in places if place.file == INLINE]) != len(inline):
        raise FrameError(f"{len(inline)} inline bytes are not what the places take of them")
    lengths = [place.length for place in places]
    if 0 in lengths or sum(lengths) > frame_payload_bytes_max:
        raise FrameError(f"{count} places of {sum(lengths)} bytes in all, or an empty one")
    return places, inline
