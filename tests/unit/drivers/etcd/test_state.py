"""What an operator is told of the etcd cluster."""

from fs3.drivers.etcd.state import EtcdState
from fs3.wire.etcd import EtcdStatus


def member(*errors: str) -> EtcdStatus:
    return EtcdStatus(1, "3.4.23", 1, 2_500_000, 1_000_000, errors)


def test_nothing_is_said_of_members_that_are_well() -> None:
    state = EtcdState({"a:1": member(), "b:1": member(), "c:1": member()}, 3)
    assert state.problems == ()
    assert state.describe() == "3 of 3 members answer, version 3.4.23, 2.5 MB each"


def test_silence_alarms_and_members_that_are_not_named_are_said() -> None:
    state = EtcdState({"a:1": member("memberID:1 alarm:NOSPACE "), "b:1": None}, 3)
    silent, unnamed, alarm = state.problems
    assert "b:1 does not answer" in silent
    assert "3 members, of which --kv names 2" in unnamed
    assert "NOSPACE" in alarm
    assert EtcdState({"a:1": None}).describe() == "0 of 1 members answer, version none, 0.0 MB each"
