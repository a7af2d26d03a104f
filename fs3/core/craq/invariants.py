"""What must hold of a replica between any two steps, once the effects of the first have been carried out."""

from __future__ import annotations

from collections.abc import Iterable

from fs3.base.ids import ChunkId
from fs3.base.units import NEVER
from fs3.core.craq.flight import FlightPhase
from fs3.core.craq.lanes import Lane
from fs3.core.craq.position import ChainRole
from fs3.core.craq.replica import Replica
from fs3.model.chunk import FILLS, UpdateKind


def check(replica: Replica, pending: Iterable[ChunkId] | None = None) -> None:
    """Raises AssertionError naming the target and what is wrong. Costs a store lookup per flight.

    With `pending`, all chunks the store has a pending version of: that each has a flight, or is remembered until it may have one.
    """
    who = f"target {replica.target_id}"
    replica.check()
    due = replica.next_deadline() or NEVER
    tokens: set[int] = set()
    for chunk, lane in replica.flights.lanes.items():
        _check_lane(replica, chunk, lane, f"{who} chunk {chunk.hex()}")
        assert due <= lane.due_ns, f"{who} chunk {chunk.hex()}: its deadline is not armed"
        waiters = [token for entry in lane.queue or () for token in entry.waiters] + lane.flight.waiters
        count = len(tokens) + len(waiters)
        tokens.update(waiters)
        assert len(tokens) == count, f"{who} chunk {chunk.hex()}: a token waits twice"
    if pending is not None and replica.is_open:
        for chunk in pending:
            settled = chunk in replica.flights.lanes or (chunk in replica.flights.orphans and not replica.position.serves)
            assert settled, f"{who} chunk {chunk.hex()}: nobody takes care of its pending version"


def _check_lane(replica: Replica, chunk: ChunkId, lane: Lane, who: str) -> None:
    flight = lane.flight
    phase = flight.phase
    meta = replica.view.get(chunk)
    assert flight.update.chunk == chunk, f"{who}: flight of another chunk"
    assert flight.update.version > 0, f"{who}: a flight without version"
    assert len(lane.queue or ()) <= replica.flights.limits.lane_waiting_max, f"{who}: too many updates wait"
    assert len(flight.waiters) <= replica.flights.limits.waiters_max, f"{who}: too many ask for one update"
    assert (flight.serial != 0) == (phase is FlightPhase.FORWARDING), f"{who}: serial {flight.serial} while {phase.name}"
    if phase is FlightPhase.STAGING or phase is FlightPhase.DROPPING:
        assert replica.position.role is not ChainRole.OUT or flight.abandoned, f"{who}: {phase.name} outside the live chain"
        return
    assert replica.position.role is not ChainRole.OUT, f"{who}: {phase.name} outside the live chain"
    assert not replica.position.is_last, f"{who}: {phase.name} without a successor"
    assert not flight.abandoned, f"{who}: abandoned but {phase.name}"
    if flight.is_fill:
        has = meta.committed if meta is not None else 0
        removes = flight.update.kind is UpdateKind.REMOVE
        assert replica.position.serves, f"{who}: a fill by a target that does not serve"
        assert replica.position.successor_syncs, f"{who}: a fill of a successor that does not sync"
        assert has == (0 if removes else flight.update.version), (
            f"{who}: a fill of {flight.update.version} but the store has {meta}"
        )
        assert lane.fill_version == replica.position.version, f"{who}: a fill of an older chain version"
        assert not flight.waiters, f"{who}: somebody waits for a fill"
        return
    assert meta is not None, f"{who}: {phase.name} but the store has nothing"
    assert meta.pending == flight.update.version, f"{who}: {phase.name} of {flight.update.version} but the store has {meta}"
    if replica.position.serves:
        # A predecessor that a crash made forget its last commit rolls it forward as a FILL. A syncing target stages that over
        # what it has committed under the same number, and may be made to serve before the successor has answered: the pending
        # version is then the committed one once more, to the byte. Anything else at or behind the committed version would undo a
        # write.
        again = meta.pending_kind in FILLS and (meta.pending, meta.pending_length, meta.pending_checksum) == (
            meta.committed,
            meta.length,
            meta.checksum,
        )
        assert meta.committed < meta.pending or again, f"{who}: pending {meta.pending} behind committed {meta.committed}"
    if phase is not FlightPhase.HALTED:
        assert flight.retry_ns < NEVER, f"{who}: {phase.name} without a deadline"
