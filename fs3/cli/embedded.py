"""The services of a cluster inside this process, on a directory: what `fsspec.filesystem("fs3", path=…)` runs on.

The same mgmtd, meta and storage services on the same stores, with one copy of everything and calls that never leave the process.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from fs3.base.ids import ClientId
from fs3.base.units import SECOND
from fs3.cli.directory import hold_lock
from fs3.client.connect import Connector
from fs3.client.member import Member, next_incarnation
from fs3.client.mgmtd import MgmtdClient
from fs3.client.storage import StorageClient
from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.memory.rpc import MemoryNetwork, MemoryTransport
from fs3.drivers.os_clock import OsClock
from fs3.model.routing import Role
from fs3.services.meta import MetaConfig, MetaService
from fs3.services.mgmtd import MgmtdConfig, MgmtdService

_MGMTD = "memory://mgmtd"
_META = "memory://meta"
_STORAGE = "memory://storage"


class Embedded:
    """Running services, and how to reach them. Belongs to the event loop it was launched on."""

    def __init__(self, stack: AsyncExitStack, connector: Connector) -> None:
        self._stack = stack
        self.connector = connector
        """Reaches the services; belongs to this object."""
        self.addresses = [_MGMTD]
        """Of the manager, for a `MgmtdClient`."""

    async def close(self) -> None:
        """Stop the services, flush everything, let go of the directory."""
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
