"""docs/storage.md names every setting with its default."""

import re
from pathlib import Path

import msgspec

from fs3.base.units import parse_size
from fs3.services.storage import StorageConfig

PAGE = Path(__file__).parents[2] / "docs" / "storage.md"


def test_the_page_names_every_setting_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE))
    fields = {field.name: field.default for field in msgspec.structs.fields(StorageConfig)}
    assert rows.keys() == fields.keys()
    for name, default in fields.items():
        said = rows[name].strip()
        assert _value_of(said, type(default)) == default, f"{name} is {default}, the page says {said}"


def _value_of(said, kind):
    if kind is bool:
        return said == "true"
    return float(said) if kind is float else parse_size(said)
