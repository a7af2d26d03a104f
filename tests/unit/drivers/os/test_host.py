"""The identity of a host."""

from __future__ import annotations

import os
from pathlib import Path

from fs3.drivers.os.host import host_identity


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
