"""Tools that install, build, copy and keep trees, on mounts."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from fs3.sim.conformance.fuse import why_no_mount
from tests.mounted_programs import finish, start
from tests.process_mounts import run

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
]

FILES = 300
"""Of a repository."""
UNITS = 12
"""Of a program in C."""

MAKEFILE = """
OBJECTS = $(patsubst %.c,%.o,$(wildcard src/*.c))
program: $(OBJECTS)
\t$(CC) -o $@ $^
%.o: %.c src/units.h
\t$(CC) -O1 -c -o $@ $<
"""

COUNTS_MAPPED = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
with mmap.mmap(fd, 0) as mapped:
    for number in range(int(sys.argv[3])):
        at = int(sys.argv[2]) + number * 4096
        mapped[at : at + 8] = number.to_bytes(8, "little")
        if not number % 10:
            mapped.flush()
        for before in range(number + 1):
            start = int(sys.argv[2]) + before * 4096
            assert mapped[start : start + 8] == before.to_bytes(8, "little")
    mapped.flush()
with open(sys.argv[1], "rb") as file:
    for number in range(int(sys.argv[3])):
        file.seek(int(sys.argv[2]) + number * 4096)
        assert file.read(8) == number.to_bytes(8, "little")
"""


def make_files(root: Path, count: int) -> None:
    """A tree of small files, a few larger ones, links and an empty directory."""
    for number in range(count):
        place = root / f"d{number % 17}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{number}").write_bytes(b"%d\n" % number * (number * 31 % 2000 + 1))
    (root / "large").write_bytes(bytes(range(256)) * 4000)
    (root / "program").write_bytes(b"#!/bin/sh\n")
    (root / "program").chmod(0o755)
    (root / "empty").mkdir()
    os.symlink("d1/f1", root / "symlink")
    os.link(root / "d0" / "f0", root / "hardlink")


def test_pip_installs_a_wheel_into_an_environment(mounts: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = mounts
    wheel = tmp_path / "sample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for number in range(40):
            packed.writestr(f"sample/part{number}.py", f"VALUE = {number}\n")
        parts = "\n".join(f"from sample.part{number} import VALUE as v{number}" for number in range(40))
        packed.writestr("sample/__init__.py", f"{parts}\n\ndef main():\n    print(v0 + v39)\n")
        info = "sample-1.0.dist-info"
        packed.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{info}/entry_points.txt", "[console_scripts]\nsample = sample:main\n")
        packed.writestr(f"{info}/RECORD", "")
    run(sys.executable, "-m", "venv", "--without-pip", str(one / "env"))
    pip = [sys.executable, "-m", "pip", "--python", str(one / "env/bin/python"), "--no-cache-dir", "--disable-pip-version-check"]
    run(*pip, "install", "-q", "--no-index", str(wheel))
    assert run(str(one / "env/bin/sample")) == "39\n"
    # The script names the interpreter by the path of the first mount; the other one has a path of its own.
    assert run(str(two / "env/bin/python"), "-c", "import sample; print(sample.__file__); sample.main()").splitlines() == [
        str(two / "env" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages/sample/__init__.py"),
        "39",
    ]
    run(*pip, "uninstall", "-q", "-y", "sample")
    assert not list(two.glob("env/lib/*/site-packages/sample*"))


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_of_a_tree_with_links(mounts: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = mounts
    make_files(tmp_path / "tree", 100)
    run("rsync", "-aH", f"{tmp_path}/tree/", f"{one}/tree/")
    assert run("rsync", "-aHi", f"{tmp_path}/tree/", f"{two}/tree/") == ""
    (tmp_path / "tree" / "d3" / "f3").write_text("changed")
    (tmp_path / "tree" / "d4" / "f4").unlink()
    said = run("rsync", "-aHi", "--delete", f"{tmp_path}/tree/", f"{two}/tree/")
    assert {line.split()[-1] for line in said.splitlines()} == {"d3/f3", "d4/f4", "d4/"}
    run("diff", "-r", str(tmp_path / "tree"), str(one / "tree"))


@pytest.mark.skipif(not (shutil.which("make") and shutil.which("cc")), reason="make or cc is not installed")
def test_a_tree_is_unpacked_and_built(mounts: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = mounts
    source = tmp_path / "source"
    (source / "src").mkdir(parents=True)
    (source / "Makefile").write_text(MAKEFILE)
    declared = "".join(f"int unit{number}(int);\n" for number in range(UNITS))
    (source / "src" / "units.h").write_text(declared)
    for number in range(UNITS):
        text = f'#include "units.h"\nint unit{number}(int x) {{ return x + {number}; }}\n'
        (source / "src" / f"unit{number}.c").write_text(text)
    calls = "".join(f"x = unit{number}(x); " for number in range(UNITS))
    main = f'#include <stdio.h>\n#include "units.h"\nint main(void) {{ int x = 0; {calls} printf("%d\\n", x); return 0; }}\n'
    (source / "src" / "main.c").write_text(main)
    run("tar", "-czf", str(tmp_path / "source.tgz"), "-C", str(tmp_path), "source")
    run("tar", "-xzf", str(tmp_path / "source.tgz"), "-C", str(one))
    run("make", "-s", "-j2", cwd=one / "source")
    assert run(str(two / "source" / "program")) == f"{sum(range(UNITS))}\n"
    # Times are those of the other mount as well: there is nothing to do, and then one unit.
    assert "up to date" in run("make", "program", cwd=two / "source")
    (two / "source" / "src" / "unit3.c").write_text('#include "units.h"\nint unit3(int x) { return x + 103; }\n')
    assert run("make", cwd=one / "source").count("-c -o") == 1
    assert run(str(two / "source" / "program")) == f"{sum(range(UNITS)) + 100}\n"
    run("tar", "-cf", str(tmp_path / "built.tar"), "-C", str(two), "source")
    run("tar", "-df", str(tmp_path / "built.tar"), "-C", str(one))


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_repository_of_hundreds_of_files(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    run("git", "init", "-q", str(one / "repository"))
    make_files(one / "repository", FILES)
    run("git", "add", ".", cwd=one / "repository")
    run("git", "commit", "-q", "-m", "all", cwd=one / "repository")
    run("git", "checkout", "-q", "-b", "other", cwd=one / "repository")
    run("git", "rm", "-q", "-r", "d1", "d2", cwd=one / "repository")
    run("git", "commit", "-q", "-m", "fewer", cwd=one / "repository")
    run("git", "clone", "-q", str(one / "repository"), str(one / "clone"))
    run("git", "gc", "-q", "--prune=now", cwd=one / "clone")
    for place in (one / "clone", two / "clone"):
        assert run("git", "-c", "safe.directory=*", "fsck", "--full", "--strict", cwd=place) == ""
        assert run("git", "-c", "safe.directory=*", "status", "--short", cwd=place) == ""
    run("git", "checkout", "-q", "HEAD~1", cwd=one / "clone")
    assert len(list(two.glob("clone/d*/f*"))) == FILES


def test_memory_mapped_by_readers_and_writers(mounts: tuple[Path, Path]) -> None:
    (mounts[0] / "mapped").write_bytes(bytes(4096 * 60))
    finish([start(COUNTS_MAPPED, mounts[0] / "mapped", at, 60) for at in (0, 16, 4000)])
    data = (mounts[1] / "mapped").read_bytes()
    for at in (0, 16, 4000):
        assert [int.from_bytes(data[at + number * 4096 :][:8], "little") for number in range(60)] == list(range(60))
