"""Where a listing goes on: cursors that are its own, and others."""

from __future__ import annotations

import pytest

from fs3.api.kvcache.listing import ListPosition, pack_cursor, parse_cursor
from fs3.base.errors import InvalidArgument
from fs3.base.ids import ChunkId, page_range

NAMESPACE = 7


def test_a_listing_begins_at_the_begin() -> None:
    assert parse_cursor(NAMESPACE, None) == ListPosition(0, page_range(NAMESPACE)[0])


def test_a_listing_goes_on_where_it_was() -> None:
    position = ListPosition(3, ChunkId(page_range(NAMESPACE)[1][:4] + b"\x07" * 12))
    assert parse_cursor(NAMESPACE, pack_cursor(NAMESPACE, position)) == position


@pytest.mark.parametrize("other", [NAMESPACE - 1, NAMESPACE + 1])
def test_a_cursor_of_another_id_is_refused(other: int) -> None:
    """Of another namespace, or of one that was cleared: what was listed before is gone."""
    with pytest.raises(InvalidArgument, match="after: of another namespace, or of this one before it was cleared"):
        parse_cursor(NAMESPACE, pack_cursor(other, parse_cursor(other, None)))


@pytest.mark.parametrize("cursor", [b"", b"x", b"x" * 28])
def test_what_is_no_cursor_is_named(cursor: bytes) -> None:
    with pytest.raises(InvalidArgument, match="after: not from a listing"):
        parse_cursor(NAMESPACE, cursor)


def test_a_cursor_of_another_type_is_named() -> None:
    with pytest.raises(TypeError, match="after is neither bytes nor None but str"):
        parse_cursor(NAMESPACE, "cursor")  # type: ignore[arg-type]
