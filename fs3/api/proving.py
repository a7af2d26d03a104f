"""Lets the parts of one client prove what it may do: storage nodes are shown capabilities."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.security.capabilities import Capabilities, Wanted
from fs3.client.storage.client import StorageClient
from fs3.model.capabilities import GetCapabilities, WantedCapability
from fs3.ports.clock import Clock
from fs3.ports.security import TicketSource


def start_proving(
    clock: Clock, manager: MgmtdClient, meta: MetaClient, storage: StorageClient, tickets: TicketSource
) -> Capabilities:
    """Capabilities are shown from the moment on that the client has a ticket: before that there are none, and nothing costs. To
    be called before there are views of other users. The caller closes what is returned before it closes the parts."""

    async def ask_meta(wanted: Sequence[Wanted]) -> list[bytes | Code]:
        request = GetCapabilities(tuple(WantedCapability(InodeId(one.subject.id), one.rights, one.held) for one in wanted))
        return await meta.ask(request)

    async def ask_manager(wanted: Sequence[Wanted]) -> list[bytes | Code]:
        return await manager.get_namespace_capabilities([one.subject.id for one in wanted])

    capabilities = Capabilities(clock, ask_meta, ask_manager)
    meta.capabilities = capabilities

    def on_ticket() -> None:
        if storage.capabilities is None and tickets.ticket:
            storage.use_capabilities(capabilities)
            capabilities.keep_fresh()

    tickets.subscribe(on_ticket)
    on_ticket()
    return capabilities
