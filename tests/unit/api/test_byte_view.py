from __future__ import annotations

import array
import ctypes
import gc
from typing import Any

import numpy as np
import pytest

from fs3.api.byte_view import byte_view

RAW = bytes(range(16))


@pytest.mark.parametrize(
    "thing",
    [
        RAW,
        bytearray(RAW),
        memoryview(RAW),
        memoryview(RAW).cast("I"),
        memoryview(RAW).cast("B", (4, 4)),
        array.array("H", RAW),
        (ctypes.c_uint32 * 4).from_buffer_copy(RAW),
        np.frombuffer(RAW, ">f4"),
        np.frombuffer(RAW, np.float16).reshape(2, 2, 2),
        np.frombuffer(RAW, np.complex64),
        np.frombuffer(RAW, "M8[ns]"),
        np.frombuffer(RAW, "m8[s]").reshape(1, 2),
        np.frombuffer(RAW, np.dtype([("a", "<u4"), ("b", "<f8"), ("c", "<u4")])),
        np.frombuffer(RAW, "S4"),
        np.frombuffer(RAW, "<U2"),
        np.frombuffer(RAW, "M8[us]")[::1].view(np.recarray),
    ],
    ids=lambda thing: f"{type(thing).__name__}-{getattr(thing, 'dtype', '')}",
)
def test_the_bytes_of_a_buffer(thing: Any) -> None:
    view = byte_view(thing)
    assert (view.format, view.ndim, view.itemsize) == ("B", 1, 1)
    assert bytes(view) == RAW


def test_it_is_no_copy_and_as_writable_as_the_buffer() -> None:
    dates, floats, block = np.zeros(2, "M8[ns]"), np.zeros((2, 2), np.float32), bytearray(16)
    for target in (dates, floats, block):
        view = byte_view(target)
        assert not view.readonly
        view[:] = RAW
    assert dates.tobytes() == floats.tobytes() == block == RAW
    assert byte_view(RAW).readonly
    assert byte_view(np.frombuffer(RAW, "M8[ns]")).readonly


@pytest.mark.parametrize("thing", [np.zeros((0, 3), "M8[ns]"), np.zeros((3, 0), np.int64), b"", memoryview(b"").cast("H")])
def test_nothing(thing: Any) -> None:
    assert len(byte_view(thing)) == 0


@pytest.mark.parametrize("make", [lambda: array.array("d", [0.0] * 4), lambda: (ctypes.c_ubyte * 16)()], ids=["array", "ctypes"])
@pytest.mark.parametrize("wrap", [memoryview, lambda thing: thing], ids=["a view of it", "itself"])
def test_the_garbage_collector_may_free_it(make: Any, wrap: Any) -> None:
    """A view over a view, in a cycle, once ended the interpreter."""
    cycle: list[Any] = [byte_view(wrap(make()))]
    cycle.append(cycle)
    del cycle
    gc.collect()


def test_a_single_value() -> None:
    value = np.array(7, "M8[s]")
    assert bytes(byte_view(value)) == value.tobytes()


@pytest.mark.parametrize(
    ("thing", "kind", "says"),
    [
        ("text", TypeError, "is not bytes-like but str"),
        (7, TypeError, "is not bytes-like but int"),
        ([1, 2], TypeError, "is not bytes-like but list"),
        (None, TypeError, "is not bytes-like but NoneType"),
        (memoryview(RAW)[::2], ValueError, "is not contiguous"),
        (np.zeros((4, 4), "M8[ns]").T, ValueError, "is not contiguous"),
        (np.zeros(8, np.int16)[::2], ValueError, "is not contiguous"),
        (np.array([{}]), TypeError, "holds Python objects"),
        (np.zeros(1, [("a", "O")]), TypeError, "holds Python objects"),
    ],
)
def test_what_has_no_such_bytes(thing: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        byte_view(thing)


def test_arrays_of_the_types_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        target = np.zeros(16 // np.dtype(dtype).itemsize, dtype)
        byte_view(target)[:] = RAW
        assert target.tobytes() == RAW


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float32, torch.int8, torch.bool, torch.complex64):
        tensor = torch.zeros(4, 4, dtype=dtype)
        view = byte_view(tensor)
        assert len(view) == 16 * tensor.element_size()
        view[0] = 1
        assert tensor.flatten().view(torch.uint8)[0] == 1
    assert len(byte_view(torch.tensor(1.5, requires_grad=True))) == 4
    assert len(byte_view(torch.zeros(0, 3))) == 0
    with pytest.raises(ValueError, match="is not contiguous"):
        byte_view(torch.zeros(4, 4).T)
    with pytest.raises(TypeError, match="device meta"):
        byte_view(torch.zeros(4, device="meta"))
    with pytest.raises(TypeError, match="not its values"):
        byte_view(torch.zeros(4, dtype=torch.complex64).conj())
