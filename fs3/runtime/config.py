"""Configuration: TOML text into a typed record, with every mistake named by its key."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

import msgspec

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.runtime.plain_files import read_plain_file

T = TypeVar("T", bound=msgspec.Struct)


def parse_config(kind: type[T], text: str, source: str, *, besides: Collection[str] = ()) -> T:
    """The record of a TOML text. `besides`: keys that may be there as well, and are not of the record.

    Raises FS3Error CONFIG naming `source` and the key: not TOML, an unknown key, or a value of the wrong type or size.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        raise error(Code.CONFIG, f"{source} is not TOML: {wrong}") from wrong
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    unknown = sorted(set(values) - known - set(besides))
    if unknown:
        there_are = ", ".join(sorted(known | set(besides)))
        raise error(Code.CONFIG, f"{source}: unknown key {unknown[0]!r}; known keys are {there_are}")
    try:
        return msgspec.convert({key: value for key, value in values.items() if key in known}, kind)
    except msgspec.ValidationError as wrong:
        raise error(Code.CONFIG, f"{source}: {wrong}") from wrong


def load_config(kind: type[T], path: Path | None, *, besides: Collection[str] = ()) -> T:
    """The record of a file; the defaults when there is none. Raises as `parse_config`, and CONFIG for an unreadable file."""
    if path is None:
        return kind()
    try:
        text = read_plain_file(path).decode()
    except (OSError, UnicodeDecodeError) as wrong:
        raise error(Code.CONFIG, f"cannot read the configuration {path}: {wrong}") from wrong
    return parse_config(kind, text, str(path), besides=besides)
