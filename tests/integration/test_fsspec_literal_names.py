"""Names with "[", "]", "?" and "*" are names wherever something is called so."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

ODD = ("x[1]", "q?", "s*")
LIKE = ("x1", "q1", "s1")


@pytest.fixture
def odd(fs: Any, room: str) -> str:
    """A directory with files and trees of odd names, beside others those would match as patterns."""
    for name in (*ODD, *LIKE):
        fs.pipe_file(f"{room}/{name}.txt", name.encode())
        fs.pipe_file(f"{room}/{name}/below/data", name.encode())
    return room


@pytest.mark.parametrize("name", ODD)
def test_removing_and_moving(fs: Any, odd: str, name: str) -> None:
    fs.mv(f"{odd}/{name}.txt", f"{odd}/moved")
    assert fs.cat_file(f"{odd}/moved") == name.encode()
    fs.mv(f"{odd}/moved", f"{odd}/{name}.txt")
    fs.rm(f"{odd}/{name}.txt")
    fs.rm(f"{odd}/{name}", recursive=True)
    left = [one for one in (*ODD, *LIKE) if one != name]
    assert {path.rpartition("/")[2] for path in fs.ls(odd, detail=False)} == {*left, *(f"{one}.txt" for one in left)}


def test_what_is_gone_does_not_become_a_pattern(fs: Any, odd: str) -> None:
    fs.rm([f"{odd}/{name}.txt" for name in ODD])
    for call in (
        lambda: fs.rm(f"{odd}/x[1].txt"),
        lambda: fs.rm([f"{odd}/q?.txt"]),
        lambda: fs.mv([f"{odd}/s*.txt"], f"{odd}/below"),
        lambda: fs.cat([f"{odd}/q?.txt"]),
    ):
        with pytest.raises(FileNotFoundError):
            call()
    assert all(fs.exists(f"{odd}/{name}.txt") for name in LIKE)


@pytest.mark.parametrize("name", ODD)
def test_copies_within_and_to_this_machine_and_back(fs: Any, odd: str, name: str, tmp_path: Path) -> None:
    fs.copy(f"{odd}/{name}", f"{odd}/copy", recursive=True)
    fs.copy(f"{odd}/{name}", f"{odd}/copy", recursive=True)
    assert fs.find(f"{odd}/copy") == [f"{odd}/copy/below/data", f"{odd}/copy/{name}/below/data"]
    fs.get(f"{odd}/{name}", str(tmp_path / "new"), recursive=True)
    fs.get(f"{odd}/{name}.txt", f"{tmp_path}/")
    assert (tmp_path / "new" / "below" / "data").read_text() == name
    assert (tmp_path / f"{name}.txt").read_text() == name
    (tmp_path / f"{LIKE[ODD.index(name)]}.txt").write_text("another one")
    fs.put(str(tmp_path / f"{name}.txt"), f"{odd}/back/")
    assert fs.find(f"{odd}/back") == [f"{odd}/back/{name}.txt"]
    fs.put([str(tmp_path / f"{name}.txt")], f"{odd}/list/")
    assert fs.find(f"{odd}/list") == [f"{odd}/list/{name}.txt"]


def test_keys_of_a_mapping(fs: Any, odd: str) -> None:
    mapping = fs.get_mapper(odd)
    keys = [f"{name}.txt" for name in ODD]
    assert mapping.getitems(keys) == {key: key[:-4].encode() for key in keys}
    for key in keys:
        assert mapping[key] == key[:-4].encode()
        del mapping[key]
        with pytest.raises(KeyError):
            mapping[key]
        with pytest.raises(KeyError):
            del mapping[key]
    assert {f"{name}.txt" for name in LIKE} <= set(mapping)
    mapping.clear()
    assert fs.ls(odd) == []


def test_exists_and_lexists_of_symlinks(fs: Any, room: str) -> None:
    fs.symlink("nowhere", f"{room}/dangling")
    assert fs.lexists(f"{room}/dangling")
    assert not fs.exists(f"{room}/dangling")
    fs.pipe_file(f"{room}/nowhere", b"")
    assert fs.exists(f"{room}/dangling")


def test_walk_does_not_follow_symlinks(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/a/b/f", b"")
    fs.symlink(room, f"{room}/a/b/up")
    assert [directory for directory, _, _ in fs.walk(room)] == [room, f"{room}/a", f"{room}/a/b"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_text_has_one_byte_order_mark(fs: Any, room: str, encoding: str, tmp_path: Path) -> None:
    for mode, part in (("w", "one\n"), ("a", "two\n"), ("a", "three\n")):
        with fs.open(f"{room}/x", mode, encoding=encoding) as out, open(tmp_path / "x", mode, encoding=encoding) as local:
            out.write(part)
            local.write(part)
    assert fs.cat_file(f"{room}/x") == (tmp_path / "x").read_bytes()


def test_a_transaction_that_fails_ends(fs: Any, room: str) -> None:
    fs.mkdir(f"{room}/gone")
    fs.start_transaction()
    for name in ("first", "gone/second", "third"):
        with fs.open(f"{room}/{name}", "wb") as file:
            file.write(b"x")
    fs.rm(f"{room}/gone", recursive=True)
    with pytest.raises(FileNotFoundError):
        fs.end_transaction()
    fs.pipe_file(f"{room}/after", b"x")
    assert fs.exists(f"{room}/after")
    assert not fs.exists(f"{room}/third")


def test_blocks_that_were_read_are_kept(fs: Any, room: str, fs3_options: dict[str, str], tmp_path: Path) -> None:
    import fsspec

    data = bytes(range(256)) * 8192
    fs.pipe_file(f"{room}/x", data)
    cached = fsspec.filesystem(
        "blockcache", target_protocol="fs3", target_options=fs3_options, cache_storage=str(tmp_path), skip_instance_cache=True
    )
    with cached.open(f"{room}/x", "rb", block_size=65536) as file:
        file.seek(1_000_001)
        assert file.read(100) == data[1_000_001:1_000_101]
    fs.pipe_file(f"{room}/x", bytes(len(data)))
    with cached.open(f"{room}/x", "rb", block_size=65536) as file:
        file.seek(1_000_001)
        assert file.read(100) == data[1_000_001:1_000_101]


@pytest.mark.parametrize("recursive", [False, True])
def test_what_is_not_on_this_machine_is_named(fs: Any, room: str, tmp_path: Path, recursive: bool) -> None:
    """fsspec's own error has neither errno nor name."""
    for name in ("nothing", "nothing*"):
        with pytest.raises(FileNotFoundError) as missing:
            fs.put(str(tmp_path / name), f"{room}/x", recursive=recursive)
        assert missing.value.errno == errno.ENOENT
        assert missing.value.filename == str(tmp_path / name)
