"""Where memory of an accelerator is, by its CUDA array interface, and what copies from and to it."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fs3.api.io import device_memory as module
from fs3.api.io.device_memory import (
    CudaRuntime,
    device_copier,
    device_memory,
    have_device_memory,
    is_on_device,
    set_device_copier,
)
from fs3.api.registration import RegisteredBuffer
from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.status import Code
from tests.device_arrays import DeviceArray, MemmoveCopier


@pytest.fixture(autouse=True)
def no_copier() -> Iterator[None]:
    set_device_copier(None)
    yield
    set_device_copier(None)


def test_where_an_array_is() -> None:
    array = DeviceArray(48, shape=(2, 3), typestr="<f8", strides=(24, 8), stream=7)
    memory = device_memory(array)
    assert memory is not None
    address = array.__cuda_array_interface__["data"][0]
    assert (len(memory), memory.address, memory.readonly, memory.stream) == (48, address, False, 7)
    part = memory[8:40]
    assert (len(part), part.address, part.stream) == (32, address + 8, 7)
    assert len(memory[40:100]) == 8


def test_older_interfaces_are_of_the_default_stream() -> None:
    memory = device_memory(DeviceArray(b"x", version=2))
    assert memory is not None
    assert memory.stream == 1


def test_no_bytes_need_no_address() -> None:
    memory = device_memory(DeviceArray(0, data=(0, False), shape=(3, 0), strides=(8, 8)))
    assert memory is not None
    assert len(memory) == 0


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"strides": (2,)}, ValueError, "is not contiguous"),
        ({"data": (0, False)}, ValueError, "has 4 bytes at address 0"),
        ({"data": (-8, False)}, ValueError, "no number of 0 or more"),
        ({"shape": (-1,)}, ValueError, "no number of 0 or more"),
        ({"stream": 0}, ValueError, "stream 0"),
        ({"typestr": "|O8"}, TypeError, "elements of type '|O8'"),
        ({"typestr": 5}, TypeError, "elements of type 5"),
        ({"mask": object()}, TypeError, "has a mask"),
        ({"version": 1}, TypeError, "version 1"),
        ({"data": None}, TypeError, "lacks something"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind) as caught:
        device_memory(DeviceArray(b"1234", **changes))
    assert says in str(caught.value)


class HostAndDevice(bytearray):
    """Managed memory: both sides reach it."""

    __cuda_array_interface__: Any = {}


class NeedsGradients:
    @property
    def __cuda_array_interface__(self) -> Any:
        raise RuntimeError("call detach() first")


def test_host_memory_is_read_as_such() -> None:
    for buffer in (b"", bytearray(1), memoryview(b""), np.zeros(3), HostAndDevice(1), "text", None):
        assert not is_on_device(buffer)
    assert not have_device_memory([b"", np.zeros(3)])
    assert have_device_memory([b"", DeviceArray(1)])
    assert device_memory(np.zeros(3)) is None
    assert is_on_device(NeedsGradients())
    with pytest.raises(TypeError, match="does not tell its device memory: call detach"):
        device_memory(NeedsGradients())


def test_registered() -> None:
    set_device_copier(MemmoveCopier())
    with RegisteredBuffer(DeviceArray(100)) as registered:
        assert registered.nbytes == 100
    assert "released" in repr(registered)
    with pytest.raises(InvalidArgument, match="buffer is read-only"):
        RegisteredBuffer(DeviceArray(1, data=(1, True)))
    with pytest.raises(InvalidArgument, match="buffer has 0 bytes"):
        RegisteredBuffer(DeviceArray(0))
    with pytest.raises(InvalidArgument, match="buffer has 1 bytes at address 0"):
        RegisteredBuffer(DeviceArray(1, data=(0, False)))


def test_without_a_runtime_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RUNTIMES", ("libcudart-that-is-not.so",))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(FS3Error, match="no libcudart is found here") as caught:
        RegisteredBuffer(DeviceArray(1))
    assert (caught.value.code, caught.value.errno) == (Code.UNSUPPORTED, errno.EOPNOTSUPP)
    copier = MemmoveCopier()
    set_device_copier(copier)
    assert device_copier() is copier


class CudaLibrary:
    """The two functions of libcudart."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.calls: list[Any] = []

    def cudaMemcpy(self, target: Any, source: Any, count: Any, kind: int) -> int:
        self.calls.append(kind)
        if not self.code:
            ctypes.memmove(target, source, count.value)
        return self.code

    def cudaStreamSynchronize(self, stream: Any) -> int:
        self.calls.append(("stream", stream.value))
        return self.code


def test_the_calls_of_the_cuda_runtime() -> None:
    library = CudaLibrary()
    runtime = CudaRuntime(library)
    memory = device_memory(array := DeviceArray(b"from the device"))
    assert memory is not None
    room = bytearray(len(memory))
    runtime.synchronize(9)
    runtime.copy_to_host(memoryview(room), memory.address)
    assert room == b"from the device"
    runtime.copy_to_device(memory.address, memoryview(bytearray(b"into")))
    assert array.tobytes() == b"into the device"
    assert library.calls == [("stream", 9), 2, 1, ("stream", 1)]


def test_a_copy_that_fails_is_an_error() -> None:
    with pytest.raises(FS3Error, match="cudaMemcpy of the CUDA runtime failed with error 700"):
        CudaRuntime(CudaLibrary(700)).copy_to_host(memoryview(bytearray(1)), 1)
