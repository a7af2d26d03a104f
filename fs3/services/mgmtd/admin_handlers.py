"""Requests by which a cluster is looked at: its status, configurations, machines, settings, and what happened."""

from __future__ import annotations

from collections.abc import Callable

from fs3.base.errors import FS3Error
from fs3.base.limits import status_message_bytes_max
from fs3.base.status import Code
from fs3.model.cluster import ClusterStatus
from fs3.model.event import ClusterEvent
from fs3.ports.rpc import Bindings, Call
from fs3.services.mgmtd.primary import Primary
from fs3.services.mgmtd.publisher import RoutingPublisher
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_events import events_to_pb, list_events_from_pb
from fs3.wire.mgmtd_machines import machines_to_pb, settings_history_to_pb
from fs3.wire.mgmtd_queries import get_config_from_pb, role_config_to_pb, status_to_pb
from fs3.wire.routing_parts import EncodedStatus, split_status

StatusDescriber = Callable[[], ClusterStatus | None]
"""Says what the primary knows of its cluster."""

EventLister = Callable[[int, int], list[ClusterEvent]]
"""See `EventLog.newest`."""


class AdminHandlers:
    """Answers what `AdminCalls` of the client asks."""

    def __init__(
        self, primary: Primary, publisher: RoutingPublisher, describe_status: StatusDescriber, list_events: EventLister
    ) -> None:
        self._primary = primary
        self._publisher = publisher
        self._describe_status = describe_status
        self._newest_events = list_events

    def bindings(self) -> Bindings:
        """One handler for every method of the group."""
        return {
            MGMTD.GetStatus: self._get_status,
            MGMTD.ReadStatus: self._read_status,
            MGMTD.GetConfig: self._get_config,
            MGMTD.ListMachines: self._list_machines,
            MGMTD.GetSettings: self._get_settings,
            MGMTD.ListEvents: self._list_events,
        }

    def _get_status(self, call: Call) -> None:
        if self._primary.admit(call) is None:
            return
        status = self._encode_status()
        if (size := status.ByteSize()) > status_message_bytes_max:
            call.fail(Code.TOO_LARGE, f"the status has {size} bytes, too many for one message; ReadStatus has it in parts")
        else:
            call.reply(status)

    def _read_status(self, call: Call) -> None:
        if self._primary.admit(call) is None:
            return
        for part in split_status(self._encode_status()):
            if not call.send(part):
                call.fail(Code.BUSY, "the client does not take the status")
                return
        call.reply(None)

    def _encode_status(self) -> EncodedStatus:
        status = self._describe_status()
        assert status is not None
        return status_to_pb(status, self._publisher.encode_full(status.routing))

    def _get_config(self, call: Call) -> None:
        manager = self._primary.admit(call)
        if manager is None:
            return
        try:
            request = get_config_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        call.reply(role_config_to_pb(manager.role_config(request.role)))

    def _list_machines(self, call: Call) -> None:
        if (manager := self._primary.admit(call)) is not None:
            call.reply(machines_to_pb(manager.machines.list()))

    def _get_settings(self, call: Call) -> None:
        if (manager := self._primary.admit(call)) is not None:
            call.reply(settings_history_to_pb(manager.settings.history()))

    def _list_events(self, call: Call) -> None:
        if self._primary.admit(call) is not None:
            after, limit = list_events_from_pb(call.request)
            call.reply(events_to_pb(self._newest_events(after, limit)))
