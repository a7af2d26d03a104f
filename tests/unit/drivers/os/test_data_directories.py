"""The data directories of a node: whose they are, what they hold, and what becomes of lost and broken ones."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import TargetId
from fs3.base.limits import reserve_bytes, reserve_step_bytes
from fs3.base.status import Code
from fs3.drivers.os.data_directories import DataDirectories
from fs3.model.generation import Generation
from fs3.ports.disks import TargetNote
from fs3.runtime import durable_files


def directories(tmp_path, *names, node="storage-1"):
    return DataDirectories([tmp_path / name for name in names], node)


def test_a_new_data_directory_belongs_to_the_node(tmp_path):
    disks = directories(tmp_path, "a", "b")
    assert disks.cluster == b""
    assert disks.targets() == []
    assert disks.next_incarnation() == 0, "nothing is known: the manager says which start this is"
    disks.store_incarnation(7)
    disks.join(b"x" * 16)
    disks.make(TargetId(7), whole=True)
    home = disks.ensure_target_dir(TargetId(7))
    assert home.is_dir()
    again = directories(tmp_path, "a", "b")
    assert again.cluster == b"x" * 16
    assert [again.next_incarnation(), again.next_incarnation()] == [8, 9]
    assert again.targets() == [7]
    assert again.ensure_target_dir(TargetId(7)) == home
    assert again.read_note(TargetId(7)) == TargetNote(whole=True)
    assert again.lost_targets() == again.failed_targets() == {}


def test_every_disk_knows_everything(tmp_path):
    disks = directories(tmp_path, "a", "b")
    disks.store_incarnation(4)
    disks.join(b"x" * 16)
    disks.make(TargetId(1), whole=True)
    on_a = disks.ensure_target_dir(TargetId(1)).is_relative_to(tmp_path / "a")
    replaced = tmp_path / ("a" if on_a else "b")
    for file in sorted(replaced.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    again = directories(tmp_path, "a", "b")
    assert again.next_incarnation() == 5
    assert again.cluster == b"x" * 16
    assert set(again.lost_targets()) == {1}
    again.join(b"x" * 16)
    assert json.loads((replaced / "node.json").read_text())["cluster"] == (b"x" * 16).hex()


def test_the_directory_of_another_node_is_refused(tmp_path):
    directories(tmp_path, "a")
    with pytest.raises(FS3Error, match="belongs to node 'storage-1', not to 'storage-2'") as caught:
        directories(tmp_path, "a", node="storage-2")
    assert caught.value.code is Code.CONFIG
    assert caught.value.filename == str(tmp_path / "a")


def test_another_cluster_is_refused(tmp_path):
    disks = directories(tmp_path, "a")
    disks.join(b"x" * 16)
    disks.join(b"x" * 16)
    with pytest.raises(FS3Error, match="belongs to cluster 7878") as caught:
        disks.join(b"y" * 16)
    assert caught.value.code is Code.WRONG_CLUSTER


def test_directories_of_two_clusters_do_not_mix(tmp_path):
    directories(tmp_path, "a").join(b"x" * 16)
    directories(tmp_path, "b").join(b"y" * 16)
    with pytest.raises(FS3Error, match="different clusters"):
        directories(tmp_path, "a", "b")
    # A fresh disk beside an old one is given the old one's cluster when the node joins.
    directories(tmp_path, "a", "c").join(b"x" * 16)
    assert directories(tmp_path, "c").cluster == b"x" * 16


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"{", "damaged"), (b'{"format": 9, "name": "s"}', "format 9"), (b'{"format": 1, "name": "s", "cluster": "zz"}', "damaged")],
)
def test_a_node_file_that_cannot_be_read_is_named(tmp_path, text, said):
    (tmp_path / "node.json").write_bytes(text)
    with pytest.raises(FS3Error, match=said) as caught:
        DataDirectories([tmp_path], "s")
    assert "node.json" in caught.value.filename


def test_targets_without_a_node_file_are_not_taken_over(tmp_path):
    directories(tmp_path, "a").make(TargetId(3), whole=True)
    (tmp_path / "a" / "node.json").unlink()
    with pytest.raises(FS3Error, match=r"node\.json, which says whose they are, is missing") as caught:
        directories(tmp_path, "a")
    assert caught.value.code is Code.CONFIG


def test_a_target_that_is_gone_is_lost_and_not_new(tmp_path):
    disks = directories(tmp_path, "a", "b")
    disks.make(TargetId(1), whole=True)
    disks.make(TargetId(2), whole=True)
    home = disks.ensure_target_dir(TargetId(1))
    (home / "target.json").unlink()
    home.rmdir()
    again = directories(tmp_path, "a", "b")
    assert again.targets() == [2]
    assert set(again.lost_targets()) == {1}
    with pytest.raises(FS3Error, match="no data of target 1 any more"):
        again.ensure_target_dir(TargetId(1))
    again.make(TargetId(1), whole=False)
    assert again.lost_targets() == {}
    assert not directories(tmp_path, "a", "b").read_note(TargetId(1)).whole


def test_what_is_noted_about_a_target_survives(tmp_path):
    disks = directories(tmp_path, "a")
    disks.make(TargetId(1), whole=False)
    note = TargetNote(whole=True, scrub_after=b"k" * 16, scrub_passes=3)
    disks.write_note(TargetId(1), note)
    assert directories(tmp_path, "a").read_note(TargetId(1)) == note


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text('{"format": 1'), lambda file: file.write_text("")])
def test_a_store_whose_note_is_gone_is_not_whole(tmp_path, damage):
    disks = directories(tmp_path, "a")
    disks.make(TargetId(1), whole=True)
    disks.write_note(TargetId(1), TargetNote(generations=(Generation(4, b"8 bytes!"),)))
    damage(disks.ensure_target_dir(TargetId(1)) / "target.json")
    again = directories(tmp_path, "a")
    assert again.targets() == [1]
    assert again.read_note(TargetId(1)) == TargetNote(whole=False)


def test_a_full_disk_has_room_for_its_notes(tmp_path, monkeypatch):
    """What is written durably needs room that the reserve gives back."""
    disks = directories(tmp_path, "a")
    disks.make(TargetId(1), whole=True)
    reserve = tmp_path / "a" / "reserve"
    assert reserve.stat().st_size == reserve_bytes
    written = durable_files.write_durably

    def write_when_short(file: Path, content: bytes) -> None:
        if reserve.stat().st_size > reserve_bytes - 2 * reserve_step_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(file, content)

    monkeypatch.setattr("fs3.drivers.os.space_reserve.write_durably", write_when_short)
    disks.write_note(TargetId(1), TargetNote(scrub_passes=5))
    assert directories(tmp_path, "a").read_note(TargetId(1)).scrub_passes == 5
    assert reserve.stat().st_size == reserve_bytes, "filled up again"


def test_a_full_disk_without_a_reserve(tmp_path, monkeypatch):
    """How often it was started need not be written down; a note must be, and is as it was."""
    disks = directories(tmp_path, "a")
    disks.make(TargetId(1), whole=True)
    disks.store_incarnation(4)
    (tmp_path / "a" / "reserve").unlink()

    def refuse(file: Path, content: bytes) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("fs3.drivers.os.space_reserve.write_durably", refuse)
    assert disks.next_incarnation() == 5
    with pytest.raises(FS3Error, match="Disk quota exceeded") as caught:
        disks.write_note(TargetId(1), TargetNote(scrub_passes=5))
    assert caught.value.code is Code.NO_SPACE
    assert disks.read_note(TargetId(1)) == TargetNote()


def test_a_copy_is_another_directory(tmp_path):
    directories(tmp_path, "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert directories(tmp_path, "a").directory == directories(tmp_path, "a").directory != ""
    assert directories(tmp_path, "a").directory != directories(tmp_path, "b").directory


def test_room_is_told_once_for_each_file_system(tmp_path):
    [space] = directories(tmp_path, "a", "b").measure_space()
    assert space.path == str(tmp_path / "a")
    assert 0 < space.free_bytes < space.total_bytes


def test_a_disk_that_is_left_unused_keeps_what_it_has_and_gets_nothing(tmp_path, monkeypatch):
    """Two directories on one file system are one disk, by the path of the first."""
    monkeypatch.setattr(durable_files, "device_of", lambda path: 7 if path.name == "c" else 3)
    disks = directories(tmp_path, "a", "b", "c")
    for target in range(1, 7):
        disks.make(TargetId(target), whole=True)
    first, second = disks.measure_space()
    assert (first.path, second.path) == (str(tmp_path / "a"), str(tmp_path / "c"))
    assert [len(first.targets), len(second.targets)] == [4, 2]
    assert not first.is_drained
    assert disks.leave_unused([first.path])
    assert not disks.leave_unused([first.path]), "no news"
    assert disks.measure_space()[0].is_drained
    disks.make(TargetId(7), whole=True)
    assert [disk.targets for disk in disks.measure_space()] == [first.targets, (*second.targets, 7)]
    disks.leave_unused([first.path, second.path])
    disks.make(TargetId(8), whole=True)
    assert sum(len(disk.targets) for disk in disks.measure_space()) == 8, "there is no other disk"
    disks.leave_unused([])
    disks.make(TargetId(9), whole=True)
    assert 9 in disks.measure_space()[0].targets


@pytest.mark.parametrize(
    ("change", "said"),
    [({"target": 9}, "belongs to target 9"), ({"cluster": "79" * 16}, "belongs to cluster 7979"), ({"format": 2}, "format 2")],
)
def test_a_target_of_somebody_else_is_left_alone(tmp_path, change, said):
    disks = directories(tmp_path, "a")
    disks.join(b"x" * 16)
    disks.make(TargetId(1), whole=True)
    disks.make(TargetId(2), whole=True)
    file = disks.ensure_target_dir(TargetId(1)) / "target.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    before = file.read_text()
    again = directories(tmp_path, "a")
    assert again.targets() == [2]
    assert said in again.failed_targets()[TargetId(1)]
    assert again.lost_targets() == {}, "it is not made anew: somebody may want it back"
    assert file.read_text() == before


def test_a_damaged_store_is_moved_and_not_deleted(tmp_path):
    disks = directories(tmp_path, "a")
    for number in (1, 2):
        disks.make(TargetId(1), whole=True)
        (disks.ensure_target_dir(TargetId(1)) / "index").write_text(f"damaged {number}")
        place = disks.quarantine(TargetId(1))
        assert place.endswith(f"1.damaged-{number}")
        assert set(disks.lost_targets()) == {1}
    again = directories(tmp_path, "a")
    assert again.targets() == []
    assert (tmp_path / "a" / "targets" / "1.damaged-1" / "index").read_text() == "damaged 1"
    assert (tmp_path / "a" / "targets" / "1.damaged-2" / "index").read_text() == "damaged 2"


def test_a_disk_that_does_not_work_takes_only_its_own_targets(tmp_path):
    disks = directories(tmp_path, "a", "b")
    disks.store_incarnation(1)
    for number in range(1, 9):
        disks.make(TargetId(number), whole=True)
    on_b = {target for target in disks.targets() if disks.ensure_target_dir(target).is_relative_to(tmp_path / "b")}
    (tmp_path / "b").rename(tmp_path / "pulled out")
    (tmp_path / "b").write_text("not a directory")
    again = directories(tmp_path, "a", "b")
    assert set(again.targets()) == set(disks.targets()) - on_b
    assert set(again.failed_targets()) == on_b
    assert all("cannot be used" in why for why in again.failed_targets().values())
    assert again.lost_targets() == {}, "what is on that disk may come back"
    assert again.next_incarnation() == 2


def test_impossible_directories_are_refused(tmp_path):
    with pytest.raises(FS3Error, match="at least one"):
        DataDirectories([], "s")
    with pytest.raises(FS3Error, match="twice"):
        DataDirectories([tmp_path, tmp_path], "s")
    (tmp_path / "file").write_text("")
    with pytest.raises(FS3Error, match="cannot be used"):
        DataDirectories([tmp_path / "file"], "s")
