"""A service process as a member of the cluster: it registers, then sends heartbeats for as long as it serves."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fs3 import __version__
from fs3.base.errors import FS3Error
from fs3.base.ids import NodeId
from fs3.base.limits import heartbeat_ns
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.mgmtd import MgmtdClient
from fs3.model.routing import Role
from fs3.ports.clock import Clock
from fs3.wire.pb import mgmtd_pb2 as pb

log = logging.getLogger("fs3.member")


def next_incarnation(path: Path) -> int:
    """Count one more start in a boot counter file; durable before it returns. Starts at 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    incarnation = (int(path.read_text()) if path.exists() else 0) + 1
    temporary = path.with_suffix(".new")
    with temporary.open("w") as out:
        out.write(str(incarnation))
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    return incarnation


class Member:
    """Registration and heartbeats of a process without targets (the metadata service)."""

    def __init__(
        self,
        mgmtd: MgmtdClient,
        clock: Clock,
        *,
        name: str,
        role: Role,
        endpoints: Sequence[str],
        host: str,
        incarnation: int,
        pid: int,
        targets: Callable[[], Sequence[pb.TargetReport]] = tuple,
    ) -> None:
        self._mgmtd = mgmtd
        self._clock = clock
        self._request = pb.RegisterNodeRequest(
            name=name,
            role=int(role),  # type: ignore[arg-type]
            incarnation=incarnation,
            endpoints=list(endpoints),
            host=host,
            pid=pid,
            software=__version__,
        )
        self._targets = targets
        self._seq = 0
        self._heartbeat_ns = heartbeat_ns
        self._beating: asyncio.Task[None] | None = None
        self.node = NodeId(0)

    async def start(self) -> None:
        """Register and begin to send heartbeats. Raises FS3Error: WRONG_CLUSTER, OLD_INCARNATION, Unreachable."""
        await self._register()
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def stop(self) -> None:
        """Send a last heartbeat that says so, when the manager still listens."""
        if self._beating is None:
            return
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        try:
            await self._mgmtd.heartbeat(self._heartbeat(leaving=True), SECOND)
        except FS3Error as failure:
            log.debug("the manager was not told of the end: %s", failure)

    async def _register(self) -> None:
        self._request.cluster_id = self._mgmtd.cluster
        reply = await self._mgmtd.register(self._request)
        self.node = NodeId(reply.node_id)
        self._heartbeat_ns = reply.heartbeat_ms * MILLISECOND or heartbeat_ns

    def _heartbeat(self, *, leaving: bool = False) -> pb.HeartbeatRequest:
        self._seq += 1
        return pb.HeartbeatRequest(
            node_id=self.node,
            incarnation=self._request.incarnation,
            seq=self._seq,
            targets=list(self._targets()),
            routing_version=self._mgmtd.routing.version,
            leaving=leaving,
        )

    async def _beat(self) -> None:
        failing = False
        while True:
            try:
                await self._mgmtd.heartbeat(self._heartbeat())
                failing = False
            except FS3Error as failure:
                if failure.code is Code.UNKNOWN_NODE:
                    log.info("the manager does not know this node any more; registering again")
                    await self._register_again()
                elif not failing:
                    log.warning("heartbeat failed: %s", failure)
                    failing = True
            await asyncio.sleep(self._heartbeat_ns / SECOND)

    async def _register_again(self) -> None:
        try:
            await self._register()
        except FS3Error as failure:
            log.warning("registration failed: %s", failure)
