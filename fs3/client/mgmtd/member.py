"""A service process as a member of the cluster: registration, heartbeats with a report of every target, and the lease they earn.

The lease counts from the *sending* of the heartbeat that the manager acknowledged: whatever the network did to the answer, this
node never believes in its lease for longer than the manager does.

One try of a heartbeat is much shorter than the lease. A primary that answers nothing, dead or stopped, is left after one try,
and the next one is looked for at all addresses at once, so that it is found while the lease still runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence, Set
from pathlib import Path

from fs3 import __version__
from fs3.base.errors import FS3Error, error
from fs3.base.ids import NodeId, TargetId
from fs3.base.limits import heartbeat_attempt_ns, heartbeat_ns, heartbeat_retry_ns
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.mgmtd.client import MgmtdClient
from fs3.model.routing import Role
from fs3.ports.clock import Clock
from fs3.wire.pb import mgmtd_pb2 as pb

log = logging.getLogger("fs3.member")


def count_start(path: Path) -> int:
    """Count one more start in a boot counter file; durable before it returns. 0 when there is no such file: the manager gives
    one out, and `store_incarnation` writes it. FS3Error DISK naming a file that is no counter."""
    try:
        incarnation = int(path.read_text()) + 1
    except FileNotFoundError:
        return 0
    except ValueError:
        told = "this is not a boot counter; without the file, the node is given a new incarnation"
        raise error(Code.DISK, told, str(path)) from None
    store_incarnation(path, incarnation)
    return incarnation


def store_incarnation(path: Path, incarnation: int) -> None:
    """Write a boot counter file; durable before it returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("w") as out:
        out.write(str(incarnation))
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


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


class Member:
    """Registers one node and keeps its lease running."""

    def __init__(
        self,
        mgmtd: MgmtdClient,
        clock: Clock,
        *,
        name: str,
        role: Role,
        incarnation: int,
        reports: Callable[[], Sequence[pb.TargetReport]] = tuple,
        configured: Callable[[int, str], None] | None = None,
        leave: Callable[[Sequence[pb.Leave]], None] | None = None,
        keep: Callable[[int], None] | None = None,
    ) -> None:
        """`incarnation`: 0 when the process knows none; then the manager gives one out, and `keep` makes it durable.

        `reports` gives the state of every target; `configured` takes a newer configuration (version, TOML) of the role; `leave`
        is told of targets that the manager asks to leave their chains.
        """
        self.lease = Lease()
        self.leased_targets: Set[TargetId] = frozenset()
        """Targets of the newest heartbeat that extended the lease. No other may serve: the manager may have replaced it."""
        self.node = NodeId(0)
        self.is_superseded = False
        """A later start of the same node has registered; this process must not serve any more."""
        self._mgmtd = mgmtd
        self._clock = clock
        self._name = name
        self._role = role
        self.incarnation = incarnation
        """Of this process; 0 before it is known."""
        self._keep = keep
        self._reports = reports
        self._configured = configured
        self._leave = leave
        self._config_version = 0
        self._registration = pb.RegisterNodeRequest()
        self._interval_ns = heartbeat_ns
        self._seq = 0
        self._heartbeat_requested = asyncio.Event()
        self._heartbeat_task: asyncio.Task[None] | None = None

    async def register(
        self, cluster: bytes, endpoints: Sequence[str], host: str, pid: int, targets: Sequence[TargetId] = ()
    ) -> pb.RegisterNodeReply:
        """Announce the node and learn its id, and its incarnation when it has none.

        Raises FS3Error: WRONG_CLUSTER, OLD_INCARNATION, Unreachable, BUSY when a former process of this node may still run.
        """
        self._registration = pb.RegisterNodeRequest(
            name=self._name,
            role=int(self._role),  # type: ignore[arg-type]
            cluster_id=cluster,
            incarnation=self.incarnation,
            endpoints=list(endpoints),
            host=host,
            pid=pid,
            targets=list(targets),
            software=__version__,
        )
        return await self._register()

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
        self.lease.until = 0
        self.leased_targets = frozenset()
        if hand_over and self.node and not self.is_superseded:
            try:
                # More than one try: the primary may have been replaced just now, and may have to store the change.
                await self._mgmtd.heartbeat(self._request(leaving=True), 2 * SECOND, attempt_ns=SECOND)
            except FS3Error as failure:
                log.info("the manager could not be told that node %s stops: %s", self._name, failure)

    async def _register(self) -> pb.RegisterNodeReply:
        reply = await self._mgmtd.register(self._registration)
        if not self.incarnation:
            self.incarnation = self._registration.incarnation = reply.incarnation
            if self._keep is not None:
                self._keep(reply.incarnation)
        self.node = NodeId(reply.node_id)
        self._interval_ns = reply.heartbeat_ms * MILLISECOND or heartbeat_ns
        return reply

    def _request(self, *, leaving: bool = False) -> pb.HeartbeatRequest:
        self._seq += 1
        return pb.HeartbeatRequest(
            node_id=self.node,
            incarnation=self.incarnation,
            seq=self._seq,
            targets=self._reports(),
            routing_version=self._mgmtd.routing.version,
            config_version=self._config_version,
            leaving=leaving,
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

    async def _send_heartbeat(self) -> None:
        request = self._request()
        sent_at = self._clock.now()
        try:
            reply = await self._mgmtd.heartbeat(request, heartbeat_attempt_ns)
        except FS3Error as failure:
            if failure.code is Code.UNKNOWN_NODE:
                log.info("the manager does not know node %s; registering again", self._name)
                await self._register()
                self.heartbeat_now()
                return
            if failure.code is Code.OLD_INCARNATION:
                log.error("node %s was started again elsewhere; this process stops serving: %s", self._name, failure)
                self.is_superseded = True
                self.lease.until = 0
                self.leased_targets = frozenset()
                return
            raise
        if reply.lease_ms and reply.seq == request.seq:
            self.leased_targets = frozenset(TargetId(report.target_id) for report in request.targets)
            self.lease.extend(sent_at, reply.lease_ms * MILLISECOND)
        if reply.leave and self._leave is not None:
            self._leave(reply.leave)
        if reply.routing_version > self._mgmtd.routing.version:
            await self._mgmtd.refresh(reply.routing_version - 1)
            if not reply.lease_ms and self._mgmtd.routing.version >= reply.routing_version:
                self.heartbeat_now()  # the lease was withheld until this had been applied
        if self._configured is not None and reply.config_version > self._config_version:
            config = await self._mgmtd.get_config(self._role)
            self._config_version = config.version
            self._configured(config.version, config.toml)
