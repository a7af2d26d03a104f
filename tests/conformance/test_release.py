"""Today's code understands what the last release says and stores; see `tests.release_record`."""

from __future__ import annotations

import pytest

from fs3.base.version import THIS_RELEASE
from tests.release_record import (
    STORED,
    StoredRow,
    Wire,
    describe_wire,
    extends,
    find_breaks,
    key_now,
    read_again,
    read_release,
    read_rows,
    read_wire,
    sample_rows,
)

WAS: Wire = {
    "p.Kind 1": "value KIND_ONE",
    "p.M 1": "uint32 id",
    "p.M 2": "string name",
    "p.M 3": "reserved",
    "p.S.Get": "0x0101 p.M p.M repeatable payload=none",
}


def test_the_release_can_be_worked_with() -> None:
    release = read_release()
    assert THIS_RELEASE.oldest_level <= release.level <= THIS_RELEASE.level <= release.level + 1


def test_the_wire_of_the_release_is_understood() -> None:
    assert find_breaks(read_wire(), describe_wire()) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"p.M 2": "reserved"}, None),
        ({"p.M 4": "bytes more"}, None),
        ({"p.M 2": None}, "p.M 2 (string name) is gone and its number is not reserved"),
        ({"p.M 1": "uint64 id"}, "p.M 1 was 'uint32 id', is 'uint64 id'"),
        ({"p.M 2": "string title"}, "p.M 2 was 'string name', is 'string title'"),
        ({"p.M 2": "repeated string name"}, "p.M 2 was 'string name', is 'repeated string name'"),
        ({"p.M 3": "string again"}, "p.M 3 was 'reserved', is 'string again'"),
        ({"p.M 3": None}, "p.M 3 (reserved) is gone and its number is not reserved"),
        ({"p.Kind 1": "value KIND_UNO"}, "p.Kind 1 was 'value KIND_ONE', is 'value KIND_UNO'"),
        ({"p.S.Get": None}, "p.S.Get (0x0101 p.M p.M repeatable payload=none) is gone"),
        (
            {"p.S.Get": "0x0102 p.M p.M repeatable payload=none"},
            "p.S.Get was '0x0101 p.M p.M repeatable payload=none', is '0x0102 p.M p.M repeatable payload=none'",
        ),
        ({"p.S.Put": "0x0101 p.M p.M payload=none"}, "p.S.Put has the number of p.S.Get"),
    ],
)
def test_what_breaks_the_wire_is_noticed(changes: dict[str, str | None], what: str | None) -> None:
    now = {key: means for key, means in {**WAS, **changes}.items() if means is not None}
    assert find_breaks(WAS, now) == ([] if what is None else [what])


@pytest.mark.parametrize("row", read_rows(), ids=lambda row: row.record)
def test_what_the_release_stored_is_read(row: StoredRow) -> None:
    if row.record.startswith("Key "):
        assert key_now(row) == row.stored
        return
    assert extends(read_again(row), row.values)
    if row.fields:
        now = STORED[row.record][0].__struct_fields__
        # The release reads what is stored today, too: it knows the first fields, and leaves the others.
        assert list(now[: len(row.fields)]) == row.fields


def test_every_record_that_is_stored_is_recorded() -> None:
    """A kind of row that is new is in the record of the next release."""
    rows = sample_rows()
    assert {row.record for row in read_rows()} <= {row.record for row in rows}
    assert {row.record for row in rows if row.fields} == STORED.keys()
    assert all(extends(read_again(row), row.values) for row in rows if not row.record.startswith("Key "))
