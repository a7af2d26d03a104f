"""What a program asks of a client, as operations of traces and of recordings of its IO: the table, and what is put around them.

While nothing is traced or recorded the methods are as they are written. `TracedMethods.install` puts something around each,
`remove` takes it away.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from importlib import import_module
from typing import Any, NamedTuple


class Measure(Enum):
    """Where the bytes of an operation can be read off."""

    NONE = ""
    RESULT = "result"
    ARGUMENT = "argument"
    BUFFERS = "buffers"


class ClientOperation(NamedTuple):
    """One method."""

    home: str
    """Its class: "fs3.api.client:Client"."""
    method: str
    name: str
    """In traces and recordings."""
    measure: Measure = Measure.NONE


_CLIENT, _CACHE = "fs3.api.client:Client", "fs3.api.kvcache.cache:KVCache"

OPERATIONS = (
    ClientOperation(_CLIENT, "open", "open"),
    ClientOperation(_CLIENT, "open_directly", "open"),
    ClientOperation(_CLIENT, "open_many", "open many"),
    ClientOperation(_CLIENT, "open_unnamed", "open"),
    ClientOperation(_CLIENT, "open_unnamed_many", "open many"),
    ClientOperation(_CLIENT, "close", "close"),
    ClientOperation(_CLIENT, "fsync", "fsync"),
    ClientOperation(_CLIENT, "publish_many", "publish many"),
    ClientOperation(_CLIENT, "put", "put"),
    ClientOperation(_CLIENT, "put_many", "put many"),
    ClientOperation(_CLIENT, "pread", "read", Measure.RESULT),
    ClientOperation(_CLIENT, "pread_into", "read", Measure.RESULT),
    ClientOperation(_CLIENT, "pread_directly", "read", Measure.ARGUMENT),
    ClientOperation(_CLIENT, "preadv_many", "read many", Measure.RESULT),
    ClientOperation(_CLIENT, "pwrite", "write", Measure.ARGUMENT),
    ClientOperation(_CLIENT, "pwritev_many", "write many", Measure.BUFFERS),
    ClientOperation(_CLIENT, "append", "append", Measure.ARGUMENT),
    ClientOperation(_CLIENT, "truncate", "truncate"),
    ClientOperation(_CLIENT, "stat", "stat"),
    ClientOperation(_CLIENT, "lstat", "stat"),
    ClientOperation(_CLIENT, "lstat_directly", "stat"),
    ClientOperation(_CLIENT, "batch_stat", "stat many"),
    ClientOperation(_CLIENT, "list_all", "list"),
    ClientOperation(_CLIENT, "mkdir", "mkdir"),
    ClientOperation(_CLIENT, "makedirs", "mkdir"),
    ClientOperation(_CLIENT, "unlink", "unlink"),
    ClientOperation(_CLIENT, "rmdir", "rmdir"),
    ClientOperation(_CLIENT, "rmtree", "rmtree"),
    ClientOperation(_CLIENT, "remove_many", "remove many"),
    ClientOperation(_CLIENT, "rename", "rename"),
    ClientOperation(_CACHE, "lookup", "KV lookup"),
    ClientOperation(_CACHE, "get_into", "KV get", Measure.BUFFERS),
    ClientOperation(_CACHE, "get_views", "KV get", Measure.BUFFERS),
    ClientOperation(_CACHE, "get_ranges_into", "KV get"),
    ClientOperation(_CACHE, "put_from", "KV put", Measure.BUFFERS),
    ClientOperation(_CACHE, "put_views", "KV put", Measure.BUFFERS),
    ClientOperation(_CACHE, "remove", "KV remove"),
)

ClientMethod = Callable[..., Any]
"""One of the table, as a function."""
Around = Callable[[ClientOperation, ClientMethod], ClientMethod]
"""Makes of a method the one that is put in its place."""


class TracedMethods:
    """Puts something around every method of the table."""

    def __init__(self) -> None:
        self._originals: list[tuple[type, str, ClientMethod | None]] = []
        """Class, name, and the method; None: it is of a class above."""

    @property
    def is_installed(self) -> bool:
        """Something is around them."""
        return bool(self._originals)

    def install(self, around: Around, around_direct: Around) -> None:
        """Put something around coroutine methods, and around those that block. Harmless when something is."""
        if self._originals:
            return
        for operation in OPERATIONS:
            kind = class_of(operation)
            original = getattr(kind, operation.method)
            is_own = operation.method in vars(kind)
            wrap = around if inspect.iscoroutinefunction(original) else around_direct
            self._originals.append((kind, operation.method, original if is_own else None))
            setattr(kind, operation.method, wrap(operation, original))

    def remove(self) -> None:
        """The methods are as they are written again. Harmless when they are."""
        originals, self._originals = self._originals, []
        for kind, name, original in originals:
            if original is None:
                delattr(kind, name)
            else:
                setattr(kind, name, original)


def class_of(operation: ClientOperation) -> type:
    """The class an operation is a method of."""
    module, _, name = operation.home.partition(":")
    found: type = getattr(import_module(module), name)
    return found


def path_of(arguments: tuple[Any, ...]) -> str:
    """What an operation is about, from what it is called with: a path, the first of several, or how many of something else."""
    subject = arguments[0] if arguments else None
    if not isinstance(subject, list | tuple):
        return _path_of(subject)
    first = _path_of(subject[0][0] if subject and isinstance(subject[0], tuple) else subject[0]) if subject else ""
    if not first or len(subject) == 1:
        return first or f"({len(subject)})"
    return f"{first} and {len(subject) - 1} more"


def _path_of(subject: Any) -> str:
    path = subject if isinstance(subject, str) else getattr(subject, "path", None)
    return path if isinstance(path, str) else ""


def bytes_of(measure: Measure, arguments: tuple[Any, ...], result: Any) -> int:
    """How many bytes an operation has moved; -1: it is not known."""
    if measure is Measure.RESULT:
        return _count(result)
    if measure is Measure.ARGUMENT and len(arguments) > 1:
        return _count(arguments[1])
    if measure is Measure.BUFFERS and arguments:
        buffers = arguments[1] if len(arguments) > 1 else [entry[-1] for entry in arguments[0] if isinstance(entry, tuple)]
        counts = [_count(buffer) for buffer in buffers] if isinstance(buffers, list | tuple) else [-1]
        return -1 if -1 in counts else sum(counts)
    return -1


def _count(value: Any) -> int:
    if isinstance(value, bool):
        return -1
    if isinstance(value, int):
        return value
    if isinstance(value, bytes | bytearray):
        return len(value)
    if isinstance(value, list | tuple):
        counts = [_count(each) for each in value]
        return -1 if -1 in counts else sum(counts)
    try:
        return memoryview(value).nbytes
    except TypeError:
        return -1
