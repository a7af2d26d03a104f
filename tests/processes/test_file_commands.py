"""`fs3 cp`, `mv`, `rm` and the other file commands: names are names, and nothing is left out without a word."""

from __future__ import annotations

import io
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fs3.cli.main import main

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.fixture
def fs(cluster_url: str) -> Any:
    return fsspec.filesystem("fs3", cluster=cluster_url.partition("://")[2])


@pytest.fixture
def room(fs: Any) -> Iterator[str]:
    path = f"/room-{uuid.uuid4().hex[:12]}"
    fs.mkdir(path)
    yield path
    fs.rm(path, recursive=True)


def run(*arguments: str, cwd: Path | None = None, code: int = 0) -> str:
    """What the command said, run in this process; it must end with this status."""
    out, err = io.BytesIO(), io.StringIO()
    before = Path.cwd(), sys.argv
    with io.TextIOWrapper(out, write_through=True) as text, redirect_stdout(text), redirect_stderr(err):
        os.chdir(cwd or before[0])
        sys.argv = ["fs3", *arguments]
        try:
            main()
            ended: object = 0
        except SystemExit as end:
            ended = end.code
        finally:
            os.chdir(before[0])
            sys.argv = before[1]
        said = out.getvalue().decode() + err.getvalue()
    assert (ended or 0) == code, said
    return said


def test_a_copied_tree_is_the_tree(fs: Any, cluster_url: str, room: str, tmp_path: Path) -> None:
    url = cluster_url + room
    fs.pipe_file(f"{room}/t/f[1]", b"x")
    fs.mkdir(f"{room}/t/empty")
    fs.symlink("../t/empty", f"{room}/t/linked")
    fs.symlink("nowhere", f"{room}/t/a-dangling")
    run("cp", "-r", f"{url}/t", f"{url}/t2")
    run("cp", "-r", f"{url}/t", f"{url}/t2/")
    for copied in (f"{room}/t2", f"{room}/t2/t"):
        assert fs.cat_file(f"{copied}/f[1]") == b"x"
        assert fs.isdir(f"{copied}/empty")
        assert fs.info(f"{copied}/linked")["destination"] == "../t/empty"
        assert fs.info(f"{copied}/a-dangling")["destination"] == "nowhere"
    run("cp", "-r", f"{url}/t", "here", cwd=tmp_path)
    assert (tmp_path / "here" / "f[1]").read_bytes() == b"x"
    assert (tmp_path / "here" / "empty").is_dir()
    assert (tmp_path / "here" / "linked").readlink() == Path("../t/empty")
    run("cp", "-r", f"{tmp_path}/here", f"{url}/back")
    assert fs.find(f"{room}/back", withdirs=True) == [
        name.replace(f"{room}/t", f"{room}/back", 1) for name in fs.find(f"{room}/t", withdirs=True)
    ]
    said = run("cp", "-r", f"{url}/t", f"{url}/t/deeper", code=1)
    assert "into itself" in said


def test_what_cannot_be_copied_is_named_and_the_rest_is_copied(fs: Any, cluster_url: str, room: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a-pipe")
    (tmp_path / "file").write_text("1,2")
    said = run("cp", "-r", str(tmp_path), f"{cluster_url}{room}/t", code=1)
    assert "a-pipe" in said
    assert "1 of 3 names were not copied" in said
    assert fs.cat_file(f"{room}/t/file") == b"1,2"


def test_local_paths_need_no_scheme_in_copies(fs: Any, cluster_url: str, room: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2")
    run("cp", "data.csv", f"{cluster_url}{room}/", cwd=tmp_path)
    assert fs.cat_file(f"{room}/data.csv") == b"1,2"
    run("cp", f"{cluster_url}{room}/data.csv", "again.csv", cwd=tmp_path)
    assert (tmp_path / "again.csv").read_text() == "1,2"
    said = run("cp", "again.csv", "./again.csv", cwd=tmp_path, code=1)
    assert "the same file" in said
    assert (tmp_path / "again.csv").read_text() == "1,2"


def test_odd_names_are_names(fs: Any, cluster_url: str, room: str) -> None:
    url = cluster_url + room
    others = {"b1.txt", "q1.txt", "s1.txt"}
    fs.pipe({f"{room}/{name}": b"other" for name in others})
    for name in ("b[1].txt", "q?.txt", "s*.txt"):
        fs.pipe_file(f"{room}/{name}", name.encode())
        assert run("cat", f"{url}/{name}") == name
        assert run("du", "-s", f"{url}/{name}").split()[0] == str(len(name))
        run("cp", f"{url}/{name}", f"{url}/copied")
        assert fs.cat_file(f"{room}/copied") == name.encode()
        run("mv", f"{url}/{name}", f"{url}/moved")
        assert fs.cat_file(f"{room}/moved") == name.encode()
        run("mv", f"{url}/moved", f"{url}/{name}")
        run("rm", f"{url}/{name}")
        assert not fs.exists(f"{room}/{name}")
    assert "b[1].txt" in run("rm", f"{url}/b[1].txt", code=1)
    assert {name for name in others if fs.exists(f"{room}/{name}")} == others


def test_patterns_work_in_every_command(fs: Any, cluster_url: str, room: str) -> None:
    url = cluster_url + room
    fs.pipe({f"{room}/w1": b"1", f"{room}/w2": b"2"})
    assert run("cat", f"{url}/w*") == "12"
    assert run("ls", f"{url}/w?").split() == ["w1", "w2"]
    assert run("du", f"{url}/w[12]").split()[0::2] == ["1", "1", "2"]
    assert run("stat", f"{url}/w*").count("ETag") == 2
    fs.setxattr(f"{room}/w1", "user.color", b"1")
    assert run("stat", f"{url}/w*").splitlines()[-1].split()[0] != "xattrs"
    assert [line.split() for line in run("stat", f"{url}/w*").splitlines() if "xattrs" in line] == [["xattrs", "user.color"]]
    assert "need a directory" in run("cp", f"{url}/w*", f"{url}/x", code=1)
    run("cp", f"{url}/w*", f"{url}/d/")
    assert fs.ls(f"{room}/d", detail=False) == [f"{room}/d/w1", f"{room}/d/w2"]
    run("rm", f"{url}/w*")
    run("mv", f"{url}/d/w*", f"{url}/")
    assert fs.ls(room, detail=False) == [f"{room}/d", f"{room}/w1", f"{room}/w2"]
    for command in ("ls", "cat", "cp", "rm", "mv", "stat", "du"):
        assert "pattern" in run(command, "--help")
        targets = [f"{url}/x"] if command in ("cp", "mv") else []
        assert "nothing matches" in run(command, f"{url}/nothing*", *targets, code=1)


def test_removing_a_symlink_removes_the_symlink(fs: Any, cluster_url: str, room: str) -> None:
    fs.pipe_file(f"{room}/t/f", b"x")
    fs.symlink("t", f"{room}/link")
    fs.symlink("nowhere", f"{room}/dangling")
    run("rm", f"{cluster_url}{room}/link", f"{cluster_url}{room}/dangling")
    assert fs.find(room) == [f"{room}/t/f"]
    assert not fs.lexists(f"{room}/link")


def test_names_with_the_letters_of_chains_and_of_markup_are_names(fs: Any, cluster_url: str, room: str, tmp_path: Path) -> None:
    url = cluster_url + room
    for name in ("a::b", "zip::x", "[red]r", "[", ":smile:", "x" * 120, "%20 #?&"):
        (tmp_path / name).write_text(name)
        run("cp", name, f"{url}/", cwd=tmp_path)
        assert run("cat", f"{url}/{name}") == name
        assert run("ls", f"{url}/{name}") == f"{name}\n"
        assert run("ls", "-l", f"{url}/{name}").endswith(f"  {name}\n")
        assert f"{room}/{name}\n" in run("stat", f"{url}/{name}")
        run("mv", f"{url}/{name}", f"{url}/{name}.moved")
        run("cp", f"{url}/{name}.moved", "back", cwd=tmp_path)
        assert (tmp_path / "back").read_text() == name
        run("rm", f"{url}/{name}.moved")
        assert f"{room}/{name}.moved'" in run("rm", f"{url}/{name}.moved", code=1)
    assert fs.ls(room) == []


def test_many_sources_are_copied_and_moved_into_a_directory(fs: Any, cluster_url: str, room: str, tmp_path: Path) -> None:
    url = cluster_url + room
    for name in ("a", "b", "sub/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "dangling").symlink_to("nowhere")
    said = run("cp", "a", "dangling", "sub", "missing", "b", f"{url}/d/", cwd=tmp_path, code=1)
    assert [path for path in ("dangling", "sub", "missing") if path not in said] == []
    assert "3 of 5 names were not copied" in said
    assert fs.ls(f"{room}/d", detail=False) == [f"{room}/d/a", f"{room}/d/b"]
    said = run("cp", "*", f"{url}/pattern/", cwd=tmp_path, code=1)
    assert "2 of 4 names were not copied" in said
    assert fs.ls(f"{room}/pattern", detail=False) == [f"{room}/pattern/a", f"{room}/pattern/b"]
    assert "need a directory" in run("cp", "a", "b", f"{url}/file", cwd=tmp_path, code=1)
    assert "need a directory" in run("cp", "no*", "b", f"{url}/file", cwd=tmp_path, code=1)
    assert "overwrite another source" in run("cp", "a", "sub/a", f"{url}/one/", cwd=tmp_path, code=1)
    assert fs.cat(f"{room}/one", recursive=True) == {f"{room}/one/a": b"a"}
    said = run("mv", f"{url}/d/a", f"{url}/missing", f"{url}/pattern/a", f"{url}/d/b", f"{url}/into/", code=1)
    assert "missing" in said
    assert "overwrite another source" in said
    assert fs.find(room) == [f"{room}/into/a", f"{room}/into/b", f"{room}/one/a", f"{room}/pattern/a", f"{room}/pattern/b"]


def test_what_fails_stops_no_command(fs: Any, cluster_url: str, room: str) -> None:
    url = cluster_url + room
    fs.pipe({f"{room}/a": b"1", f"{room}/d/x": b"2", f"{room}/z": b"3"})
    assert sorted(run("cat", f"{url}/*", code=1).partition("fs3")[0]) == ["1", "3"]
    assert run("ls", f"{url}/missing", f"{url}/d", f"{url}/*/x", code=1).startswith(f"{url}/d:\nx\nd/x\n")
    assert run("du", f"{url}/missing", f"{url}/d", code=1).startswith(f"1\t{room}/d/x\n1\t{room}/d\n")
    assert "name" in run("stat", f"{url}/missing", f"{url}/a", code=1)
    run("mkdir", f"{url}/a", f"{url}/new", code=1)
    assert fs.isdir(f"{room}/new")
    said = run("rm", f"{url}/*", f"{url}/missing", code=1)
    assert f"{room}/d' is a directory" in said
    assert fs.find(room, withdirs=True) == [room, f"{room}/d", f"{room}/d/x", f"{room}/new"]


def test_permissions_are_copied_with_a_new_file(fs: Any, cluster_url: str, room: str, tmp_path: Path) -> None:
    url = cluster_url + room
    for name, mode in (("tool", 0o755), ("secret", 0o600), ("plain", 0o644)):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(mode)
        run("cp", name, f"{url}/", cwd=tmp_path)
        assert fs.info(f"{room}/{name}")["mode"] & 0o777 == mode
        run("cp", f"{url}/{name}", "back", cwd=tmp_path)
        assert (tmp_path / "back").stat().st_mode & 0o777 == mode
        (tmp_path / "back").unlink()
    fs.chmod(f"{room}/tool", 0o600)
    run("cp", "tool", f"{url}/tool", cwd=tmp_path)
    assert fs.info(f"{room}/tool")["mode"] & 0o777 == 0o600  # of a file that is there, they stay
