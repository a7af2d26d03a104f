"""Paths, cursors, infos, URLs of the fsspec filesystem."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fs3.api.fsspec.base import URL_CLUSTER
from fs3.api.fsspec.contents import _clamp_range
from fs3.api.fsspec.filesystem import FS3FileSystem, _canonical
from fs3.api.fsspec.walk import join, name_before
from fs3.api.namespace import parent_of

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(stem=NAMES, rest=st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), max_size=5))
@example(stem="0", rest="")
@example(stem="\x01", rest="")
@example(stem="\ue000", rest="x")
@example(stem="a" * 250, rest="")
def test_the_cursor_before_a_stem_is_before_every_name_with_it(stem: str, rest: str) -> None:
    cursor = name_before(stem)
    assert cursor.encode() < (stem + rest).encode()
    assert "/" not in cursor
    assert "\0" not in cursor
    assert len(cursor.encode()) <= 255


def test_the_cursor_skips_what_comes_before() -> None:
    assert name_before("") == ""
    names = sorted(["part-00", "part-01", "paris", "other", "a", "part", "parts"])
    assert [name for name in names if name > name_before("part-")] == ["part-00", "part-01", "parts"]


def test_joining_and_parents() -> None:
    assert (join("/", "x"), join("/a", "x"), join("", "x")) == ("/x", "/a/x", "/x")
    assert (parent_of("/a/b"), parent_of("/a"), parent_of("/a/b/"), parent_of("a"), parent_of("/")) == ("/a", "/", "/a", "/", "/")


@given(start=st.none() | st.integers(-30, 30), end=st.none() | st.integers(-30, 30), size=st.integers(0, 20))
def test_limits_are_those_of_a_slice(start: int | None, end: int | None, size: int) -> None:
    data = bytes(range(size))
    begin, stop = _clamp_range(start, end, size)
    assert 0 <= begin <= stop <= size or begin == stop
    assert data[begin:stop] == data[start:end]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("fs3://host:1/a/b", "/a/b"),
        ("fs3://host:1,other:2/a/", "/a"),
        ("fs3://host:1", "/"),
        ("fs3:///a", "/a"),
        ("a/b", "/a/b"),
        ("/a//b/", "/a//b"),
        ("", "/"),
        ("/", "/"),
        (["fs3://h:1/a", "b"], ["/a", "/b"]),
    ],
)
def test_stripping(given: str | list[str], expected: str | list[str]) -> None:
    assert FS3FileSystem._strip_protocol(given) == expected


def test_arguments_in_urls() -> None:
    assert FS3FileSystem._get_kwargs_from_urls("fs3://h:1,i/x") == {URL_CLUSTER: "h:1,i:8000"}
    assert FS3FileSystem._get_kwargs_from_urls("fs3:///x") == {}
    assert FS3FileSystem._get_kwargs_from_urls("/x") == {}
    assert FS3FileSystem._parent("/a/b") == "/a"
    assert FS3FileSystem._parent("/a") == "/"


def test_spellings_of_modes() -> None:
    assert {_canonical(mode) for mode in ("r+b", "rb+", "br+")} == {"r+b"}
    assert _canonical("wb") == "wb"
