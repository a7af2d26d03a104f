"""The calls of a manager's client by which a cluster is looked at and administered: where its targets are, what its processes are
configured with, its machines, its settings, its status, what happened. What is proved with a key or a token is in `proved_calls`,
users and security are in `security_admin`."""

from __future__ import annotations

from fs3.base.errors import FS3Error
from fs3.base.limits import manager_read_ns
from fs3.base.status import Code
from fs3.client.mgmtd.calls import ManagerCalls
from fs3.model.cluster import ClusterStatus, GetConfig, RoleConfig, SetConfig
from fs3.model.event import ClusterEvent
from fs3.model.machine import MachineList
from fs3.model.moves import ListMoves, MoveOverview, PlanMoves, SetMoves
from fs3.model.routing import Role
from fs3.model.settings import SetSettings, SettingsHistory, SettingValue
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_events import events_from_pb, list_events_to_pb
from fs3.wire.mgmtd_machines import get_settings_to_pb, list_machines_to_pb, machines_from_pb, settings_history_from_pb
from fs3.wire.mgmtd_queries import get_config_to_pb, get_status_to_pb, role_config_from_pb, status_from_pb
from fs3.wire.routing_parts import EncodedStatus


class AdminCalls(ManagerCalls):
    """A part of `fs3.client.mgmtd.client.MgmtdClient`."""

    async def plan_moves(self, plan: PlanMoves) -> MoveOverview:
        """Do something about where targets are. Raises FS3Error: UNKNOWN_NODE, NO_SPACE and BUSY with the numbers, INVALID."""
        answer: MoveOverview = await self._ask(plan)
        return answer

    async def set_moves(self, settings: SetMoves) -> MoveOverview:
        """Change how targets move. Raises FS3Error INVALID."""
        answer: MoveOverview = await self._ask(settings)
        return answer

    async def list_moves(self) -> MoveOverview:
        """What moves, and how far it is."""
        answer: MoveOverview = await self._ask(ListMoves())
        return answer

    async def set_config(self, role: Role, toml: str, expected_version: int = 0) -> int:
        """Distribute a configuration; its version. CONFIG naming the key that is wrong; STALE when another is there already."""
        version: int = await self._ask(SetConfig(role, toml, expected_version))
        return version

    async def get_config(self, role: Role) -> RoleConfig:
        """The distributed configuration of a role; version 0 when there is none."""
        return role_config_from_pb(await self._call(MGMTD.GetConfig, get_config_to_pb(GetConfig(role))), role)

    async def list_machines(self) -> MachineList:
        """The machines that have joined the cluster, and the tokens."""
        return machines_from_pb(await self._call(MGMTD.ListMachines, list_machines_to_pb(), attempt_ns=manager_read_ns))

    async def settings(self) -> SettingsHistory:
        """The settings, and what they were before."""
        return settings_history_from_pb(await self._call(MGMTD.GetSettings, get_settings_to_pb(), attempt_ns=manager_read_ns))

    async def set_settings(self, changes: dict[str, SettingValue | None], expected_version: int = 0, author: str = "") -> int:
        """Change settings, all or none; their version then. CONFIG naming the key that is wrong; STALE when another change came
        first."""
        version: int = await self._ask(SetSettings(changes, expected_version, author))
        return version

    async def status(self) -> ClusterStatus:
        """Everything `fs3 status` shows."""
        try:
            return status_from_pb(await self._call(MGMTD.GetStatus, get_status_to_pb(), attempt_ns=manager_read_ns))
        except FS3Error as failure:
            if failure.code is not Code.TOO_LARGE:
                raise
        status = EncodedStatus()
        for part in await self._read(MGMTD.ReadStatus, get_status_to_pb()):
            status.MergeFrom(part)
        return status_from_pb(status)

    async def list_events(self, after: int = 0, limit: int = 0) -> list[ClusterEvent]:
        """What happened, oldest first: the newest `limit` events (0: as many as the manager likes) behind number `after`."""
        return events_from_pb(await self._call(MGMTD.ListEvents, list_events_to_pb(after, limit), attempt_ns=manager_read_ns))
