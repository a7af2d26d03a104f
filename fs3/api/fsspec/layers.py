"""What programs put around an open file, and that holds bytes of it still: text wrappers, buffers, compressors, archives.

No file is told what is put around it: `io.TextIOWrapper` asks it whether it can be written, and does not say who asks. When a
program ends, Python closes such layers as it takes them down one by one; by then no event loop runs any more that could store
what they write. So what refers to an open file is looked up before: the garbage collector knows all objects, and one pass over
them, about a tenth of a second for a million, finds the layers of all files.
"""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from types import FunctionType
from typing import Any

_IO_BASE = io.IOBase.__mro__[1]
"""What all of io is built on, also the classes that are not written in Python."""


class Layers:
    """The layers around all objects of the process, as they are when this is made."""

    def __init__(self) -> None:
        self._around: dict[int, list[Any]] = {}
        """By the id of what they lie around."""
        self._closed: set[int] = set()
        is_layer: dict[type, bool] = {}
        for one in gc.get_objects():
            kind = type(one)
            if kind not in is_layer:
                is_layer[kind] = _closes_at_the_end(kind)
            if is_layer[kind]:
                for held in _held_by(one):
                    self._around.setdefault(id(held), []).append(one)

    def close_around(self, file: object) -> None:
        """Close what lies around it, the outermost first, which writes into the next. Raises what the first one that fails
        raises; what lies within that one stays as it is."""
        for layer in self._around.pop(id(file), ()):
            self.close_around(layer)
            if id(layer) not in self._closed:
                self._closed.add(id(layer))
                layer.close()


def _closes_at_the_end(kind: type) -> bool:
    """Python closes its objects when they go away: those of io, and others by a `__del__` of their own, as of zipfile.ZipFile."""
    if _IO_BASE in kind.__mro__:
        return True
    return isinstance(getattr(kind, "__del__", None), FunctionType) and callable(getattr(kind, "close", None))


def _held_by(one: object) -> Iterator[object]:
    for held in gc.get_referents(one):
        if type(held) is dict:  # its attributes
            yield from held.values()
        else:
            yield held
