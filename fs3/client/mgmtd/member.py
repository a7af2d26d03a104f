"""A service process as a member of the cluster: registration, heartbeats with a report of every target, and the lease they earn.

The lease counts from the *sending* of the heartbeat that the manager acknowledged: whatever the network did to the answer, this
node never believes in its lease for longer than the manager does.

One try of a heartbeat is much shorter than the lease. A primary that answers nothing, dead or stopped, is left after one try,
and the next one is looked for at all addresses at once, so that it is found while the lease still runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence, Set
from typing import Protocol

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.ids import NodeId, TargetId
from fs3.base.limits import heartbeat_attempt_ns, heartbeat_ns, heartbeat_retry_ns
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.security.keys import ServiceKeys
from fs3.core.membership.departures import is_heard
from fs3.model.activity import NodeActivity
from fs3.model.chain import LocalState
from fs3.model.cluster import Heartbeat, LeaveRequest, RegisterNode, RegistrationAck, RoleConfig
from fs3.model.domain import NOWHERE, Domain
from fs3.model.generation import TargetClaim
from fs3.model.machine import MachineProof
from fs3.model.routing import Role
from fs3.model.target_report import TargetReport
from fs3.ports.clock import Clock
from fs3.runtime.incarnation import IncarnationCounter

log = logging.getLogger("fs3.member")


class Lease:
    """Until when this node may serve."""

    def __init__(self) -> None:
        self.until = 0
        """Monotonic nanoseconds; 0 before the first acknowledged heartbeat."""

    def may_serve(self, now: int) -> bool:
        """The lease is running."""
        return now < self.until

    def extend(self, sent_at: int, lease_ns: int) -> None:
        """A heartbeat sent at `sent_at` was acknowledged with so long a lease. Never shortens it: answers may be reordered."""
        self.until = max(self.until, sent_at + lease_ns)


class MemberOwner(Protocol):
    """A service with targets, which its `Member` speaks for."""

    def target_reports(self) -> Sequence[TargetReport]:
        """The state of every target of the node, for the heartbeat that is sent now."""
        ...

    def on_lease_changed(self) -> None:
        """`Member.lease` or `Member.leased_targets` are others now."""
        ...

    def on_births_stored(self, targets: Set[TargetId]) -> None:
        """The manager has granted a lease to a heartbeat that reported these targets complete, and has stored that they were."""
        ...

    def on_heard(self, routing_version: int) -> None:
        """The manager has granted a lease to a heartbeat: it knows that the node has routing of this version, and has taken
        nothing from the node since. An answer without a lease does not say so: a chain may have gone on with others by then."""
        ...

    def on_retired(self, targets: Sequence[TargetId]) -> None:
        """Targets that the node has mentioned are in no chain any more."""
        ...

    def on_drained_disks(self, paths: Sequence[str]) -> None:
        """These disks of the node, and no others, are to hold nothing; said again and again."""
        ...

    def on_leave_requests(self, requests: Sequence[LeaveRequest]) -> None:
        """The manager asks targets of this node to leave their chains."""
        ...


class ConfiguredService(Protocol):
    """A service that takes the distributed configuration of its role while it runs."""

    def on_config(self, config: RoleConfig) -> str:
        """There is a newer configuration of the node's role. Returns why it cannot be applied; "": it is in force."""
        ...


class KeptData(Protocol):
    """What a node keeps besides targets."""

    def describe_problem(self) -> str:
        """What a person has to know of it; empty when nothing is wrong."""
        ...


class ActivitySource(Protocol):
    """Counts what a process does."""

    def read(self) -> NodeActivity:
        """Everything since the process began."""
        ...


class Member:
    """Registers one node and keeps its lease running.

    Usage: `register` once, then `start`; `heartbeat_now` when the manager should hear of a change at once; `stop` at the end.
    """

    def __init__(
        self,
        mgmtd: MgmtdClient,
        clock: Clock,
        counter: IncarnationCounter,
        *,
        name: str,
        role: Role,
        owner: MemberOwner | None = None,
        configured: ConfiguredService | None = None,
        kept: KeptData | None = None,
        domain: Domain = NOWHERE,
        proof: MachineProof | None = None,
        keys: ServiceKeys | None = None,
        activity: ActivitySource | None = None,
    ) -> None:
        """Counts one more start of the node (FS3Error when `counter` cannot). `owner`: None for a process without targets.
        `configured`: None for one that takes no configuration. `kept`: of which every heartbeat says whether something is
        wrong with it. `proof`: of the machine it is on, where machines join the cluster. `domain`: where the node stands. `keys`:
        what it knows of the cluster's security, which heartbeats keep fresh. `activity`: what every heartbeat tells of the
        process; None: nothing."""
        self.lease = Lease()
        self.leased_targets: Set[TargetId] = frozenset()
        """Targets of the newest heartbeat that extended the lease. No other may serve: the manager may have replaced it."""
        self.node = NodeId(0)
        self.is_superseded = False
        """A later start of the same node has registered, or the node was removed; this process must not serve any more."""
        self._mgmtd = mgmtd
        self._clock = clock
        self._name = name
        self._role = role
        self._counter = counter
        self._owner = owner
        self._configured = configured
        self._kept = kept
        self._domain = domain
        self._proof = proof
        self._keys = keys
        self._activity = activity
        self.incarnation = counter.next_incarnation()
        """Of this process; 0 before it is known."""
        self._config_version = 0
        self._config_problem = ""
        self._registration: RegisterNode | None = None
        self._interval_ns = heartbeat_ns
        self._seq = 0
        self._heartbeat_requested = asyncio.Event()
        self._heartbeat_task: asyncio.Task[None] | None = None

    async def register(
        self,
        cluster: bytes,
        endpoints: Sequence[str],
        host: str,
        pid: int,
        claims: Sequence[TargetClaim] = (),
        *,
        by_directory: bool = False,
    ) -> RegistrationAck:
        """Announce the node and learn its id, and its incarnation when its directory has none or not the newest. `claims`: of the
        targets it has data of. `by_directory`: see `Node`.

        Raises FS3Error: WRONG_CLUSTER, Unreachable, BUSY when a former process of this node may still run.
        """
        self._registration = RegisterNode(
            self._name, self._role, cluster, self.incarnation, tuple(endpoints), host, pid,
            tuple(claim.target for claim in claims), tuple(claims), self._counter.directory, self._mgmtd.release, self._proof,
            by_directory, self._domain, self._keys.digest if self._keys is not None else b"",
        )  # fmt: skip
        try:
            return await self._register()
        except FS3Error as failure:
            if failure.code is not Code.OLD_INCARNATION:
                raise
            log.warning("the directory of node %s is an old copy: %s; it asks for a new incarnation", self._name, failure)
            self._registration = msgspec.structs.replace(self._registration, incarnation=0)
            return await self._register()

    async def confirm(self, claims: Sequence[TargetClaim]) -> RegistrationAck:
        """Register again, with what has been written down in the directories of these targets since. Raises FS3Error as
        `register` does."""
        assert self._registration is not None
        changed = {claim.target: claim for claim in (*self._registration.claims, *claims)}
        registration = msgspec.structs.replace(
            self._registration, incarnation=self.incarnation, targets=tuple(changed), claims=tuple(changed.values())
        )
        before, self._registration = self._registration, registration
        try:
            return await self._mgmtd.register(self._build_registration())
        except FS3Error:
            self._registration = before
            raise

    def start(self) -> None:
        """Begin to send heartbeats."""
        self._heartbeat_task = asyncio.get_running_loop().create_task(self._heartbeat_loop())

    def heartbeat_now(self) -> None:
        """Something changed that the manager should hear of now."""
        self._heartbeat_requested.set()

    async def stop(self, *, hand_over: bool = True) -> None:
        """Serve no more; and, to `hand_over`, send a last heartbeat that says so, when the manager still listens."""
        if self._heartbeat_task is not None:
            self._heartbeat_task.cancel()
            await asyncio.gather(self._heartbeat_task, return_exceptions=True)
            self._heartbeat_task = None
        self._end_lease()
        if hand_over and self.node and not self.is_superseded:
            try:
                # More than one try: the primary may have been replaced just now, and may have to store the change.
                await self._mgmtd.heartbeat(self._request(leaving=True), 2 * SECOND, attempt_ns=SECOND)
            except FS3Error as failure:
                log.info("the manager could not be told that node %s stops: %s", self._name, failure)

    async def _register(self) -> RegistrationAck:
        assert self._registration is not None
        ack = await self._mgmtd.register(self._build_registration())
        if self._keys is not None and self.node != ack.node:
            self._keys.session.renew_now()  # tickets say which node it is
        # When it registers again, it has been of this cluster: if it was removed meanwhile, it is no new node.
        self._registration = msgspec.structs.replace(self._registration, cluster=ack.cluster, incarnation=ack.incarnation)
        if self.incarnation != ack.incarnation:
            self.incarnation = ack.incarnation
            self._counter.store_incarnation(ack.incarnation)
        self.node = ack.node
        if self._owner is not None:
            self._owner.on_drained_disks(ack.drained_disks)
        self._interval_ns = ack.heartbeat_ns or heartbeat_ns
        return ack

    def _build_registration(self) -> RegisterNode:
        """What is sent, with the disks as they are now: the key of the machine is not, once a login has shown it."""
        assert self._registration is not None
        is_logged_in = self._keys is not None and self._keys.session.ticket and self._mgmtd.is_secured
        registration = msgspec.structs.replace(self._registration, disks=tuple(self._counter.measure_space()))
        return msgspec.structs.replace(registration, proof=None) if is_logged_in else registration

    def _request(self, *, leaving: bool = False) -> Heartbeat:
        self._seq += 1
        return Heartbeat(
            node=self.node,
            incarnation=self.incarnation,
            seq=self._seq,
            targets=tuple(self._owner.target_reports()) if self._owner is not None else (),
            routing_version=self._mgmtd.routing.version,
            leaving=leaving,
            config_version=self._config_version,
            config_problem=self._config_problem,
            problem=self._kept.describe_problem() if self._kept is not None else "",
            disks=tuple(self._counter.measure_space()),
            release=self._mgmtd.release,
            wall_ms=self._clock.wall() // MILLISECOND,
            certificate_ends_ms=self._keys.certificate_ends_ms if self._keys is not None else 0,
            security_version=self._keys.version if self._keys is not None else 0,
            activity=self._activity.read() if self._activity is not None else None,
        )

    async def _heartbeat_loop(self) -> None:
        failing = False
        while not self.is_superseded:
            self._heartbeat_requested.clear()
            next_at = self._clock.now() + self._interval_ns
            try:
                await self._send_heartbeat()
                if failing:
                    log.info("the manager answers node %s again", self._name)
                failing = False
            except FS3Error as failure:
                if not failing:
                    log.warning("heartbeat of node %s failed: %s", self._name, failure)
                failing = True
                next_at = min(next_at, self._clock.now() + heartbeat_retry_ns)
            except Exception:
                # Whatever it was, a node that falls silent is declared dead: go on, and say it.
                log.exception("heartbeat of node %s failed", self._name)
            try:
                async with asyncio.timeout(max(0, next_at - self._clock.now()) / SECOND):
                    await self._heartbeat_requested.wait()
            except TimeoutError:
                pass

    def _stop_serving(self, why: FS3Error) -> None:
        """The node was started again elsewhere, or is not one of the cluster any more."""
        log.error("node %s stops serving: %s", self._name, why)
        self.is_superseded = True
        self._end_lease()

    def _end_lease(self) -> None:
        self.lease.until = 0
        self.leased_targets = frozenset()
        if self._owner is not None:
            self._owner.on_lease_changed()

    async def _send_heartbeat(self) -> None:
        request = self._request()
        sent_at = self._clock.now()
        try:
            ack = await self._mgmtd.heartbeat(request, heartbeat_attempt_ns)
        except FS3Error as failure:
            if failure.code is Code.UNKNOWN_NODE:
                log.info("the manager does not know node %s; registering again", self._name)
                try:
                    await self._register()
                except FS3Error as refusal:
                    if refusal.code is not Code.NODE_REMOVED:
                        raise
                    self._stop_serving(refusal)
                    return
                self.heartbeat_now()
                return
            if failure.code is Code.OLD_INCARNATION:
                self._stop_serving(failure)
                return
            raise
        if self._keys is not None:
            self._keys.on_heard(ack.security_version, ack.cluster_ms, sent_at)
        if ack.lease_ns and ack.seq == request.seq:
            self.leased_targets = frozenset(report.target for report in request.targets)
            self.lease.extend(sent_at, ack.lease_ns)
            if self._owner is not None:
                self._owner.on_lease_changed()
                complete = (report.target for report in request.targets if report.state is LocalState.UPTODATE)
                self._owner.on_births_stored(frozenset(complete))
        if self._owner is not None:
            if is_heard(ack) and ack.seq == request.seq:
                self._owner.on_heard(request.routing_version)
            self._owner.on_drained_disks(ack.drained_disks)
        if ack.retired and self._owner is not None:
            self._owner.on_retired(ack.retired)
        if ack.leave and self._owner is not None:
            self._owner.on_leave_requests(ack.leave)
        if ack.routing_version > self._mgmtd.routing.version:
            await self._mgmtd.refresh(ack.routing_version - 1)
            if not ack.lease_ns and self._mgmtd.routing.version >= ack.routing_version:
                self.heartbeat_now()  # the lease was withheld until this had been applied
        if self._configured is not None and ack.config_version > self._config_version:
            config = await self._mgmtd.get_config(self._role)
            self._config_version = config.version
            self._config_problem = self._configured.on_config(config)
            self.heartbeat_now()
