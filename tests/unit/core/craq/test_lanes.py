from __future__ import annotations

from fs3.base.units import NEVER
from fs3.core.craq.admission.table import UNTAGGED, LaneState
from fs3.core.craq.flight import Flight, FlightPhase
from fs3.core.craq.lanes import Lane, QueuedUpdate, ReplicaLimits
from fs3.model.chunk import UpdateKind
from fs3.sim.ring1.one_replica import write


def lane_with(*waiting: QueuedUpdate) -> Lane:
    lane = Lane(Flight(write(1, version=3), FlightPhase.FORWARDING, [1], 100, retry_ns=50, serial=9))
    for entry in waiting:
        lane.enqueue(entry)
    return lane


def test_a_clients_update_is_found_by_its_tag_in_flight_and_waiting() -> None:
    behind = QueuedUpdate(write(2), [2], 200)
    lane = lane_with(behind)
    assert lane.find(write(1)) is lane.flight
    assert lane.find(write(2)) is behind
    assert lane.find(write(3)) is None
    assert lane.find(write(1, client=2)) is None


def test_an_untagged_update_of_a_client_is_never_taken_for_another() -> None:
    put = write(1, tag=UNTAGGED, kind=UpdateKind.PUT)
    lane = Lane(Flight(put, FlightPhase.STAGING, [1], 100))
    assert lane.find(put) is None


def test_a_forwarded_update_is_found_by_version_and_tag() -> None:
    behind = QueuedUpdate(write(2, version=4, from_target=1), [2], 200)
    lane = lane_with(behind)
    assert lane.find(write(1, version=3, from_target=1)) is lane.flight
    assert lane.find(write(2, version=4, from_target=1)) is behind
    assert lane.find(write(1, version=4, from_target=1)) is None
    assert lane.find(write(9, version=3, from_target=1)) is None


def test_what_an_update_meets() -> None:
    lane = lane_with(QueuedUpdate(write(2), [2], 200))
    assert lane.state(write(1), 2, 2) is LaneState.SAME
    assert lane.state(write(1), 2, 1) is LaneState.FULL
    assert lane.state(write(3), 2, 2) is LaneState.TAKEN
    assert lane.state(write(3), 1, 2) is LaneState.FULL
    lane.flight.phase = FlightPhase.HALTED
    assert lane.state(write(1), 2, 2) is LaneState.HALTED


def test_a_lane_is_due_when_its_flight_or_its_longest_waiting_is() -> None:
    assert lane_with().due_ns == 50
    assert lane_with(QueuedUpdate(write(2), [2], 40), QueuedUpdate(write(3), [3], 60)).due_ns == 40
    lane = lane_with()
    lane.flight.phase = FlightPhase.STAGING
    assert lane.due_ns == NEVER


def test_waiting_keeps_its_order_and_is_taken_at_once() -> None:
    entries = [QueuedUpdate(write(seq), [seq], seq) for seq in (2, 3, 4)]
    lane = lane_with(*entries)
    assert lane.describe() == "000000@3:forwarding+3"
    assert lane.take_queue() == entries
    assert lane.take_queue() == []


def test_timeouts_and_backoffs_double_up_to_their_limit() -> None:
    limits = ReplicaLimits(
        forward_timeout_min_ns=3, forward_timeout_max_ns=10, forward_backoff_min_ns=1, forward_backoff_max_ns=5
    )
    assert [limits.timeout_ns(attempts) for attempts in (0, 1, 2, 1000)] == [3, 6, 10, 10]
    assert [limits.backoff_ns(attempts) for attempts in (1, 2, 3, 4, 1000)] == [1, 2, 4, 5, 5]
