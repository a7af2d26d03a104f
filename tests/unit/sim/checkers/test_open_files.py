"""The checker of files that are read while others remove them."""

from __future__ import annotations

from fs3.sim.checkers.open_files import TAG_BYTES, OpenRead, content_of, explain

TAG = b"0123456789abcdef"


def read(offset: int, length: int, found: bytes | None) -> OpenRead:
    return OpenRead("/f", TAG, offset, length, found, 5_000_000_000)


def test_a_file_is_its_tag_again_and_again() -> None:
    assert content_of(TAG, 0, 2 * TAG_BYTES) == 2 * TAG
    assert content_of(TAG, 14, 4) == b"ef01"
    assert content_of(TAG, 5, 0) == b""


def test_what_was_opened_is_shown() -> None:
    assert explain([read(14, 4, b"ef01"), read(0, 16, TAG)]) == ""


def test_anything_else_is_told() -> None:
    assert "it is gone" in explain([read(14, 4, b"ef01"), read(0, 4, None)])
    assert "shows" in explain([read(0, 4, bytes(4))])
    assert "3 of 4 bytes" in explain([read(0, 4, b"012")])
