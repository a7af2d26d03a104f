"""The counter of a node's starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.runtime.durable_files import write_durably
from fs3.runtime.incarnation import GivenIncarnation, IncarnationFile


def test_a_new_directory_knows_none_until_the_manager_gives_one_out(tmp_path: Path) -> None:
    file = tmp_path / "meta" / "incarnation"
    assert IncarnationFile(file).next_incarnation() == 0
    assert not file.exists(), "nothing is made up"
    IncarnationFile(file).store_incarnation(7)
    assert file.read_text() == "7"
    assert [IncarnationFile(file).next_incarnation() for _ in range(2)] == [8, 9]
    assert [path.name for path in file.parent.iterdir()] == ["incarnation"]


def test_a_file_that_is_no_counter_is_named(tmp_path: Path) -> None:
    file = tmp_path / "incarnation"
    file.write_text("seven")
    with pytest.raises(FS3Error, match="this is not a boot counter") as failure:
        IncarnationFile(file).next_incarnation()
    assert failure.value.code is Code.DISK
    assert failure.value.filename == str(file)


def test_a_given_one_is_within_lease_while_the_process_lives() -> None:
    counter = GivenIncarnation(0)
    assert counter.next_incarnation() == 0
    counter.store_incarnation(3)
    assert counter.next_incarnation() == 3


def test_what_a_former_write_left_behind_is_no_hindrance(tmp_path: Path) -> None:
    file = tmp_path / "node.json"
    (tmp_path / "node.json.new").write_bytes(b"half of it")
    write_durably(file, b"one")
    write_durably(file, b"two")
    assert file.read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["node.json"]
