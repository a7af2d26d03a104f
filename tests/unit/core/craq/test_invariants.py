from __future__ import annotations

import pytest

from fs3.base.units import NEVER
from fs3.core.craq import invariants
from fs3.core.craq.events import FillRequested
from fs3.core.craq.flight import FlightPhase
from fs3.sim.ring1.one_replica import OneReplica, chain, chunk, write


def flying(head: OneReplica) -> OneReplica:
    head.complete_stage(head.ask(write(1)))
    return head


def test_a_healthy_replica_passes(head: OneReplica) -> None:
    invariants.check(flying(head).replica, head.store.list_pending())


def test_a_deadline_that_is_not_armed_is_noticed(head: OneReplica) -> None:
    flying(head).replica.flights._due_ns = NEVER
    with pytest.raises(AssertionError, match="not armed"):
        invariants.check(head.replica)


def test_a_token_that_waits_twice_is_noticed(head: OneReplica) -> None:
    (lane,) = flying(head).replica.flights.lanes.values()
    lane.flight.waiters.append(1)
    with pytest.raises(AssertionError, match="waits twice"):
        invariants.check(head.replica)


def test_a_flight_without_its_pending_version_is_noticed(head: OneReplica) -> None:
    flying(head).store.drop_pending(chunk(0))
    with pytest.raises(AssertionError, match="the store has nothing"):
        invariants.check(head.replica)


def test_a_pending_version_nobody_takes_care_of_is_noticed(head: OneReplica) -> None:
    flying(head).replica.flights.lanes.clear()
    head.replica.flights.send_window.clear()
    with pytest.raises(AssertionError, match="nobody takes care"):
        invariants.check(head.replica, head.store.list_pending())


def test_waiting_for_an_answer_without_a_serial_is_noticed(head: OneReplica) -> None:
    (lane,) = flying(head).replica.flights.lanes.values()
    lane.flight.serial = 0
    with pytest.raises(AssertionError, match="serial 0 while FORWARDING"):
        invariants.check(head.replica)


def test_resting_without_a_deadline_is_noticed(head: OneReplica) -> None:
    (lane,) = flying(head).replica.flights.lanes.values()
    lane.flight.phase = FlightPhase.RESTING
    lane.flight.serial = 0
    lane.flight.retry_ns = NEVER
    head.replica.flights.send_window.clear()
    with pytest.raises(AssertionError, match="RESTING without a deadline"):
        invariants.check(head.replica)


def test_flights_outside_the_live_chain_are_noticed(head: OneReplica) -> None:
    lanes = dict(flying(head).replica.flights.lanes)
    head.join(chain(2, 2, 3, out=(1,)))
    head.replica.flights.lanes.update(lanes)
    with pytest.raises(AssertionError, match="outside the live chain"):
        invariants.check(head.replica)


def test_the_cheap_check_notices_answers_waited_for_without_a_successor(tail: OneReplica) -> None:
    tail.replica.check()
    tail.replica.flights.send_window.add(instead_of=0)
    with pytest.raises(AssertionError, match="more answers than it has flights"):
        tail.replica.check()


def filling() -> OneReplica:
    """Serves alone before a successor that syncs, and fills it with chunk 0."""
    source = OneReplica(1)
    source.open(chain(1, 1))
    source.complete_stage(source.ask(write(1)))
    source.join(chain(2, 1, syncing=(2,)))
    source.feed(FillRequested(chunk(0), 2))
    return source


def test_a_fill_of_another_version_than_what_is_committed_is_noticed() -> None:
    source = filling()
    source.store.records.clear()
    with pytest.raises(AssertionError, match="a fill of 1 but the store has None"):
        invariants.check(source.replica)


def test_a_fill_that_somebody_waits_for_is_noticed() -> None:
    source = filling()
    (lane,) = source.replica.flights.lanes.values()
    lane.flight.waiters.append(7)
    with pytest.raises(AssertionError, match="somebody waits for a fill"):
        invariants.check(source.replica)


def test_a_fill_of_an_older_chain_version_is_noticed() -> None:
    source = filling()
    (lane,) = source.replica.flights.lanes.values()
    lane.fill_version = 1
    with pytest.raises(AssertionError, match="older chain version"):
        invariants.check(source.replica)
