"""Memory that bytes arrive in, and the memory of what callers hand in.

Fresh memory is dear: the system zeroes and maps every page of it at first touch, which takes longer than receiving into it. So
blocks are used again, and bytes that are handed out are received into the very object.
"""

from __future__ import annotations

import io
import sys
from pickle import PickleBuffer
from typing import Any

from fs3.base.errors import InvalidType, error
from fs3.base.status import Code
from fs3.base.units import KIB, MIB

spare_buffer_bytes_max = 64 * MIB
"""Blocks of memory a client process keeps for the next transfer."""

_COPY_BYTES = 64 * KIB


class ReadBuffer:
    """Room for so many bytes, of which `take` makes a `bytes`; large ones without a copy."""

    __slots__ = ("_buffer", "_stream", "view")

    def __init__(self, length: int) -> None:
        self._stream: io.BytesIO | None = None
        self._buffer: bytearray | None = None
        if length <= _COPY_BYTES:
            self._buffer = bytearray(length)
            self.view = memoryview(self._buffer)
            """Where the bytes go."""
        else:
            # CPython's BytesIO hands out its inner buffer as the value, unless a view of it is left.
            self._stream = io.BytesIO()
            self._stream.seek(length - 1)
            self._stream.write(b"\0")
            self.view = self._stream.getbuffer()

    def take(self, count: int) -> bytes:
        """The first `count` bytes. The view is gone afterwards."""
        if self._stream is None or count < len(self.view):
            # Parts of the view may be held still, and a stream with parts that are held cannot be made shorter.
            return bytes(self.view[:count])
        self.view.release()
        return self._stream.getvalue()


class BufferPool:
    """Blocks of memory to use again, of any sizes, `limit` bytes of them at most. May be used from any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._spare: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """A block of exactly this size, with anything in it."""
        spare = self._spare
        for _ in range(len(spare)):
            try:
                block = spare.pop()
            except IndexError:  # another thread was faster
                break
            if len(block) == size:
                return block
            spare.insert(0, block)
        return bytearray(size)

    def give(self, block: bytearray) -> None:
        """A block that the caller does not look at any more."""
        spare = self._spare
        while spare and sum(map(len, spare)) + len(block) > self._limit:
            spare.pop(0)
        if len(block) <= self._limit:
            spare.append(block)


buffer_pool = BufferPool(spare_buffer_bytes_max)
"""The one of this process."""


def source_of(data: Any, path: str | None, argument: str = "data") -> memoryview:
    """The bytes to write, as a flat view. Errors as `flat_view`."""
    return flat_view(data, path, argument)


def target_of(buffer: Any, path: str | None, argument: str = "buffer") -> memoryview:
    """The memory to read into, as a flat view. Errors as `flat_view`, and InvalidType when it cannot be written to."""
    view = flat_view(buffer, path, argument)
    if view.readonly:
        raise InvalidType(f"{argument} is read-only ({type(buffer).__name__})", path)
    return view


def flat_view(thing: Any, path: str | None, argument: str) -> memoryview:
    """The memory of an object as one row of bytes, without a copy; `argument` and `path` are for errors.

    Takes whatever has the buffer protocol, of any format and shape; numpy arrays also of types that protocol has no letter for
    (datetime64, bfloat16, float8); and torch tensors on the CPU. InvalidType for other objects, text among them, and for
    arrays of Python objects, whose memory is addresses; InvalidArgument when the bytes do not follow each other in C order.
    """
    if type(thing) is bytes:
        return memoryview(thing)
    if (array := _array_of(thing, path, argument)) is not None:
        thing = array
    try:
        view = memoryview(thing)
    except (TypeError, ValueError) as wrong:
        raise InvalidType(f"{argument} is not bytes-like but {type(thing).__name__}", path) from wrong
    if view.format == "B" and view.ndim == 1 and view.contiguous:
        return view
    if view.format == "O":
        raise InvalidType(f"{argument} holds Python objects, not bytes ({type(thing).__name__})", path)
    if not view.c_contiguous:
        raise error(Code.INVALID, f"{argument} is not contiguous", path)
    return PickleBuffer(view).raw()  # `cast` refuses many formats


def _array_of(thing: Any, path: str | None, argument: str) -> Any:
    """A torch tensor or a numpy array as a numpy array of bytes; None for all else."""
    if (torch := _library_of(thing, "torch", "Tensor")) is not None:
        return _bytes_of_tensor(thing, torch, path, argument)
    if (numpy := _library_of(thing, "numpy", "ndarray")) is None:
        return None
    if thing.dtype.hasobject:
        raise InvalidType(f"{argument} holds Python objects, not bytes ({thing.dtype} array)", path)
    if not thing.flags.c_contiguous:
        raise error(Code.INVALID, f"{argument} is not contiguous", path)
    return numpy.asarray(thing).reshape(-1).view(numpy.uint8)


def _library_of(thing: Any, library: str, kind: str) -> Any:
    """The library whose class `kind` an object is of. Who has such an object has imported it, so nothing is imported here."""
    module = sys.modules.get(library)
    return module if module is not None and isinstance(thing, getattr(module, kind, ())) else None


def _bytes_of_tensor(tensor: Any, torch: Any, path: str | None, argument: str) -> Any:
    if tensor.device.type != "cpu":
        raise InvalidType(f"{argument} is a tensor on {tensor.device}; only memory of the CPU is read and written", path)
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
        raise InvalidType(f"{argument} is a tensor whose values are not what its memory holds ({tensor.layout})", path)
    if not tensor.is_contiguous():
        raise error(Code.INVALID, f"{argument} is not contiguous", path)
    try:
        return tensor.detach().reshape(-1).view(torch.uint8).numpy()
    except (RuntimeError, TypeError) as wrong:  # torch without numpy, or a type of tensor without memory of its own
        raise InvalidType(f"{argument} is a tensor without bytes to be had: {wrong}", path) from wrong
