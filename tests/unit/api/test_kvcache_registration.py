"""Memory registered once: what cannot be is named, and what is cannot go away under a call."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pytest

from fs3.api.kvcache import RegisteredBuffer
from fs3.base.errors import InvalidArgument


def test_memory_stays_until_it_is_released() -> None:
    memory = mmap.mmap(-1, 8192)
    with RegisteredBuffer(memory) as registered:
        assert registered.nbytes == 8192
        with pytest.raises(BufferError):
            memory.close()
    memory.close()
    registered.release()
    assert repr(registered) == "<RegisteredBuffer of 8192 bytes, released>"


def test_parts_of_it_outlive_it() -> None:
    array = np.zeros(100, np.float32)
    registered = RegisteredBuffer(array)
    part = memoryview(array)[10:20]
    registered.release()
    part[0] = 1.0
    assert array[10] == 1.0


@pytest.mark.parametrize(
    ("buffer", "says"),
    [
        (b"bytes", "buffer is read-only"),
        (bytearray(), "buffer has 0 bytes"),
        ("text", "buffer is not bytes-like but str"),
        (None, "buffer is not bytes-like but NoneType"),
        (np.zeros((4, 4))[:, 1], "buffer is not contiguous"),
    ],
)
def test_what_cannot_be_registered(buffer: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        RegisteredBuffer(buffer)


def test_a_tensor_of_another_device() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InvalidArgument, match="buffer is a tensor on device meta, not in CPU memory"):
        RegisteredBuffer(torch.zeros(4, device="meta"))
    assert RegisteredBuffer(torch.zeros(4)).nbytes == 16
