"""What counts as bytes: any memory in one piece, also of types the buffer protocol has no letter for; nothing is copied."""

from __future__ import annotations

import pickle
from array import array
from typing import Any

import pytest

from fs3.api.io.buffers import source_of, target_of
from fs3.base.errors import FS3Error, InvalidArgument, InvalidType

np = pytest.importorskip("numpy")

ARRAYS = {
    "int16": np.arange(5, dtype="i2"),
    "bool": np.array([True, False]),
    "complex": np.arange(5, dtype="c8"),
    "big-endian": np.arange(5, dtype=">i4"),
    "structured": np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
    "text": np.array(["ab", "c"]),
    "long double": np.arange(3, dtype="g"),
    "datetime": np.array(["2020-01-01"], dtype="M8[s]"),
    "time difference": np.arange(4, dtype="m8[ms]").reshape(2, 2),
    "nothing in it": np.zeros((0, 3)),
    "no dimension": np.array(7),
    "no dimension, datetime": np.array("2020-01-01", dtype="M8[s]"),
    "a column": np.arange(3)[:, None],
    "void": np.zeros(2, dtype="V5"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_written_and_read_into_where_they_lie(name: str) -> None:
    values = ARRAYS[name].copy()
    view = source_of(values, "/x")
    assert (view.format, view.ndim, view.nbytes) == ("B", 1, values.nbytes)
    assert bytes(view) == values.tobytes()
    target = np.zeros_like(values)
    target_of(target, "/x")[:] = view
    assert (target == values).all()


def test_no_other_memory_is_made() -> None:
    values = np.zeros(3, dtype="M8[s]")
    target_of(values, "/x")[:] = bytes([1, *bytes(7)]) * 3
    assert values.astype("i8").tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_types_numpy_has_from_elsewhere(kind: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.arange(8, dtype=getattr(ml_dtypes, kind)).reshape(2, 4)
    assert bytes(source_of(values, "/x")) == values.tobytes()
    target = np.zeros_like(values)
    target_of(target, "/x")[:] = source_of(values, "/x")
    assert (target == values).all()


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float32", "int64", "bool", "complex64"])
def test_tensors_of_the_cpu(kind: str) -> None:
    torch = pytest.importorskip("torch")
    values = torch.ones(3, 5).to(getattr(torch, kind))
    view = source_of(values, "/x")
    assert bytes(view) == values.reshape(-1).view(torch.uint8).numpy().tobytes()
    target = torch.zeros(3, 5).to(values.dtype)
    target_of(target, "/x")[:] = view
    assert bytes(source_of(target, "/x")) == bytes(view)
    assert source_of(torch.tensor(1.5), "/x").nbytes == 4
    assert source_of(torch.ones(2, requires_grad=True), "/x").nbytes == 8
    assert source_of(torch.zeros(0), "/x").nbytes == 0


def test_tensors_that_are_not_their_memory() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InvalidArgument, match="data is not contiguous"):
        source_of(torch.ones(3, 5).T, "/x")
    for values in (torch.ones(2, 2).to_sparse(), torch.ones(2, dtype=torch.complex64).conj(), torch.ones(2, device="meta")):
        with pytest.raises(InvalidType, match="data is a tensor"):
            source_of(values, "/x")


@pytest.mark.parametrize("thing", ["text", None, 5, [1, 2], object(), np.array([1, None], dtype=object)])
def test_what_has_no_bytes_is_a_type_error(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"page 3 (is not bytes-like|holds Python objects)") as caught:
        source_of(thing, "/x", "page 3")
    assert isinstance(caught.value, FS3Error)
    assert caught.value.filename == "/x"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (InvalidType, str(caught.value))


@pytest.mark.parametrize(
    "thing",
    [np.arange(10)[::2], np.ones((2, 3), order="F"), np.arange(10, dtype="m8[s]")[::2], memoryview(array("i", [1, 2, 3]))[::2]],
)
def test_bytes_in_pieces_are_refused(thing: Any) -> None:
    with pytest.raises(InvalidArgument, match="data is not contiguous"):
        source_of(thing, "/x")


@pytest.mark.parametrize("thing", [b"abc", np.frombuffer(b"12345678", dtype="i4"), memoryview(b"abc")])
def test_what_cannot_be_written_to_is_a_type_error(thing: Any) -> None:
    with pytest.raises(TypeError, match="buffer is read-only"):
        target_of(thing, "/x")
