"""GetCluster: what every manager answers, the primary or not, so that it can be found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.base.version import Release, explain_conflict
from fs3.core.security.state import SecurityState
from fs3.model.cluster import ClusterInfo, DiskSpace
from fs3.model.principal import Right
from fs3.ports.clock import Clock
from fs3.ports.rpc import Call
from fs3.services.mgmtd.candidate import Candidate
from fs3.services.mgmtd.cluster_identity import ClusterIdentity
from fs3.services.mgmtd.publisher import RoutingPublisher
from fs3.wire.frames import PROTOCOL_VERSION
from fs3.wire.mgmtd_queries import cluster_info_to_pb, get_cluster_from_pb

SpaceMeter = Callable[[], Sequence[DiskSpace]]
"""Says how much room the disks of a process have."""


def measure_nothing() -> Sequence[DiskSpace]:
    """The `SpaceMeter` of a process without disks."""
    return ()


class DescribedManager(Protocol):
    """The manager that answers."""

    @property
    def is_stopped(self) -> bool:
        """It answers nothing any more."""
        ...

    @property
    def is_primary(self) -> bool:
        """It leads, and may act."""
        ...

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it listens."""
        ...


class ClusterHandler:
    """Answers for one manager, as far as that knows."""

    def __init__(
        self,
        manager: DescribedManager,
        identity: ClusterIdentity,
        candidate: Candidate,
        publisher: RoutingPublisher,
        security: SecurityState,
        clock: Clock,
        *,
        measure_space: SpaceMeter,
        release: Release,
    ) -> None:
        """`release`: what the manager runs."""
        self._manager = manager
        self._identity = identity
        self._candidate = candidate
        self._publisher = publisher
        self._security = security
        self._clock = clock
        self._measure_space = measure_space
        self._release = release

    def get_cluster(self, call: Call) -> None:
        """The handler of GetCluster."""
        if self._manager.is_stopped:
            call.fail(Code.SHUTTING_DOWN, "the management service is not running")
            return
        try:
            asking = get_cluster_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        # One that is too new finds that out by the answer; one that is too old may not know how to.
        if asking.level < self._release.oldest_level:
            call.fail(Code.PROTOCOL, f"the process that asks runs {explain_conflict(asking, self._release)}")
            return
        # As it is now: until the store has answered, this manager may win or lose an election.
        info = self._describe(call)

        def answer(cluster: bytes, problem: BaseException | None) -> None:
            if cluster:
                call.reply(cluster_info_to_pb(msgspec.structs.replace(info, cluster=cluster)))
            else:
                call.fail(Code.NOT_PRIMARY, str(problem) if problem is not None else "no manager has initialised the cluster yet")

        self._identity.find(answer)

    def _describe(self, call: Call) -> ClusterInfo:
        record, is_primary = self._candidate.record, self._manager.is_primary
        holder = record.holder if record is not None else None
        return ClusterInfo(
            cluster=b"",
            software=self._release.software,
            protocol=PROTOCOL_VERSION,
            is_primary=is_primary,
            primary=self._manager.endpoints if is_primary else holder.endpoints if holder is not None else (),
            managers=self._publisher.managers(),
            epoch=record.epoch if record is not None else 0,
            is_secured=self._security.is_on,
            has_logins=self._security.ring.newest != 0,
            takes_proofs=True,
            disks=tuple(self._measure_space()) if call.auth.rights & ~Right.ANYONE else (),
            release=self._release,
            wall_ms=self._clock.wall() // MILLISECOND,
        )
