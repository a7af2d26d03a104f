from __future__ import annotations

import pytest

from fs3.base.units import NEVER
from fs3.core.craq.admission.table import UNTAGGED
from fs3.core.craq.flight import Flight, FlightPhase, make_resumed_flight
from fs3.model.chunk import ChunkMeta, UpdateKind
from fs3.sim.ring1.one_replica import tag, write


def test_a_flight_is_due_for_its_askers_only_while_there_are_any() -> None:
    flight = Flight(write(1), FlightPhase.FORWARDING, [1], expires_ns=10, retry_ns=20)
    assert flight.due_ns == 10
    flight.waiters.clear()
    assert flight.due_ns == 20


def test_nothing_is_due_while_the_store_has_the_data() -> None:
    assert Flight(write(1), FlightPhase.STAGING, [1], expires_ns=10).due_ns == NEVER


@pytest.mark.parametrize(
    ("pending", "resumes"),
    [
        (UpdateKind.WRITE, UpdateKind.FILL),
        (UpdateKind.PUT, UpdateKind.FILL),
        (UpdateKind.TRUNCATE, UpdateKind.FILL),
        (UpdateKind.FILL, UpdateKind.FILL),
        (UpdateKind.REMOVE, UpdateKind.REMOVE),
    ],
)
def test_what_is_pending_goes_on_whole_under_its_own_tag(pending: UpdateKind, resumes: UpdateKind) -> None:
    meta = ChunkMeta(3, 4, 1, 10, 11, pending, tag(7), 20, 21)
    flight = make_resumed_flight(write(1, 5, chain_version=9), meta, [8], 100)
    assert flight.update.kind is resumes
    assert (flight.update.version, flight.update.chain_version, flight.update.length) == (4, 9, 20)
    assert flight.update.tag == tag(7)
    assert flight.update.data is None
    assert (flight.length, flight.checksum, flight.has_data, flight.waiters) == (20, 21, False, [8])


def test_what_is_pending_without_a_tag_stays_untagged() -> None:
    assert make_resumed_flight(write(1), ChunkMeta(0, 1, 1, 0, 0), [], NEVER).update.tag == UNTAGGED
