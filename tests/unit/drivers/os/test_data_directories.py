"""The data directories of a node: whose they are, what they hold, and what becomes of lost and broken ones."""

import json

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.drivers.os.data_directories import DataDirectories
from fs3.ports.disks import TargetNote


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


def test_a_store_from_before_notes_is_whole(tmp_path):
    disks = directories(tmp_path, "a")
    disks.make(TargetId(1), whole=True)
    (disks.ensure_target_dir(TargetId(1)) / "target.json").unlink()
    again = directories(tmp_path, "a")
    assert again.targets() == [1]
    assert again.read_note(TargetId(1)).whole


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
