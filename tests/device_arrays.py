"""Arrays as an accelerator would have them, in host memory of which only their address is known."""

from __future__ import annotations

import ctypes
from typing import Any


class DeviceArray:
    """What CuPy, PyTorch and Numba show of an array: a CUDA array interface, and no buffer."""

    def __init__(self, data: bytes | int, /, **changes: Any) -> None:
        """`data`: its bytes, or how many zeros. `changes`: of the interface's entries."""
        size = data if isinstance(data, int) else len(data)
        self._memory = ctypes.create_string_buffer(b"" if isinstance(data, int) else data, max(1, size))
        address = ctypes.addressof(self._memory)
        self.__cuda_array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
            "strides": None,
            "stream": None,
            **changes,
        }
        self._size = size

    def tobytes(self) -> bytes:
        return self._memory.raw[: self._size]


class MemmoveCopier:
    """A copier for such arrays, which counts."""

    def __init__(self) -> None:
        self.streams: list[int] = []
        self.copies: list[int] = []

    def synchronize(self, stream: int) -> None:
        self.streams.append(stream)

    def copy_to_host(self, target: memoryview, address: int) -> None:
        self.copies.append(len(target))
        ctypes.memmove((ctypes.c_char * len(target)).from_buffer(target), address, len(target))

    def copy_to_device(self, address: int, source: memoryview) -> None:
        self.copies.append(len(source))
        ctypes.memmove(address, (ctypes.c_char * len(source)).from_buffer(source), len(source))
