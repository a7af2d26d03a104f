"""What callers of a KVCache hand in, checked before anything is sent.

Of a wrong type: TypeError. Of a value that cannot be, and of a buffer that exports no bytes: InvalidArgument, which is a
ValueError. Either names the argument, and the index of the key or buffer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableSequence, Sequence
from numbers import Real
from operator import index as as_index
from typing import Any

from fs3.api.byte_view import byte_view
from fs3.api.io.device_memory import DeviceMemory, Spot, device_memory, is_on_device
from fs3.api.io.dma_buf import MappedMemory
from fs3.base.errors import FS3Error, error
from fs3.base.limits import (
    cache_bytes_max,
    namespace_name_bytes_max,
    owner_bytes_max,
    page_bytes_max,
    page_key_bytes_max,
    page_lease_ms_max,
    pin_ms_max,
    replicas_max,
    tenant_bytes_max,
    ttl_ms_max,
)
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.model.cluster import NamespaceSettings

Key = bytes | bytearray | memoryview | str
"""Text is its UTF-8."""

pieces_max = 512
"""Buffers of one page; one system call takes at most 1024 (IOV_MAX)."""

timeout_seconds_max = 24 * 3600
"""Of one call."""

_BYTES = (bytes, bytearray, memoryview)


def pack_keys(keys: Sequence[Key]) -> list[bytes]:
    """The bytes of each key."""
    if isinstance(keys, (str, *_BYTES)) or not isinstance(keys, Sequence):
        raise TypeError(f"keys: one {type(keys).__name__}; a sequence of keys is wanted")
    packed = []
    for index, key in enumerate(keys):
        data = key if type(key) is bytes else _bytes_of(key, f"key {index}")
        if not 1 <= len(data) <= page_key_bytes_max:
            raise _invalid(f"key {index} has {len(data)} bytes; 1 to {page_key_bytes_max} are allowed")
        packed.append(data)
    return packed


def pack_prefix(prefix: Key) -> bytes:
    """The bytes of a prefix of keys, of which there may be none."""
    data = _bytes_of(prefix, "prefix")
    if len(data) > page_key_bytes_max:
        raise _invalid(f"prefix has {len(data)} bytes; at most {page_key_bytes_max} are allowed")
    return data


def _bytes_of(key: Key, argument: str) -> bytes:
    if isinstance(key, str):
        return _encode(key, argument)
    if isinstance(key, _BYTES):
        return bytes(key)
    raise TypeError(f"{argument} is neither bytes nor str but {type(key).__name__}")


def check_limit(limit: Any, most: int) -> int:
    """How many pages at most."""
    return _integer(limit, "limit", 1, most)


Views = tuple[memoryview, ...]
"""The bytes of one page or of a part of it, in order."""

Spots = tuple[Spot, ...]
"""The same, some of them in device memory."""


def page_buffers(buffers: Sequence[Any], keys: int, page_bytes: int, *, writable: bool) -> list[Spots]:
    """The bytes of each page's buffer, of which there must be one for each of so many keys. What is read from must have 1 to
    `page_bytes` bytes. What is written to must have one or more, and is cut at `page_bytes` unless it is a list of buffers."""
    _check_count(buffers, "buffers", keys)
    return [_page_views(buffer, f"buffer {index}", page_bytes, writable) for index, buffer in enumerate(buffers)]


def check_lengths(lengths: Any, keys: int, page_bytes: int) -> MutableSequence[int] | None:
    """Where the length of each key's page goes, up to `page_bytes`, when that is wanted. Lists, arrays and arrays of numpy do."""
    if lengths is None:
        return None
    if (
        isinstance(lengths, (str, *_BYTES, tuple, Mapping))
        or not hasattr(lengths, "__setitem__")
        or not hasattr(lengths, "__len__")
    ):
        raise TypeError(f"lengths: one {type(lengths).__name__}; a list or array of integers is wanted")
    if len(lengths) != keys:
        raise _invalid(f"{keys} keys and {len(lengths)} lengths")
    try:
        for value in (page_bytes, 0)[: 2 * keys]:
            lengths[0] = value
            if lengths[0] != value:
                raise ValueError(f"it becomes {lengths[0]}")
    except (TypeError, ValueError, OverflowError) as wrong:
        raise _invalid(f"lengths: cannot have {page_bytes}: {wrong}") from None
    found: MutableSequence[int] = lengths
    return found


def range_buffers(
    ranges: Sequence[tuple[int, int]], buffers: Sequence[Any], keys: int, page_bytes: int
) -> list[tuple[int, Spots]]:
    """Per key, where in the page a range begins and the bytes that it goes to, of a range and a buffer each."""
    _check_count(ranges, "ranges", keys)
    _check_count(buffers, "buffers", keys)
    parts = []
    for index, (each, buffer) in enumerate(zip(ranges, buffers, strict=True)):
        if not isinstance(each, Sequence) or len(each) != 2:
            raise TypeError(f"range {index} is not (offset, length) but {each!r}")
        offset = _integer(each[0], f"offset of range {index}", 0, page_bytes - 1)
        length = _integer(each[1], f"length of range {index}", 1, page_bytes - offset)
        parts.append((offset, _range_views(buffer, f"buffer {index}", length)))
    return parts


def _check_count(things: Sequence[Any], argument: str, keys: int) -> None:
    if isinstance(things, (str, *_BYTES)) or not hasattr(things, "__len__") or not hasattr(things, "__iter__"):
        raise TypeError(f"{argument}: one {type(things).__name__}; a sequence of {argument} is wanted")
    if len(things) != keys:
        raise _invalid(f"{keys} keys and {len(things)} {argument}")


def _page_views(buffer: Any, argument: str, page_bytes: int, writable: bool) -> Spots:
    """All bytes of a page's buffer."""
    views, found = _pieces(buffer, argument, writable)
    if not found or (found > page_bytes and (not writable or isinstance(buffer, list | tuple))):
        raise _invalid(f"{argument} has {_describe(buffer, found)}; pages here have 1 to {page_bytes}")
    return views if found <= page_bytes else (views[0][:page_bytes],)


def _range_views(buffer: Any, argument: str, size: int) -> Spots:
    """So many bytes of a range's buffer, or of several that are taken as if they were one."""
    views, found = _pieces(buffer, argument, writable=True)
    if found < size or (found > size and isinstance(buffer, list | tuple)):
        raise _invalid(f"{argument} has {_describe(buffer, found)}; its range has {size}")
    return views if found == size else (views[0][:size],)


def _pieces(buffer: Any, argument: str, writable: bool) -> tuple[Spots, int]:
    """The bytes of a buffer, or of several that are taken as if they were one, and how many those are."""
    if not isinstance(buffer, list | tuple):
        view = _view(buffer, argument, writable)
        return (view,), len(view)
    if len(buffer) > pieces_max:
        raise _invalid(f"{argument} has {len(buffer)} pieces; at most {pieces_max} are allowed")
    views = tuple(_view(piece, f"{argument}, piece {at},", writable) for at, piece in enumerate(buffer))
    return tuple(view for view in views if len(view)), sum(map(len, views))


def _describe(buffer: Any, found: int) -> str:
    return f"{found} bytes in {len(buffer)} pieces" if isinstance(buffer, list | tuple) else f"{found} bytes"


def _view(buffer: Any, argument: str, writable: bool) -> Spot:
    try:
        view = _spot_of(buffer)
    except (TypeError, ValueError) as wrong:
        raise _invalid(f"{argument} {wrong}") from None
    if writable and view.readonly:
        raise _invalid(f"{argument} is read-only")
    return view


def _spot_of(buffer: Any) -> Spot:
    try:
        return byte_view(buffer)
    except (TypeError, ValueError):
        if isinstance(buffer, DeviceMemory | MappedMemory):  # of arguments that were checked where a job was submitted
            return buffer
        memory = device_memory(buffer) if is_on_device(buffer) else None
        if memory is None:
            raise
        return memory


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


def check_settings(
    *,
    budget_bytes: Any = None,
    ttl: Any = None,
    pin_bytes: Any = None,
    owner: Any = None,
    tenant: Any = None,
    page_bytes: int = 1,
) -> NamespaceSettings:
    """The settings of a namespace that are named: those that are not None. `page_bytes`: of its pages, as far as that is known.

    `budget_bytes`: one page or more; `math.inf`: none. `ttl`: seconds, more than 0; `math.inf`: none. `pin_bytes`: at most the
    budget; 0: none. `owner`, `tenant`: printable text; "": none.
    """
    budget = None if budget_bytes is None else _budget(budget_bytes, page_bytes)
    return NamespaceSettings(
        budget_bytes=budget,
        ttl_ms=None if ttl is None else _ttl_ms(ttl),
        pin_bytes=None if pin_bytes is None else _integer(pin_bytes, "pin_bytes", 0, budget or cache_bytes_max),
        owner=None if owner is None else _text(owner, "owner", owner_bytes_max),
        tenant=None if tenant is None else _text(tenant, "tenant", tenant_bytes_max),
    )


def _budget(budget_bytes: Any, page_bytes: int) -> int:
    """0: none."""
    if isinstance(budget_bytes, float):
        if budget_bytes == math.inf:
            return 0
        if not budget_bytes.is_integer():
            raise _invalid(f"budget_bytes {budget_bytes}: a whole number of bytes, or math.inf for none")
        budget_bytes = int(budget_bytes)
    return _integer(budget_bytes, "budget_bytes", page_bytes, cache_bytes_max)


def _ttl_ms(ttl: Any) -> int:
    """0: none."""
    if not isinstance(ttl, Real) or isinstance(ttl, bool):
        raise TypeError(f"ttl is not a number of seconds but {type(ttl).__name__}")
    seconds = float(ttl)
    if seconds == math.inf:
        return 0
    most = ttl_ms_max * MILLISECOND // SECOND
    if math.isnan(seconds) or not 0 < seconds <= most:
        raise _invalid(f"ttl {ttl}: seconds, more than 0 and at most {most}, or math.inf for none")
    return max(1, round(seconds * SECOND / MILLISECOND))


def _text(value: Any, name: str, bytes_max: int) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is not str but {type(value).__name__}")
    length = len(_encode(value, name))
    if length > bytes_max:
        raise _invalid(f"{name} has {length} bytes; at most {bytes_max} are allowed")
    if not value.isprintable():
        raise _invalid(f"{name} {value!r} has characters that cannot be printed")
    return value


def check_lease_ms(lease_ms: Any) -> int:
    """For how many milliseconds a lookup leases what it finds."""
    return _integer(lease_ms, "lease_ms", 1, page_lease_ms_max)


def check_pin_ttl(ttl: Any) -> int:
    """How many seconds a pin lasts, in milliseconds."""
    if not isinstance(ttl, Real) or isinstance(ttl, bool):
        raise TypeError(f"ttl is not a number of seconds but {type(ttl).__name__}")
    seconds = float(ttl)
    if math.isnan(seconds) or not 0 < seconds * 1000 <= pin_ms_max:
        raise _invalid(f"ttl {ttl}: seconds, more than 0 and at most {pin_ms_max // 1000}")
    return max(1, round(seconds * 1000))


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
