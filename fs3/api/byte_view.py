"""The bytes of whatever a caller hands over to be written or read into: one flat view, and never a copy.

Buffers are what PEP 3118 knows, and two kinds of arrays that it has no format for: numpy arrays of types such as datetime64,
bfloat16 and float8, and torch tensors in CPU memory. Neither library is imported here: a caller with such an object has done so.
"""

from __future__ import annotations

import sys
from pickle import PickleBuffer
from typing import Any


def byte_view(thing: Any) -> memoryview:
    """The bytes of a contiguous buffer, in order, as a flat view of unsigned bytes that is read-only where the buffer is.

    Raises TypeError for what has no bytes that mean anything elsewhere, ValueError for bytes that do not follow each other. Their
    messages go on from the name of the argument: "is not contiguous".
    """
    if not isinstance(thing, bytes | bytearray | memoryview):
        numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if torch is not None and isinstance(thing, torch.Tensor):
            thing = _tensor_bytes(torch, thing)
        elif numpy is not None and isinstance(thing, numpy.ndarray):
            thing = _array_bytes(numpy, thing)
    try:
        view = memoryview(thing)
    except (TypeError, ValueError, BufferError):
        raise TypeError(f"is not bytes-like but {type(thing).__name__}") from None
    if view.format == "B" and view.ndim == 1 and view.contiguous:
        return view
    if not view.c_contiguous:
        raise ValueError("is not contiguous")
    if view.format == "O":
        raise TypeError("holds Python objects, not bytes")
    return _flat_bytes(view)


def _flat_bytes(view: memoryview) -> memoryview:
    """A contiguous view as unsigned bytes, over what the view itself is of, and not over the view: the garbage collector clears a
    view that another one is over too early, and the interpreter ends with it."""
    if not view.nbytes:
        return memoryview(b"" if view.readonly else bytearray())
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # a format of more than one character
        whole = memoryview(view.obj)
        is_whole = (whole.nbytes, whole.readonly) == (view.nbytes, view.readonly)
        return PickleBuffer(view.obj if is_whole else view).raw()


def _array_bytes(numpy: Any, array: Any) -> Any:
    if array.dtype.hasobject:
        raise TypeError("holds Python objects, not bytes")
    if not array.flags.c_contiguous:
        raise ValueError("is not contiguous")
    # Of one dimension: numpy changes the type of none that has no dimension or no elements in the last one.
    return array.reshape(-1).view(numpy.ndarray).view(numpy.uint8)


def _tensor_bytes(torch: Any, tensor: Any) -> Any:
    if tensor.device.type != "cpu":
        raise TypeError(f"is a tensor on device {tensor.device}, not in CPU memory")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
        raise TypeError("is a tensor whose bytes in memory are not its values")
    if not tensor.is_contiguous():
        raise ValueError("is not contiguous")
    try:
        return tensor.detach().reshape(-1).view(torch.uint8).numpy()
    except (RuntimeError, TypeError) as wrong:  # torch without numpy, or a type of tensor without memory of its own
        raise TypeError(f"is a tensor without bytes to be had: {wrong}") from wrong
