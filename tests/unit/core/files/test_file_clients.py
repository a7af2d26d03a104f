"""Client ids that are a file's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.ids import CLIENT_ID_BYTES, INODE_IDS_END, InodeId
from fs3.base.prng import Prng
from fs3.core.files.file_clients import FileClient, FileClientKind, draw_client_id, make_file_client, parse_file_client


@given(st.sampled_from(FileClientKind), st.integers(1, INODE_IDS_END - 1), st.integers(0, 1 << 64))
def test_an_id_tells_its_file(kind: FileClientKind, content: int, name: int) -> None:
    client = make_file_client(kind, InodeId(content), name)
    assert len(client) == CLIENT_ID_BYTES
    assert parse_file_client(client) == FileClient(kind, InodeId(content))
    assert client == make_file_client(kind, InodeId(content), name & 0xFFFFFFFF)
    assert client != make_file_client(kind, InodeId(content), name + 1)


def test_the_ids_are_what_they_were() -> None:
    """Targets remember updates by them, also those that an earlier release has sent."""
    assert make_file_client(FileClientKind.APPEND, InodeId(5), 1) == b"appd\0\0\0\1\0\0\0\0\0\0\0\5"
    assert make_file_client(FileClientKind.TRIM, InodeId(5), 2) == b"trim\0\0\0\2\0\0\0\0\0\0\0\5"
    assert make_file_client(FileClientKind.MOVE, InodeId(5)) == b"move\0\0\0\0\0\0\0\0\0\0\0\5"


def test_an_id_that_is_drawn_is_no_files() -> None:
    prng = Prng(1)
    assert not any(parse_file_client(draw_client_id(prng.bytes)) for _ in range(1000))
    assert parse_file_client(bytes(CLIENT_ID_BYTES)) is None


@pytest.mark.parametrize("kind", FileClientKind)
def test_a_draw_that_looks_like_a_files_is_drawn_again(kind: FileClientKind) -> None:
    drawn: Iterator[bytes] = iter([kind.value + b"x" * 12, kind.value + bytes(12), b"an ordinary one."])
    assert draw_client_id(lambda _: next(drawn)) == b"an ordinary one."
