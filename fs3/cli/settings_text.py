"""Settings as people write them: `KEY=VALUE` of a command line, and TOML files."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND, parse_duration, parse_size
from fs3.core.membership.settings import check_value, find_setting
from fs3.model.settings import SettingValue
from fs3.runtime.plain_files import read_plain_file

DEFAULT = "default"
"""The value that takes a setting back to its default."""


def parse_changes(texts: Sequence[str]) -> dict[str, SettingValue | None]:
    """{key: value} of `KEY=VALUE` texts; None for `KEY=default`. FS3Error CONFIG naming the key that is wrong."""
    found: dict[str, SettingValue | None] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        key, value = key.strip(), value.strip()
        if not mark or not value:
            raise error(Code.CONFIG, f"{text!r} is not KEY=VALUE; KEY={DEFAULT} takes a setting back")
        if key in found:
            raise error(Code.CONFIG, f"{key} is given twice")
        found[key] = None if value == DEFAULT else parse_value(key, value)
    return found


def parse_value(key: str, text: str) -> SettingValue:
    """The value of one setting: true or false, a number, a size such as 16MB or a duration such as 5s. FS3Error CONFIG."""
    try:
        kind = type(find_setting(key).default)
        if kind is bool:
            if text not in ("true", "false"):
                raise ValueError(f"{key}: {text!r} is not true or false")
            return text == "true"
        return check_value(key, float(text) if kind is float else _parse_number(key, text))
    except ValueError as wrong:
        told = str(wrong) if str(wrong).startswith((key, "there is no setting")) else f"{key}: {wrong}"
        raise error(Code.CONFIG, told) from None


def _parse_number(key: str, text: str) -> int:
    plain = text.replace("_", "")
    if plain.isdecimal():
        return int(plain)
    if key.endswith(("_ms", "_s")):
        return parse_duration(text) // (MILLISECOND if key.endswith("_ms") else SECOND)
    return parse_size(text)


def load_changes(path: Path) -> dict[str, SettingValue | None]:
    """{key: value} of a TOML file with a table for each part. FS3Error CONFIG naming the file and what is wrong in it: it cannot
    be read, is no TOML or only half of one, or has a key or value that no setting has."""
    try:
        document = tomllib.loads(read_plain_file(path).decode())
    except (OSError, UnicodeDecodeError) as why:
        raise error(Code.CONFIG, f"cannot read the settings {path}: {why}") from why
    except tomllib.TOMLDecodeError as wrong:
        raise error(Code.CONFIG, f"{path} is not TOML, or not all of it: {wrong}") from wrong
    found: dict[str, SettingValue | None] = {}
    for part, values in document.items():
        if not isinstance(values, dict):
            raise error(Code.CONFIG, f"{path}: {part} is no table; settings are written as [storage] and lines below it")
        for name, value in values.items():
            try:
                found[f"{part}.{name}"] = check_value(f"{part}.{name}", value)
            except (ValueError, TypeError) as wrong:
                raise error(Code.CONFIG, f"{path}: {wrong}") from None
    return found
