"""The identity of a host."""

from __future__ import annotations

import os
from pathlib import Path

from fs3.drivers.os.host import host_identity, pid_space


def made(tmp_path: Path, machine: str | None = "m", boot: str | None = "b", mounts: str | None = "mnt:[1]") -> str:
    paths = []
    for name, text in (("machine", machine), ("boot", boot)):
        path = tmp_path / name
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text + "\n")
        paths.append(path)
    link = tmp_path / "mnt"
    link.unlink(missing_ok=True)
    if mounts is not None:
        os.symlink(mounts, link)
    return host_identity(*paths, link)


def test_it_depends_on_machine_boot_and_file_tree(tmp_path: Path) -> None:
    assert made(tmp_path) == made(tmp_path)
    different = {
        made(tmp_path),
        made(tmp_path, machine="n"),
        made(tmp_path, boot="c"),
        made(tmp_path, mounts="mnt:[2]"),
        made(tmp_path, machine=None),
    }
    assert len(different) == 5
    assert all(len(identity) == 16 for identity in different)


def test_it_is_empty_when_the_system_does_not_say(tmp_path: Path) -> None:
    assert made(tmp_path, boot=None) == ""
    assert made(tmp_path, boot="") == ""
    assert made(tmp_path, mounts=None) == ""


def test_all_processes_of_this_system_agree() -> None:
    assert host_identity() == host_identity()


def test_processes_know_each_other_where_boot_and_namespace_are_the_same(tmp_path: Path) -> None:
    def space(boot: str, namespace: str) -> int:
        (tmp_path / "boot").write_text(boot)
        link = tmp_path / "pid"
        link.unlink(missing_ok=True)
        link.symlink_to(namespace)
        return pid_space(tmp_path / "boot", link)

    one = space("boot-1\n", "pid:[1]")
    assert one == space("boot-1\n", "pid:[1]")
    assert len({one, space("boot-2\n", "pid:[1]"), space("boot-1\n", "pid:[2]")}) == 3
    assert 0 < one < 1 << 64
    assert space("", "pid:[1]") == 0
    assert pid_space(tmp_path / "none", tmp_path / "pid") == 0
    assert pid_space() == pid_space()
