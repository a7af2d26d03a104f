"""Names through fsspec: what other filesystems' users expect of listing, finding, moving and removing."""

from __future__ import annotations

import datetime
import errno
import json
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fs3.base.errors import FS3Error


def tree(fs: Any, room: str) -> None:
    for name in ("a/one", "a/b/two", "a/b/three", "part-01", "part-02", "other"):
        fs.pipe_file(f"{room}/{name}", name.encode())
    fs.mkdir(f"{room}/empty")


def test_info_says_everything_consumers_look_at(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/x", b"12345")
    info = fs.info(f"{room}/x")
    assert (info["name"], info["size"], info["type"], info["nlink"], info["islink"]) == (f"{room}/x", 5, "file", 1, False)
    assert isinstance(info["mtime"], float)
    assert abs(info["mtime"] - datetime.datetime.now().timestamp()) < 60
    assert fs.modified(f"{room}/x").tzinfo is not None
    assert fs.created(f"{room}/x") <= fs.modified(f"{room}/x")
    assert fs.info(room)["type"] == "directory"
    json.dumps(info)


def test_etag_ukey_and_checksum_change_with_content_and_stay_without(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/x", b"one")
    before = fs.info(f"{room}/x")["ETag"], fs.ukey(f"{room}/x"), fs.checksum(f"{room}/x")
    assert (fs.info(f"{room}/x")["ETag"], fs.ukey(f"{room}/x"), fs.checksum(f"{room}/x")) == before
    fs.pipe_file(f"{room}/x", b"two")
    after = fs.info(f"{room}/x")["ETag"], fs.ukey(f"{room}/x"), fs.checksum(f"{room}/x")
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_ls_of_directory_file_and_nothing(fs: Any, room: str) -> None:
    tree(fs, room)
    assert fs.ls(room, detail=False) == [f"{room}/{name}" for name in ("a", "empty", "other", "part-01", "part-02")]
    assert [info["type"] for info in fs.ls(room)] == ["directory", "directory", "file", "file", "file"]
    assert [info["name"] for info in fs.ls(f"{room}/other")] == [f"{room}/other"]
    assert fs.ls(f"{room}/other", detail=False) == [f"{room}/other"]
    assert fs.ls(f"{room}/empty") == []
    with pytest.raises(FileNotFoundError) as caught:
        fs.ls(f"{room}/missing")
    assert caught.value.filename == f"{room}/missing"


def test_find_finds_what_walk_walks(fs: Any, room: str) -> None:
    tree(fs, room)
    files = [f"{directory}/{name}" for directory, _, names in fs.walk(room) for name in names]
    assert fs.find(room) == sorted(files)
    assert set(fs.find(room, withdirs=True)) - set(files) == {room, f"{room}/a", f"{room}/a/b", f"{room}/empty"}
    assert fs.find(room, maxdepth=1) == [f"{room}/other", f"{room}/part-01", f"{room}/part-02"]
    assert fs.find(room, maxdepth=2) == sorted([f"{room}/a/one", *fs.find(room, maxdepth=1)])
    assert fs.find(f"{room}/other") == [f"{room}/other"]
    assert fs.find(f"{room}/missing") == []
    assert fs.find(room, prefix="part-") == [f"{room}/part-01", f"{room}/part-02"]
    assert fs.find(room, prefix="a/b/t") == [f"{room}/a/b/three", f"{room}/a/b/two"]
    assert fs.find(room, detail=True)[f"{room}/a/one"]["size"] == len("a/one")
    bottom_up = [directory for directory, _, _ in fs.walk(room, topdown=False)]
    assert bottom_up[-1] == room
    assert bottom_up.index(f"{room}/a/b") < bottom_up.index(f"{room}/a")


def test_walk_can_be_pruned_and_says_what_is_missing(fs: Any, room: str) -> None:
    tree(fs, room)
    seen = []
    for directory, names, _ in fs.walk(room):
        seen.append(directory)
        if "a" in names:
            names.remove("a")
    assert seen == [room, f"{room}/empty"]
    assert list(fs.walk(f"{room}/missing")) == [(f"{room}/missing", [], [])]
    with pytest.raises(FileNotFoundError):
        list(fs.walk(f"{room}/missing", on_error="raise"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("part-*", ["part-01", "part-02"]),
        ("part-0?", ["part-01", "part-02"]),
        ("part-0[2-9]", ["part-02"]),
        ("*", ["a", "empty", "other", "part-01", "part-02"]),
        ("a/*/t*", ["a/b/three", "a/b/two"]),
        ("**/t*", ["a/b/three", "a/b/two"]),
        ("a/**", ["a", "a/b", "a/b/three", "a/b/two", "a/one"]),
        ("*/", ["a", "empty"]),
        ("nothing*", []),
        ("other", ["other"]),
    ],
)
def test_glob(fs: Any, room: str, pattern: str, expected: list[str]) -> None:
    tree(fs, room)
    assert fs.glob(f"{room}/{pattern}") == [f"{room}/{name}" for name in expected]


def test_du(fs: Any, room: str) -> None:
    tree(fs, room)
    sizes = fs.du(room, total=False)
    assert sizes == {f"{room}/{name}": len(name) for name in ("a/one", "a/b/two", "a/b/three", "part-01", "part-02", "other")}
    assert fs.du(room) == sum(sizes.values())
    assert fs.du(f"{room}/other") == len("other")


def test_a_large_directory_comes_in_pages(fs: Any, room: str) -> None:
    names = [f"{room}/many/{index:05d}" for index in range(2500)]
    fs.mkdir(f"{room}/many")
    fs.pipe(dict.fromkeys(names, b""), batch_size=256)
    assert fs.ls(f"{room}/many", detail=False) == names
    assert fs.find(f"{room}/many") == names
    assert fs.glob(f"{room}/many/0230*") == [name for name in names if "/0230" in name]


def test_every_client_sees_what_another_one_did(fs: Any, room: str) -> None:
    assert fs.ls(room) == []
    other = type(fs)(skip_instance_cache=True, **fs.storage_options)
    if other.embedded:
        assert other.ls(room) == []  # shares the services that run in this process
    other.pipe_file(f"{room}/new", b"x")
    assert fs.ls(room, detail=False) == [f"{room}/new"]
    assert fs.exists(f"{room}/new")
    other.pipe_file(f"{room}/new", b"longer")
    assert fs.cat_file(f"{room}/new") == b"longer"
    other.rm(f"{room}/new")
    assert not fs.exists(f"{room}/new")
    assert fs.ls(room) == []


def test_mkdir_makedirs_rmdir(fs: Any, room: str) -> None:
    with pytest.raises(FileNotFoundError):
        fs.mkdir(f"{room}/x/y", create_parents=False)
    fs.mkdir(f"{room}/x/y")
    with pytest.raises(FileExistsError):
        fs.mkdir(f"{room}/x/y")
    with pytest.raises(FileExistsError):
        fs.makedirs(f"{room}/x/y")
    fs.makedirs(f"{room}/x/y", exist_ok=True)
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(f"{room}/x")
    fs.rmdir(f"{room}/x/y")
    assert not fs.exists(f"{room}/x/y")
    fs.touch(f"{room}/file")
    for below in (f"{room}/file", f"{room}/file/below"):
        with pytest.raises((FileExistsError, NotADirectoryError)):
            fs.makedirs(below, exist_ok=True)


def test_rm(fs: Any, room: str) -> None:
    tree(fs, room)
    with pytest.raises(IsADirectoryError):
        fs.rm(f"{room}/a")
    fs.rm(f"{room}/part-*")
    assert not fs.exists(f"{room}/part-01")
    fs.rm([f"{room}/a", f"{room}/a/b", f"{room}/other"], recursive=True)
    assert fs.ls(room, detail=False) == [f"{room}/empty"]
    for recursive in (False, True):
        with pytest.raises(FileNotFoundError):
            fs.rm(f"{room}/a", recursive=recursive)
        with pytest.raises(FileNotFoundError):
            fs.rm(f"{room}/nothing*", recursive=recursive)
    with pytest.raises(FileNotFoundError):
        fs.rm_file(f"{room}/a")
    with pytest.raises(ValueError, match="root"):
        fs.rm("/", recursive=True)


def test_rm_with_maxdepth_keeps_what_is_deeper(fs: Any, room: str) -> None:
    tree(fs, room)
    fs.rm(f"{room}/a", recursive=True, maxdepth=1)
    assert fs.find(f"{room}/a") == [f"{room}/a/b/three", f"{room}/a/b/two"]


def test_mv_is_a_rename(fs: Any, room: str) -> None:
    tree(fs, room)
    file, directory = fs.info(f"{room}/other"), fs.info(f"{room}/a")
    fs.mv(f"{room}/other", f"{room}/moved")
    fs.mv(f"{room}/a", f"{room}/c")
    assert fs.info(f"{room}/moved")["ino"] == file["ino"]
    assert fs.info(f"{room}/c")["ino"] == directory["ino"]
    assert fs.cat_file(f"{room}/c/b/two") == b"a/b/two"
    assert not fs.exists(f"{room}/a")
    fs.mv(f"{room}/part-01", f"{room}/part-02")  # replaces
    assert fs.cat_file(f"{room}/part-02") == b"part-01"
    fs.mv(f"{room}/part-02", f"{room}/empty")  # into a directory
    assert fs.cat_file(f"{room}/empty/part-02") == b"part-01"
    fs.mv(f"{room}/moved", f"{room}/new/deeper/moved")
    assert fs.isfile(f"{room}/new/deeper/moved")
    fs.mv(f"{room}/c/b/t*", f"{room}/flat/")
    assert fs.ls(f"{room}/flat", detail=False) == [f"{room}/flat/three", f"{room}/flat/two"]
    fs.mv_file(f"{room}/flat/two", f"{room}/flat/three")
    assert fs.cat_file(f"{room}/flat/three") == b"a/b/two"


def test_mv_that_cannot_be_leaves_everything(fs: Any, room: str) -> None:
    tree(fs, room)
    with pytest.raises(FileNotFoundError) as caught:
        fs.mv(f"{room}/missing", f"{room}/x/y")
    assert caught.value.filename == f"{room}/missing"
    assert not fs.exists(f"{room}/x")
    with pytest.raises(OSError, match=r"itself|below|loop|inside"):
        fs.mv(f"{room}/a", f"{room}/a/b/inside")
    assert fs.cat_file(f"{room}/a/b/two") == b"a/b/two"


def test_symlinks_show_what_they_lead_to(fs: Any, room: str) -> None:
    tree(fs, room)
    fs.symlink("a/one", f"{room}/link")
    fs.symlink(f"{room}/a", f"{room}/dirlink")
    fs.symlink("nowhere", f"{room}/broken")
    fs.symlink(".", f"{room}/a/cycle")
    link = fs.info(f"{room}/link")
    assert (link["type"], link["islink"], link["destination"], link["size"]) == ("file", True, "a/one", 5)
    listed = {info["name"]: info for info in fs.ls(room)}
    assert listed[f"{room}/link"] == link
    assert listed[f"{room}/dirlink"]["type"] == "directory"
    assert listed[f"{room}/broken"]["type"] == "other"
    assert fs.cat_file(f"{room}/dirlink/one") == b"a/one"
    assert fs.isdir(f"{room}/dirlink")
    assert not fs.isfile(f"{room}/broken")
    found = fs.find(room)  # ends, in spite of the cycle, and sees every file once
    assert found.count(f"{room}/a/one") == 1
    assert not any("dirlink/" in name or "cycle/" in name for name in found)
    assert sum(1 for _ in fs.walk(room)) == 4
    fs.pipe_file(f"{room}/link", b"through")  # what the link leads to is replaced, not the link
    assert fs.cat_file(f"{room}/a/one") == b"through"
    assert fs.info(f"{room}/link")["islink"]
    fs.rm(f"{room}/link")
    assert fs.exists(f"{room}/a/one")


def test_touch(fs: Any, room: str) -> None:
    fs.touch(f"{room}/x")
    assert fs.size(f"{room}/x") == 0
    fs.pipe_file(f"{room}/x", b"content")
    before = fs.modified(f"{room}/x")
    fs.touch(f"{room}/x", truncate=False)
    assert fs.cat_file(f"{room}/x") == b"content"
    assert fs.modified(f"{room}/x") > before
    fs.touch(f"{room}/x", truncate=True)
    assert fs.size(f"{room}/x") == 0
    fs.touch(f"{room}/y", truncate=False)
    assert fs.isfile(f"{room}/y")


def test_permission_bits_survive_a_rewrite(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/secret", b"1")
    fs.chmod(f"{room}/secret", 0o600)
    fs.pipe_file(f"{room}/secret", b"2")
    with fs.open(f"{room}/secret", "wb") as file:
        file.write(b"3")
    assert fs.info(f"{room}/secret")["mode"] == 0o600


NAMES = [
    "with space",
    "ünïcödé-文件-🙂",
    "x" * 255,
    "é" * 127,
    "%41?#&=+",
    "-dash",
    ".hidden",
    "tab\there",
    "quote\"'",
    "::",
    "a:b@c",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_come_back_as_they_were_given(fs: Any, room: str, name: str) -> None:
    path = f"{room}/{name}"
    fs.pipe_file(path, b"x")
    assert fs.ls(room, detail=False) == [path]
    assert fs.cat_file(fs.unstrip_protocol(path)) == b"x"
    assert fs.find(room) == [path]
    fs.mv(path, f"{path[:-1]}_")
    assert fs.exists(f"{path[:-1]}_")


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "nul\0", "\ud800"])
def test_bad_names_are_refused_and_named(fs: Any, room: str, name: str) -> None:
    for call in (fs.touch, fs.mkdir, lambda path: fs.pipe_file(path, b""), fs.info):
        with pytest.raises((FS3Error, ValueError)) as caught:
            call(f"{room}/{name}")
        assert not isinstance(caught.value, AssertionError)
    assert fs.ls(room) == []


def test_dots_in_paths(fs: Any, room: str) -> None:
    tree(fs, room)
    assert fs.cat_file(f"{room}/a/../other") == b"other"
    assert fs.cat_file(f"{room}/./a//one") == b"a/one"
    assert fs.isdir("/../../")
    fs.pipe_file(f"{room}/a/b/../new", b"n")
    assert fs.cat_file(f"{room}/a/new") == b"n"


def test_paths_with_and_without_protocol_and_slash(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/x", b"1")
    for path in (f"{room}/x", room[1:] + "/x", f"fs3://{room}/x", fs.unstrip_protocol(f"{room}/x"), f"{room}/x/"):
        assert fs.cat_file(path) == b"1"
    assert fs.info("")["name"] == fs.info("/")["name"] == "/"


def test_url_round_trip() -> None:
    fs, path = fsspec.core.url_to_fs("fs3://127.0.0.1:1,127.0.0.2:2/a/b c")
    assert path == "/a/b c"
    assert fs.addresses == ["127.0.0.1:1", "127.0.0.2:2"]
    assert fs.unstrip_protocol(path) == "fs3://127.0.0.1:1,127.0.0.2:2/a/b c"
    again, same = fsspec.core.url_to_fs(fs.unstrip_protocol(path))
    assert (again, same) == (fs, path)


def test_a_tree_deeper_than_a_path_can_say_is_never_left_out_in_part(fs: Any, room: str, tmp_path: Path) -> None:
    """Renames make it, as on other file systems: each half is short enough. It can be removed, and moved up by its upper half."""
    half = "/".join(["d"] * 150)
    fs.pipe_file(f"{room}/x/{half}/f", b"upper")
    fs.pipe_file(f"{room}/y/{half}/f", b"lower")
    fs.mv(f"{room}/y", f"{room}/x/{half}/y")
    for look in (
        lambda: fs.find(f"{room}/x"),
        lambda: list(fs.walk(f"{room}/x")),
        lambda: fs.du(f"{room}/x"),
        lambda: fs.glob(f"{room}/x/**"),
        lambda: fs.expand_path(f"{room}/x", recursive=True),
        lambda: fs.copy(f"{room}/x", f"{room}/copy", recursive=True),
        lambda: fs.get(f"{room}/x", str(tmp_path / "x"), recursive=True),
    ):
        with pytest.raises(OSError, match="more than 256 components") as refusal:
            look()
        assert refusal.value.errno == errno.ENAMETOOLONG
    fs.mv(f"{room}/x/{half}/y", f"{room}/y")
    assert fs.cat_file(f"{room}/y/{half}/f") == b"lower"
    fs.mv(f"{room}/y", f"{room}/x/{half}/y")
    fs.rm(f"{room}/x", recursive=True)
    assert not fs.exists(f"{room}/x")
