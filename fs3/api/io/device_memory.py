"""Memory of an accelerator that a caller hands over: where it is, and what copies bytes between it and host memory.

What says where it is, is the CUDA array interface (versions 2 and 3), which CuPy, Numba, PyTorch and others offer, or the
descriptor of a dma-buf (`fs3.api.io.dma_buf`), which is mapped. fs3 reads from and writes to memory of this process alone;
`fs3.api.io.device_staging` does so for device memory, piece by piece.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Protocol, TypeGuard

from fs3.api.io.dma_buf import DmaBuf, MappedMemory
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code

_TYPES = re.compile(r"[<>|=][biufcmMSV]([1-9][0-9]*)")
"""Type strings of elements whose size in bytes they say."""

_LEGACY_STREAM = 1
_TO_DEVICE, _TO_HOST = 1, 2
_RUNTIMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")


class DeviceMemory:
    """A row of bytes in device memory. It has a length and beginnings (`memory[:n]`) as a flat memoryview has."""

    __slots__ = ("_nbytes", "_owner", "address", "readonly", "stream")

    def __init__(self, owner: Any, address: int, nbytes: int, *, readonly: bool = False, stream: int | None = None) -> None:
        """`owner` is kept, and with it the memory. `stream`: the CUDA stream whose work on the memory is waited for."""
        self._owner = owner
        self._nbytes = nbytes
        self.address = address
        self.readonly = readonly
        self.stream = stream

    def __len__(self) -> int:
        return self._nbytes

    def __getitem__(self, part: slice) -> DeviceMemory:
        start, stop, step = part.indices(self._nbytes)
        assert step == 1
        return DeviceMemory(self._owner, self.address + start, max(0, stop - start), readonly=self.readonly, stream=self.stream)


Spot = memoryview | DeviceMemory | MappedMemory
"""Bytes in host or in device memory."""


def device_memory(thing: Any) -> DeviceMemory | MappedMemory | None:
    """The bytes of a `DmaBuf`, or of an object with a CUDA array interface, in order; None when it is neither.

    Raises TypeError and ValueError as `byte_view`, whose messages go on from the name of the argument.
    """
    if isinstance(thing, DmaBuf):
        return thing.map()
    try:
        interface = getattr(thing, "__cuda_array_interface__", None)
    except (RuntimeError, TypeError) as wrong:  # tensors that need gradients, or are of types without a type string
        raise TypeError(f"does not tell its device memory: {wrong}") from wrong
    if interface is None:
        return None
    try:
        version, typestr, shape = interface["version"], interface["typestr"], tuple(interface["shape"])
        address, readonly = interface["data"]
        strides, stream = interface.get("strides"), interface.get("stream")
    except (AttributeError, KeyError, TypeError, ValueError) as wrong:
        raise TypeError(f"has a CUDA array interface that lacks something: {wrong!r}") from None
    if version not in (2, 3):
        raise TypeError(f"has a CUDA array interface of version {version!r}; 2 and 3 are known")
    if not all(_is_count(number) for number in (*shape, address, 0 if stream is None else stream)):
        raise ValueError(f"has a shape {shape}, an address {address!r} or a stream {stream!r} that is no number of 0 or more")
    found = _TYPES.fullmatch(typestr) if isinstance(typestr, str) else None
    if found is None:
        raise TypeError(f"has elements of type {typestr!r}, not bytes")
    if interface.get("mask") is not None:
        raise TypeError("has a mask, so its bytes are not its values")
    size = int(found[1])
    nbytes = math.prod(shape) * size
    if nbytes and strides is not None and tuple(strides) != _strides_of(shape, size):
        raise ValueError("is not contiguous")
    if nbytes and not address:
        raise ValueError(f"has {nbytes} bytes at address 0")
    if stream == 0:
        raise ValueError("has stream 0, which says nothing; 1 is the default stream")
    return DeviceMemory(thing, address, nbytes, readonly=bool(readonly), stream=_LEGACY_STREAM if version == 2 else stream)


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and number >= 0


def _strides_of(shape: Sequence[int], size: int) -> tuple[int, ...]:
    return tuple(size * math.prod(shape[at + 1 :]) for at in range(len(shape)))


_HOST_TYPES = frozenset((memoryview, bytes, bytearray))
_DEVICE_TYPES = frozenset((DeviceMemory, MappedMemory))


def is_on_device(buffer: Any) -> bool:
    """A buffer, of whatever kind, is a `DmaBuf`, or has a CUDA array interface and cannot be read as host memory."""
    if type(buffer) in _HOST_TYPES:
        return False
    if isinstance(buffer, DmaBuf):
        return True
    try:
        if getattr(buffer, "__cuda_array_interface__", None) is None:
            return False
    except (RuntimeError, TypeError):
        return True  # `device_memory` says what is wrong
    try:
        memoryview(buffer).release()
    except (TypeError, ValueError, BufferError):
        return True
    return False


def have_device_memory(buffers: Iterable[Any]) -> bool:
    """One of many is on the device. Where all are bytes-like, as nearly always, this costs next to nothing."""
    some = list(buffers)
    return not set(map(type, some)) <= _HOST_TYPES and any(map(is_on_device, some))


def are_in_host_memory(spots: Sequence[tuple[Spot, ...]]) -> TypeGuard[Sequence[tuple[memoryview, ...]]]:
    """No piece of any is in device memory."""
    return _DEVICE_TYPES.isdisjoint(map(type, chain.from_iterable(spots)))


# --- copying ---------------------------------------------------------------------------------------------------------


class DeviceCopier(Protocol):
    """Copies bytes between host and device memory. Each call returns when it is done, and raises OSError when it cannot be."""

    def synchronize(self, stream: int) -> None:
        """Wait for what was begun on a stream, as the array interface names it."""

    def copy_to_host(self, target: memoryview, address: int) -> None:
        """Fill host memory with the bytes from a device address on."""

    def copy_to_device(self, address: int, source: memoryview) -> None:
        """Store the bytes of writable host memory from a device address on."""


class CudaRuntime:
    """Copies by the CUDA runtime, `libcudart`."""

    def __init__(self, library: Any) -> None:
        """`library`: as `ctypes.CDLL` opens it."""
        self._library = library

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def copy_to_host(self, target: memoryview, address: int) -> None:
        place = (ctypes.c_char * len(target)).from_buffer(target)
        self._call("cudaMemcpy", place, ctypes.c_void_p(address), ctypes.c_size_t(len(target)), _TO_HOST)

    def copy_to_device(self, address: int, source: memoryview) -> None:
        place = (ctypes.c_char * len(source)).from_buffer(source)
        self._call("cudaMemcpy", ctypes.c_void_p(address), place, ctypes.c_size_t(len(source)), _TO_DEVICE)
        # A copy from pageable memory may return while its last bytes are on their way to the device.
        self.synchronize(_LEGACY_STREAM)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise error(Code.INTERNAL, f"{name} of the CUDA runtime failed with error {code}")


_copier: DeviceCopier | None = None


def set_device_copier(copier: DeviceCopier | None) -> None:
    """What copies to and from device memory in this process from now on; None: the CUDA runtime, where there is one."""
    global _copier
    _copier = copier


def copier_for(spots: Iterable[Spot]) -> DeviceCopier | None:
    """`device_copier`, where one of them needs it; None: no bytes have to be copied."""
    return device_copier() if any(isinstance(spot, DeviceMemory) for spot in spots) else None


def device_copier() -> DeviceCopier:
    """The copier that was set, or the CUDA runtime. Raises FS3Error UNSUPPORTED (OSError EOPNOTSUPP) when there is neither."""
    global _copier
    if _copier is None:
        _copier = _find_runtime()
    return _copier


def _find_runtime() -> DeviceCopier:
    found = ctypes.util.find_library("cudart")
    for name in (*_RUNTIMES, *([found] if found else [])):
        with suppress(OSError):
            return CudaRuntime(ctypes.CDLL(name))
    raise _no_runtime()


def _no_runtime() -> FS3Error:
    return error(
        Code.UNSUPPORTED,
        "buffers in device memory need the CUDA runtime, and no libcudart is found here; install or load it, or name another"
        " copier (fs3.api.io.device_memory.set_device_copier)",
    )
