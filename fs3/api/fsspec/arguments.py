"""What is said of arguments of the wrong kind, before something inside fails over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fsspec.utils import stringify_path

from fs3.base.errors import InvalidType

OPEN_OPTIONS = frozenset(
    {"mode", "block_size", "cache_type", "cache_options", "compression", "autocommit", "size"}  # of fsspec itself
    | {"encoding", "errors", "newline"}  # of text files; callers hand them over whatever the mode
    | {"chunk_size", "stripe"}
)
"""What `open` takes."""

_READ_CACHE_OPTIONS = frozenset({"default_cache", "default_cache_type", "default_fill_cache", "fill_cache"})
"""Wishes of libraries about how files are cached while they are read, in the words of other file systems: without effect here."""


def check_path(value: object, name: str = "path") -> None:
    """Raises InvalidType, which names the argument, for what fsspec takes for no path: text, `os.PathLike`, or with a `path`."""
    if not isinstance(stringify_path(value), str):
        raise _not_a_path(value, name, "a str or os.PathLike")


def paths_of(value: Any, name: str = "path") -> str | list[str]:
    """One path as text, or many as a list. Raises InvalidType, which names the argument, for anything else."""
    text = stringify_path(value)
    if isinstance(text, str):
        return text
    is_data = isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "read")
    if is_data or not isinstance(value, Iterable):
        raise _not_a_path(value, name, "a str, os.PathLike or a list of them")
    found = list(value)
    for index, one in enumerate(found):
        check_path(one, f"{name}[{index}]")
    return [stringify_path(one) for one in found]


def check_open_options(options: Mapping[str, object], path: str) -> None:
    """Raises InvalidType for options that `open` does not take: they would have no effect."""
    for name in options:
        if name not in OPEN_OPTIONS and name not in _READ_CACHE_OPTIONS:
            raise InvalidType(f"open takes no option {name!r}; known are {', '.join(sorted(OPEN_OPTIONS))}", path)


def check_mode(mode: object, path: str) -> None:
    """Raises InvalidType for a mode that is no text."""
    if not isinstance(mode, str):
        raise InvalidType(f"mode is {_shown(mode)}, not a str", path)


def check_size(value: object, name: str, path: str) -> None:
    """Raises InvalidType for what is neither None nor an integer."""
    if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__")):
        raise InvalidType(f"{name} is {_shown(value)}, not an int", path)


def _not_a_path(value: object, name: str, wanted: str) -> InvalidType:
    return InvalidType(f"{name} is {_shown(value)}, not {wanted}")


def _shown(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
