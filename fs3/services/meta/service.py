"""The metadata service: a thin shell around the operations in `fs3.core.meta`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ClientId, NodeId
from fs3.base.units import MILLISECOND
from fs3.client.routing import RoutingSource
from fs3.core.meta.bootstrap import claim_store, ensure_root
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.lease_giver import GIVER_BYTES
from fs3.core.security.state import SecurityState
from fs3.core.txn import Txn
from fs3.model.cluster import RoleConfig
from fs3.model.inode import Inode, User
from fs3.ports.clock import Clock
from fs3.ports.kv import KV
from fs3.ports.rpc import Bindings
from fs3.runtime.config import parse_config
from fs3.services.meta.append_queue import AppendQueue
from fs3.services.meta.attribute_leases import AttributeLeases
from fs3.services.meta.capability_issuer import CapabilityIssuer
from fs3.services.meta.capacity import CapacityCache
from fs3.services.meta.change_executor import ChangeExecutor
from fs3.services.meta.chunk_client import ChunkClient
from fs3.services.meta.config import MetaConfig
from fs3.services.meta.contexts import RequestContexts
from fs3.services.meta.duties.duty import Duty
from fs3.services.meta.duties.garbage import GarbageDuty
from fs3.services.meta.duties.last_seen import LastSeenDuty
from fs3.services.meta.duties.lease import DutyLease
from fs3.services.meta.duties.requests import RequestsDuty
from fs3.services.meta.duties.sessions import SessionsDuty
from fs3.services.meta.duties.trims import TrimsDuty
from fs3.services.meta.handlers import VerbHandlers
from fs3.services.meta.leased_kv import LeasedKV
from fs3.services.meta.lock_queue import LockQueue
from fs3.services.meta.trimmer import Trimmer
from fs3.wire.methods import META

log = logging.getLogger("fs3.meta")


class MetaService:
    """The namespace, served from a KV store. On a shared engine any number of these may serve at once; they keep no state."""

    def __init__(
        self,
        kv: KV,
        clock: Clock,
        routing: RoutingSource,
        storage: ChunkClient,
        config: MetaConfig,
        entropy: Callable[[int], bytes],
        *,
        owner: User | None = None,
        security: SecurityState | None = None,
    ) -> None:
        """`storage` removes chunks; `owner` gets the root directory when it is created: by default the user of this process.
        `security`: what capabilities are sealed with, for callers that have proved who they are.

        The KV store belongs to the caller, who closes it after `stop`.
        """
        self.leases = AttributeLeases(kv, clock, routing, entropy(GIVER_BYTES))
        kv = LeasedKV(kv, self.leases)
        self._kv = kv
        self._clock = clock
        self._routing = routing
        self._config = config
        self._owner = owner or User(os.getuid(), os.getgid())
        self.last_seen = LastSeenDuty(kv, config.contacts_interval_ms)
        self._trimmer = Trimmer(kv, storage)
        self._changes = ChangeExecutor(kv, storage, self._trimmer)
        self._capacity = CapacityCache(clock, routing, storage, config.space_age_ms)
        self._contexts = RequestContexts(clock, routing, config, self.last_seen)
        self._appends = AppendQueue(self._changes)
        self._locks = LockQueue(kv, clock, self._changes)
        self.issuer = CapabilityIssuer(security or SecurityState(), clock)
        self._handlers = VerbHandlers(
            kv, self._contexts, self._changes, self._appends, self._locks, self._capacity, self.leases, self.issuer
        )
        # Several services on one store would otherwise take the same rows at the same time, to no harm but for nothing.
        first_pause_ns = int.from_bytes(entropy(8), "big") % (config.garbage_interval_ms * MILLISECOND)
        self.lease = DutyLease(kv, clock, entropy, config.duty_lease_ms)
        self.garbage = GarbageDuty(
            self.lease,
            kv,
            clock,
            routing,
            storage,
            delay_ms=config.garbage_delay_ms,
            interval_ms=config.garbage_interval_ms,
            first_pause_ns=first_pause_ns,
        )
        self.requests = RequestsDuty(self.lease, kv, clock, config.requests_interval_ms, first_pause_ns)
        self.sessions = SessionsDuty(
            self.lease,
            kv,
            clock,
            routing,
            storage,
            self._trimmer,
            silence_ms=config.session_silence_ms,
            interval_ms=config.sessions_interval_ms,
        )
        self.trims = TrimsDuty(self.lease, kv, self._trimmer, config.trims_interval_ms)
        self._duties: tuple[Duty, ...] = (self.last_seen, self.garbage, self.requests, self.sessions, self.trims)

    def use_tally(self, node: NodeId) -> None:
        """This service is that node, of several whose transactions on a remote engine meet only when they commit: its ids and
        counts are drawn from and noted in a row of its own. See `fs3.core.meta.allocation`."""
        self._contexts.tally = node

    async def start(self) -> None:
        """Create the root directory on the very first start; begin the duties.

        Raises FS3Error: when the store cannot, UNSUPPORTED when it holds something else, WRONG_CLUSTER.
        """

        async def op(txn: Txn) -> Inode:
            await claim_store(txn, self._routing.routing.cluster)
            ctx = OpContext(self._owner, self._clock.wall(), ClientId(bytes(16)), 0, self._routing.routing, LayoutDefaults())
            return await ensure_root(txn, ctx, mode=self._config.root_mode)

        try:
            await self._kv.transact(op)
        except MetaError as why:
            raise error(why.code, why.message) from why
        self.lease.start()
        for duty in self._duties:
            duty.start()

    @property
    def operations(self) -> Mapping[type[Any], int]:
        """How many operations of each kind were asked for."""
        return self._handlers.operations

    @property
    def others_clients(self) -> int:
        """Requests that were refused since their clients were another principal's."""
        return self._handlers.caller_guard.refused

    def on_config(self, config: RoleConfig) -> str:
        """Take a newer configuration of the role, while requests go on; returns why it cannot be applied, "" when it is.

        What it does not say is as by default; which table is used and the permissions of the root directory stay as they were.
        """
        try:
            said = parse_config(MetaConfig, config.toml, f"configuration {config.version} of the meta role")
        except FS3Error as wrong:
            log.error("%s; the one before stays in force", wrong)
            return str(wrong)
        self._config = config_now = replace(said, table=self._config.table, root_mode=self._config.root_mode)
        self._contexts.set_config(config_now)
        self._capacity.set_age(config_now.space_age_ms)
        self.last_seen.set_interval(config_now.contacts_interval_ms)
        self.garbage.set_interval(config_now.garbage_interval_ms)
        self.garbage.set_delay(config_now.garbage_delay_ms)
        self.requests.set_interval(config_now.requests_interval_ms)
        self.sessions.set_interval(config_now.sessions_interval_ms)
        self.sessions.set_silence(config_now.session_silence_ms)
        self.trims.set_interval(config_now.trims_interval_ms)
        return ""

    def bindings(self) -> Bindings:
        """Every method of the service."""
        bindings = self._handlers.bindings()
        assert set(bindings) == set(META.methods), "a method has no handler"
        return bindings

    async def stop(self) -> None:
        """End the duties, and leave those that are done for all to another service at once.

        What was submitted to the store is finished by closing it.
        """
        for duty in self._duties:
            await duty.stop()
        await self.lease.stop()
        await self.leases.stop()
        self._appends.stop()
        self._locks.stop()
        await self._changes.stop()
        await self._capacity.stop()
