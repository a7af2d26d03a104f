from __future__ import annotations

import pytest

from fs3.model.chunk import UpdateKind, apply_update


@pytest.mark.parametrize(
    ("kind", "offset", "data", "before", "after"),
    [
        (UpdateKind.WRITE, 0, b"ab", None, b"ab"),
        (UpdateKind.WRITE, 1, b"XY", b"abcd", b"aXYd"),
        (UpdateKind.WRITE, 3, b"X", b"a", b"a\0\0X"),
        (UpdateKind.WRITE, 3, b"", b"a", b"a"),
        (UpdateKind.PUT, 0, b"ab", None, b"ab"),
        (UpdateKind.FILL, 0, b"ab", b"abcdef", b"ab"),
        (UpdateKind.TRUNCATE, 2, b"", b"abcd", b"ab"),
        (UpdateKind.TRUNCATE, 9, b"", b"abcd", b"abcd"),
        (UpdateKind.REMOVE, 0, b"", b"abcd", None),
    ],
)
def test_what_updates_do(kind: UpdateKind, offset: int, data: bytes, before: bytes | None, after: bytes | None) -> None:
    assert apply_update(kind, offset, data, before) == after
