"""The targets of a node: opening them, making new ones, replacing lost and damaged ones, and what the manager is told of each.

    routing says this node has a target, and here is …                      then
    its store                                                               it is opened
    nothing, and it was never complete anywhere (newborn)                   an empty store is made; it is whole
    nothing, and it was complete once (the disk was replaced)               an empty store is made; it is not whole: ONLINE
    a store that is damaged, while others of the chain serve                it is moved away, and an empty one made: ONLINE
    a store that is damaged, and no other target serves                     nothing is touched: OFFLINE, with the reason
    a store on a disk that does not work, or is not this node's             nothing is touched: OFFLINE, with the reason
    a store of a target that is in no chain any more, as the manager says       it is deleted
    a store in an old copy of its directory (`generations`)                 it is opened, and is not whole: ONLINE
    a store whose manager's store is an old copy                            nothing is touched: OFFLINE, with the reason

"Was complete once": the node made it before and knows that, or the manager says that it was reported complete. A newborn target
takes no place in its chain before the manager has stored that it was (`on_births_stored`): what it acknowledged until then could
be lost with its disk, unnoticed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence, Set
from typing import Any, Protocol

from fs3.base.errors import FS3Error
from fs3.base.ids import NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.membership.departures import must_be_heard
from fs3.core.membership.generations import Lineage
from fs3.model.chain import Chain, PublicState
from fs3.model.cluster import RegistrationAck
from fs3.model.generation import TargetClaim
from fs3.model.routing import Routing
from fs3.model.target_report import TargetReport
from fs3.ports.chunk_store import ChunkStore, StoreDamaged
from fs3.ports.disks import Disks, StoreFactory
from fs3.services.storage import generations
from fs3.services.storage.generations import GenerationRegistry, TargetGenerations
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.resync.scheduler import ResyncScheduler
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_map import TargetMap
from fs3.services.storage.target_reports import OpenFailure, report_closed, report_open

log = logging.getLogger("fs3.storage")

target_rebuild_ns = 1 * SECOND
"""How often a target that does not work is looked at again."""

target_open_ns_max = 5 * SECOND
"""A target whose store takes longer to open or to make is reported as not working, so that its chain goes on."""


class TargetListener(Protocol):
    """Works beside each target that is open."""

    def on_target_opened(self, shell: TargetShell) -> None:
        """A target begins to work."""
        ...

    async def on_target_closing(self, target: TargetId) -> None:
        """The store of a target is about to be closed because it is replaced; it is, once this returns."""
        ...


class TargetKeeper:
    """Keeps open what routing says this node has. Belongs to one event loop."""

    def __init__(
        self,
        disks: Disks,
        store_factory: StoreFactory,
        context: NodeContext,
        scheduler: ResyncScheduler,
        targets: TargetMap,
        listeners: Sequence[TargetListener],
        registry: GenerationRegistry,
    ) -> None:
        """`targets` is kept up to date; the keeper alone changes it."""
        self.chains: dict[TargetId, Chain] = {}
        """Chain of every target that routing assigns to this node."""
        self.open_failures: dict[TargetId, OpenFailure] = {}
        """Targets that are here, or should be, and could not be opened."""
        self._disks = disks
        self._factory = store_factory
        self._context = context
        self._scheduler = scheduler
        self._targets = targets
        self._shells = targets.by_id
        self._listeners = listeners
        self._generations = TargetGenerations(disks, registry)
        self._unheard: dict[TargetId, tuple[int, int]] = {}
        """Targets that go on without another one once the manager has heard of it (`must_be_heard`), each with the version of its
        chain, and the routing version that a heartbeat must have named."""
        self._born: set[TargetId] = set()
        """The manager has stored that they have been complete."""
        self._lost: set[TargetId] = set()
        """They had a store here, which is gone or was moved away."""
        self._making: dict[TargetId, tuple[asyncio.Task[None], int]] = {}
        """Targets whose store is being made or replaced, and since when."""
        self._stores: dict[TargetId, ChunkStore] = {}
        """Opened, before the node knows which one it is."""
        self._node = NodeId(0)
        self._incarnation = 0
        self._retry: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        """Waits for room to write generations down."""
        self._closed = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def open_stores(self) -> None:
        """Open every store there is; what cannot be opened is remembered and reported, the others go on."""
        await asyncio.gather(*(self._open_first(target) for target in self._disks.targets()))

    async def begin_generations(self) -> list[TargetClaim]:
        """Every store that is open begins a generation: what to register."""
        claims = []
        for target, store in sorted(self._stores.items()):
            try:
                claims.append(self._generations.begin(target))
            except FS3Error as failure:
                del self._stores[target]
                await self._set_aside(target, store, str(failure))
        return claims

    async def begin(self, node: NodeId, incarnation: int, ack: RegistrationAck, routing: Routing) -> None:
        """The node is registered: its targets take their places."""
        self._node = node
        self._incarnation = incarnation
        self._born.update(ack.born)
        self._lost.update(self._disks.lost_targets())
        self._generations.learn(ack.generations)
        self._learn(routing)
        stores, self._stores = self._stores, {}
        for target, store in stores.items():
            await self._settle(target, store, incarnation)
        self.on_routing_changed(routing)
        if self._generations.unwritten:
            self._writing = asyncio.get_running_loop().create_task(self._write_generations())

    def on_routing_changed(self, routing: Routing) -> None:
        """Newer routing."""
        self._learn(routing)
        news = False
        for target, shell in self._shells.items():
            chain = self.chains.get(target)
            if chain is None or not must_be_heard(shell.chain, chain, target):
                self._unheard.pop(target, None)
                shell.on_chain_changed(chain)
            elif self._unheard.get(target, (0, 0))[0] < chain.version:
                self._unheard[target] = (chain.version, routing.version)
                news = True
        self._targets.index_chains()
        if self._reconcile() or news:
            self._context.on_target_changed()

    def on_heard(self, routing_version: int) -> None:
        """The manager has answered a heartbeat that named this routing version: targets may go on without others that left."""
        heard = [target for target, (_, unheard) in self._unheard.items() if unheard <= routing_version]
        for target in heard:
            del self._unheard[target]
            shell = self._shells.get(target)
            if shell is not None:
                shell.on_chain_changed(self.chains.get(target))
        if heard:
            self._targets.index_chains()
            self._context.on_target_changed()

    def on_births_stored(self, targets: Set[TargetId]) -> None:
        """The manager has stored that these targets have been complete."""
        for target in targets - self._born:
            self._born.add(target)
            shell = self._shells.get(target)
            if shell is not None:
                shell.on_birth_stored()

    async def close(self) -> None:
        """Nothing new is begun; every store is closed, which makes everything durable."""
        await self._stop_making()
        names = [*self._shells, *self._stores]
        stores = [*(shell.close() for shell in self._shells.values()), *(store.close() for store in self._stores.values())]
        for target, problem in zip(names, await asyncio.gather(*stores, return_exceptions=True), strict=True):
            if isinstance(problem, BaseException):
                log.error("target %d did not close well: %s", target, problem)

    async def abort(self) -> None:
        """As `close`, but what is under way is not answered: for a process that is taken for killed."""
        await self._stop_making()
        for shell in self._shells.values():
            await shell.abort()
        for store in self._stores.values():
            await store.close()

    async def _stop_making(self) -> None:
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        making = [task for task, _ in self._making.values()]
        if self._writing is not None:
            making.append(self._writing)
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    # --- reports -----------------------------------------------------------------------------------------------------

    def make_reports(self) -> list[TargetReport]:
        """Every target of this node that there is something to say of."""
        found = []
        for target in sorted(self.chains.keys() | self._shells.keys() | self.open_failures.keys()):
            shell, making = self._shells.get(target), self._making.get(target)
            if making is not None:
                # A newborn one is not mentioned, and so not missed, for as long as it may take. One that is made again is missed.
                if self._context.clock.now() - making[1] <= target_open_ns_max:
                    continue
                found.append(report_closed(target, self.chains.get(target), "its store is still being opened"))
            elif shell is not None and target not in self.open_failures:
                report = report_open(shell, self._generations.newest(target))
                if report is not None:
                    found.append(report)
            else:
                problem = self.open_failures.get(target)
                nothing = f"storage node {self._disks.name} has no data of target {target}"
                found.append(report_closed(target, self.chains.get(target), problem.reason if problem else nothing))
        return found

    # --- mending -----------------------------------------------------------------------------------------------------

    def _learn(self, routing: Routing) -> None:
        node = self._node
        self.chains = {slot.target: chain for chain in routing.chains.values() for slot in chain.slots if slot.node == node}

    def _reconcile(self) -> bool:
        """Make what is missing, replace what is damaged and may be replaced. True when there is something to report."""
        if self._closed:
            return False
        news = False
        failed = self._disks.failed_targets()
        for target, chain in self.chains.items():
            if target in self._making:
                continue
            shell = self._shells.get(target)
            problem = self.open_failures.get(target)
            if (shell is not None and shell.is_store_damaged) or (problem is not None and problem.is_store_damaged):
                if _others_serve(chain, target):
                    self._start_making(target, self._replace(target))
            elif shell is None and target in failed:
                news = news or problem is None
                self.open_failures[target] = OpenFailure(failed[target])
            elif shell is None and problem is None:
                self._start_making(target, self._make_empty(target))
        return news

    def _start_making(self, target: TargetId, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._run_making(target, work))
        self._making[target] = (task, self._context.clock.now())

    async def _run_making(self, target: TargetId, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (FS3Error, OSError) as failure:
            log.error("target %d cannot be made: %s", target, failure)
            self.open_failures[target] = OpenFailure(str(failure))
        finally:
            self._making.pop(target, None)
        self._targets.index_chains()
        self._context.on_target_changed()

    async def _make_empty(self, target: TargetId) -> None:
        """An empty store for a target that has none here."""
        whole = target not in self._born and target not in self._lost and target not in self._disks.lost_targets()
        if not whole:
            log.warning("target %d has no data here any more: an empty store takes its place, for the chain to fill", target)
        self._disks.make(target, whole=whole)
        self._generations.begin_empty(target)
        store = await self._open_store(target)
        if store is not None:
            self._start(target, store, self._incarnation if whole else self._next_incarnation())

    async def _replace(self, target: TargetId) -> None:
        """An empty store in the place of a damaged one, which is kept."""
        await self._close_shell(target)
        place = self._disks.quarantine(target)
        log.warning("the damaged store of target %d is kept in %s; an empty one takes its place", target, place)
        self.open_failures.pop(target, None)
        self._lost.add(target)
        self._disks.make(target, whole=False)
        self._generations.begin_empty(target)
        store = await self._open_store(target)
        if store is not None:
            self._start(target, store, self._next_incarnation())

    def on_retired(self, targets: Iterable[TargetId]) -> None:
        """The manager says that these targets are in no chain any more: what is here of them is deleted."""
        for target in targets:
            if not self._closed and target not in self.chains and target not in self._making:
                self._start_making(target, self._discard(target))

    async def _discard(self, target: TargetId) -> None:
        log.info("target %d is in no chain any more: its data is deleted here", target)
        await self._close_shell(target)
        self.open_failures[target] = OpenFailure("it is being deleted")
        await self._disks.discard(target)
        del self.open_failures[target]
        self._born.discard(target)
        self._lost.discard(target)
        self._unheard.pop(target, None)

    async def _close_shell(self, target: TargetId) -> None:
        shell = self._targets.remove(target)
        if shell is not None:
            for listener in self._listeners:
                await listener.on_target_closing(target)
            try:
                await shell.close()
            except FS3Error as failure:
                log.warning("the store of target %d did not close well: %s", target, failure)

    def accept_loss(self, target: TargetId) -> str:
        """A person says that a target which is not complete shall serve with what it has. What speaks against it; "" when it is
        done, or about to be."""
        chain, problem = self.chains.get(target), self.open_failures.get(target)
        shell = self._shells.get(target)
        slot = chain.slot(target) if chain is not None else None
        if chain is None or slot is None or target in self._making or (shell is None and not (problem and problem.is_ahead)):
            return f"this node has no target {target} that works"
        if chain.serving_slots() or slot.state is not PublicState.LASTSRV:
            return f"target {target} is {slot.state.name}: when nobody serves, one of those that served last may"
        if shell is not None and shell.failure:
            return f"target {target} does not work: {shell.failure}"
        if shell is not None and shell.replica.completeness.whole:
            return ""
        self._start_making(target, self._open_accepted(target))
        return ""

    async def _open_accepted(self, target: TargetId) -> None:
        log.warning("target %d counts as complete from now on, because somebody said so: what it lacks is lost", target)
        await self._close_shell(target)
        self._generations.accept(target)
        store = await self._open_store(target)
        if store is not None:
            self._start(target, store, self._next_incarnation())

    def _next_incarnation(self) -> int:
        """One that no replica of this node ever had: what an earlier one was told must not count for it."""
        return self._disks.next_incarnation() or self._incarnation

    async def _open_first(self, target: TargetId) -> None:
        store = await self._open_store(target)
        if store is not None:
            self._stores[target] = store

    async def _open_store(self, target: TargetId) -> ChunkStore | None:
        """A failure is remembered and reported; the other targets go on."""
        try:
            store = await self._factory(target)
        except (FS3Error, OSError) as failure:
            log.error("target %d cannot be opened: %s", target, failure)
            busy = isinstance(failure, FS3Error) and failure.code in (Code.BUSY, Code.NO_SPACE)
            self.open_failures[target] = OpenFailure(str(failure), isinstance(failure, StoreDamaged), busy)
            if busy:
                self._look_again_soon()
            return None
        self.open_failures.pop(target, None)
        return store

    def _look_again_soon(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(target_rebuild_ns / SECOND, self._look_again)

    def _look_again(self) -> None:
        self._retry = None
        if not self._closed:
            for target, problem in list(self.open_failures.items()):
                if problem.is_store_busy and target not in self._making:
                    self._start_making(target, self._open_late(target))

    async def _open_late(self, target: TargetId) -> None:
        store = await self._open_store(target)
        if store is None:
            return
        try:
            await self._generations.confirm(self._generations.begin(target))
        except FS3Error as failure:
            await self._set_aside(target, store, str(failure), is_store_busy=True)
            return
        await self._settle(target, store, self._incarnation)

    async def _settle(self, target: TargetId, store: ChunkStore, incarnation: int) -> None:
        """The manager knows of the store's generation: it takes its place, or is left alone."""
        try:
            lineage = self._generations.settle(target)
        except FS3Error as failure:
            await self._set_aside(target, store, str(failure))
            return
        if lineage is Lineage.AHEAD:
            await self._set_aside(target, store, generations.AHEAD, is_ahead=True)
            return
        if lineage is Lineage.BEHIND:
            log.warning("target %d: %s", target, generations.BEHIND)
        self._start(target, store, incarnation, incomplete="" if lineage is Lineage.CURRENT else generations.BEHIND)

    async def _set_aside(self, target: TargetId, store: ChunkStore, reason: str, **why: bool) -> None:
        """A store that opened and may not be used now."""
        log.error("target %d is left alone: %s", target, reason)
        self.open_failures[target] = OpenFailure(reason, **why)
        try:
            await store.close()
        except FS3Error as failure:
            log.warning("the store of target %d did not close well: %s", target, failure)
        if why.get("is_store_busy"):
            self._look_again_soon()

    async def _write_generations(self) -> None:
        """Targets that had no room for a generation of this start are read-only until they have one."""
        while waiting := self._generations.unwritten:
            await asyncio.sleep(target_rebuild_ns / SECOND)
            for target in list(waiting):
                shell = self._shells.get(target)
                if await self._generations.write_late(target) and shell is not None:
                    shell.staging.refusal = ""
                    self._context.on_target_changed()

    def _start(self, target: TargetId, store: ChunkStore, incarnation: int, *, incomplete: str = "") -> None:
        note = self._disks.read_note(target)
        shell = TargetShell(
            target, store, self._context, self._scheduler, incarnation=incarnation, whole=note.whole and not incomplete,
            is_born=target in self._born, incomplete=incomplete,
        )  # fmt: skip
        shell.staging.refusal = self._generations.unwritten.get(target, "")
        self._targets.add(shell)
        shell.open(self.chains.get(target))
        self._targets.index_chains()
        for listener in self._listeners:
            listener.on_target_opened(shell)


def _others_serve(chain: Chain, target: TargetId) -> bool:
    """The chain goes on without this target: whatever it has, the targets that serve have it too."""
    slot = chain.slot(target)
    out = slot is not None and slot.state not in (PublicState.SERVING, PublicState.LASTSRV)
    return out and any(other.target != target for other in chain.serving_slots())
