"""What callers of a KVCache hand in, checked before anything is sent.

Of a wrong type: TypeError. Of a value that cannot be: InvalidArgument, which is a ValueError. Either names the argument, and the
index of the key or buffer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from operator import index as as_index
from typing import Any

from fs3.api.byte_view import byte_view
from fs3.base.errors import FS3Error, error
from fs3.base.limits import namespace_name_bytes_max, page_bytes_max, replicas_max
from fs3.base.status import Code
from fs3.base.units import SECOND

Key = bytes | bytearray | memoryview | str
"""Text is its UTF-8."""

key_bytes_max = 4096

timeout_seconds_max = 24 * 3600
"""Of one call."""

_BYTES = (bytes, bytearray, memoryview)


def pack_keys(keys: Sequence[Key]) -> list[bytes]:
    """The bytes of each key."""
    if isinstance(keys, (str, *_BYTES)) or not isinstance(keys, Sequence):
        raise TypeError(f"keys: one {type(keys).__name__}; a sequence of keys is wanted")
    packed = []
    for index, key in enumerate(keys):
        if type(key) is bytes:
            data = key
        elif isinstance(key, str):
            data = _encode(key, f"key {index}")
        elif isinstance(key, _BYTES):
            data = bytes(key)
        else:
            raise TypeError(f"key {index} is neither bytes nor str but {type(key).__name__}")
        if not 1 <= len(data) <= key_bytes_max:
            raise _invalid(f"key {index} has {len(data)} bytes; 1 to {key_bytes_max} are allowed")
        packed.append(data)
    return packed


def page_views(buffers: Sequence[Any], keys: int, page_bytes: int, *, writable: bool) -> list[memoryview]:
    """The first `page_bytes` bytes of each buffer, of which there must be one for each of so many keys. What is read from must
    have exactly so many, what is written to at least."""
    if isinstance(buffers, (str, *_BYTES)) or not hasattr(buffers, "__len__") or not hasattr(buffers, "__iter__"):
        raise TypeError(f"buffers: one {type(buffers).__name__}; a sequence of buffers is wanted")
    if len(buffers) != keys:
        raise _invalid(f"{keys} keys and {len(buffers)} buffers")
    views = []
    for index, buffer in enumerate(buffers):
        try:
            view = byte_view(buffer)
        except (TypeError, ValueError) as wrong:
            raise _invalid(f"buffer {index} {wrong}") from None
        if writable and view.readonly:
            raise _invalid(f"buffer {index} is read-only")
        if len(view) < page_bytes or (not writable and len(view) != page_bytes):
            raise _invalid(f"buffer {index} has {len(view)} bytes; pages here have {page_bytes}")
        views.append(view[:page_bytes])
    return views


def check_name(namespace: Any) -> str:
    """The name of a namespace."""
    if not isinstance(namespace, str):
        raise TypeError(f"namespace is not str but {type(namespace).__name__}")
    length = len(_encode(namespace, "namespace"))
    if not 1 <= length <= namespace_name_bytes_max:
        raise _invalid(f"namespace {namespace!r} has {length} bytes; 1 to {namespace_name_bytes_max} are allowed")
    return namespace


def check_page_bytes(page_bytes: Any) -> int:
    """The size of a page, as an int."""
    return _integer(page_bytes, "page_bytes", 1, page_bytes_max)


def check_replicas(replicas: Any) -> int:
    """How many replicas; 0: the cluster's number."""
    return _integer(replicas, "replicas", 0, replicas_max)


def check_timeout(timeout: Any) -> int:
    """A timeout in seconds, in nanoseconds."""
    if not isinstance(timeout, Real) or isinstance(timeout, bool):
        raise TypeError(f"timeout is not a number of seconds but {type(timeout).__name__}")
    seconds = float(timeout)
    if math.isnan(seconds) or not 0 < seconds <= timeout_seconds_max:
        raise _invalid(f"timeout {timeout}: seconds, more than 0 and at most {timeout_seconds_max}")
    return max(1, round(seconds * SECOND))


def _integer(value: Any, argument: str, least: int, most: int) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = as_index(value)
    except TypeError:
        raise TypeError(f"{argument} is not an integer but {type(value).__name__}") from None
    if not least <= number <= most:
        raise _invalid(f"{argument} {number}: {least} to {most} are allowed")
    return number


def _encode(text: str, argument: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as wrong:
        raise _invalid(f"{argument} {text!r} has no UTF-8: {wrong.reason}") from None


def _invalid(message: str) -> FS3Error:
    return error(Code.INVALID, message)
