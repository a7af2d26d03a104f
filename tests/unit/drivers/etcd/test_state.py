"""What an operator is told of the etcd cluster."""

from fs3.drivers.etcd.room import EtcdRoom, parse_room
from fs3.drivers.etcd.state import EtcdState
from fs3.wire.etcd import EtcdStatus


def member(*errors: str) -> EtcdStatus:
    return EtcdStatus(1, "3.4.23", 1, 2_500_000, 1_000_000, errors)


PAGE = """# HELP etcd_server_quota_backend_bytes Current backend storage quota size in bytes.
etcd_server_quota_backend_bytes 2.147483648e+09
etcd_debugging_mvcc_compact_revision {compacted}
etcd_debugging_mvcc_current_revision 3.5e+06
"""


def test_what_a_member_says_of_its_room() -> None:
    assert parse_room(PAGE.format(compacted="3.49e+06")) == EtcdRoom(2 << 30, 10_000)
    assert parse_room(PAGE.format(compacted="-1")) == EtcdRoom(2 << 30, 3_500_000)
    assert parse_room("<html>") == EtcdRoom()


def test_little_room_and_no_compaction_are_said_before_nothing_can_be_changed() -> None:
    members = {"a:1": member(), "b:1": member(), "c:1": None}
    rooms = {"a:1": EtcdRoom(3_000_000, 10), "b:1": EtcdRoom(3_300_000, 3_000_000), "c:1": EtcdRoom(1, 1)}
    state = EtcdState(members, 3, rooms)
    silent, full, uncompacted = state.problems
    assert "c:1" in silent
    assert "at a:1 take 83 % of its quota of 3 MB; 2 MB of that would be free" in full
    assert "at b:1 keeps 3,000,000 old revisions" in uncompacted
    assert "--auto-compaction-retention" in uncompacted
    del rooms["c:1"]
    assert EtcdState(members, 3, rooms).describe().endswith("2.5 of 3 MB each")


def test_nothing_is_said_of_members_that_are_well() -> None:
    state = EtcdState({"a:1": member(), "b:1": member(), "c:1": member()}, 3)
    assert state.problems == ()
    assert state.describe() == "3 of 3 members answer, version 3.4.23, 2.5 MB each"


def test_silence_alarms_and_members_that_are_not_named_are_said() -> None:
    state = EtcdState({"a:1": member("memberID:1 alarm:NOSPACE "), "b:1": None}, 3)
    silent, alarm = state.problems
    assert "b:1 does not answer" in silent
    assert state.describe().startswith("1 of 2 members answer (1 more are not named")
    assert "NOSPACE" in alarm
    assert EtcdState({"a:1": None}).describe() == "0 of 1 members answer, version none, 0.0 MB each"
