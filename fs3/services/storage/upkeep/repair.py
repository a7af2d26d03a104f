"""Bad chunks of one target: their bytes are fetched from another target of the chain. The chain does not change for it.

A chunk is bad when its committed bytes are not what was written; the store marks it, and from then on every read of it is refused
here and goes to another replica. The bytes are taken over only when they are of the very version that is committed here and have
the checksums that this target's own index has: so a repair can never bring in anything but what was here before.

A KVCache page is given up when every other target of the chain, serving or not, has answered that its copy is damaged or that it
has none: the head removes it then, and an engine that needs it computes it anew. A file's chunk stays, and is named to people.
When none of the targets that serve has its bytes, a resync does not wait for them any more: it brings the chunk as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, is_page
from fs3.base.limits import attempt_timeout_ns, repair_retry_max_ns, repair_retry_min_ns, slow_ns_per_byte
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.craq.resync.steps import CopyLost
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.chunk import ChunkMeta
from fs3.ports.chunk_store import StoreDamaged
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell
from fs3.wire.methods import STORAGE
from fs3.wire.storage import ReadRequestColumns, read_request_to_pb, single_read_reply_from_pb

log = logging.getLogger("fs3.storage")

suspects_max = 256
"""Chunks of one target that clients say they received wrongly, and that were not looked at yet."""


@dataclass(slots=True)
class _RepairState:
    """A bad chunk, and how repairing it went so far."""

    due_ns: int = 0
    failures: int = 0
    why: str = ""


class _RepairFailure(NamedTuple):
    """Why a bad chunk is not good yet."""

    why: str
    is_lost: bool
    """Each other target of the chain has answered that its copy is damaged, or that it has none of this version."""
    damaged_version: int = 0
    """Each other target that serves has answered that of this version, the committed one; 0: they have not."""


class _NoCopy(FS3Error):
    """A target has answered that it cannot give the bytes: CHECKSUM or NOT_FOUND."""


class Repairer:
    """Repairs one target's bad chunks, one at a time, for as long as the target is open."""

    def __init__(self, shell: TargetShell, context: NodeContext) -> None:
        self._shell = shell
        self._store = shell.store
        self._context = context
        self._clock = context.clock
        self._bad: dict[ChunkId, _RepairState] = {chunk: _RepairState() for chunk in shell.store.bad_chunks}
        self._suspects: deque[ChunkId] = deque()
        self.repaired_chunks = 0
        """Chunks repaired since the process started."""
        self._woken = asyncio.Event()
        self._woken.set()
        self._store.on_bad = self._on_bad
        self._task = asyncio.get_running_loop().create_task(self._work())

    @property
    def reason(self) -> str:
        """What could not be repaired, for people; "" when there is nothing."""
        failed = [(chunk, trouble) for chunk, trouble in self._bad.items() if trouble.failures]
        if not failed:
            return ""
        chunk, trouble = failed[0]
        advice = "" if is_page(chunk) else "; bring a good copy back, or overwrite, empty or remove it"
        return f"{len(failed)} bad chunks without a good copy, the first is {chunk.hex()}: {trouble.why}{advice}"

    def may_be_repaired(self, chunk: ChunkId) -> bool:
        """It is bad, and no repair of it has failed yet: it may be good in a moment."""
        trouble = self._bad.get(chunk)
        return trouble is not None and not trouble.failures and self._find_donors() is not None

    def suspect(self, chunk: ChunkId) -> None:
        """A client received wrong bytes of it: look at it. Too many at once are left to the scrub."""
        if len(self._suspects) < suspects_max and chunk not in self._suspects:
            self._suspects.append(chunk)
            self._woken.set()

    def on_chain_changed(self) -> None:
        """There may be a target to ask now that was not there before."""
        for trouble in self._bad.values():
            trouble.due_ns = 0
        if self._bad:
            self._woken.set()

    async def stop(self) -> None:
        """Before the store is closed."""
        self._store.on_bad = None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _on_bad(self, chunk: ChunkId) -> None:
        self._bad.setdefault(chunk, _RepairState())
        self._woken.set()

    async def _work(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._rest_seconds()):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            try:
                while self._suspects:
                    await self._store.verify(self._suspects.popleft())
                await self._repair_due()
            except Exception as failure:
                # The store does not do what it should: nothing of it can be relied on.
                self._shell.fail(failure)
                return

    def _rest_seconds(self) -> float | None:
        """Until the next chunk is due; None: until `_woken` is set."""
        if not self._bad or self._find_donors() is None:
            return None
        return max(0, min(trouble.due_ns for trouble in self._bad.values()) - self._clock.now()) / SECOND

    def _find_donors(self) -> tuple[Chain, list[Slot]] | None:
        """The chain, and the other targets in it: each that has the right bytes may give them, serving or not. None while this
        target does not serve itself: then it is brought up to date anyway."""
        replica = self._shell.replica
        chain = replica.chain
        if self._shell.failure or chain is None or not replica.position.serves:
            return None
        return chain, [slot for slot in chain.slots if slot.target != self._shell.target]

    async def _repair_due(self) -> None:
        now = self._clock.now()
        for chunk, trouble in list(self._bad.items()):
            helpers = self._find_donors()
            if helpers is None:
                return
            if trouble.due_ns > now:
                continue
            chain, others = helpers
            failure = await self._repair(chunk, chain, others)
            if failure is None:
                del self._bad[chunk]
                if chunk in self._store.bad_chunks:
                    self._on_bad(chunk)  # found bad again meanwhile
                continue
            if not trouble.failures:
                about = {"target": self._shell.target, "chunk": chunk.hex()}
                log.error("target %d: chunk %s cannot be repaired: %s", self._shell.target, chunk.hex(), failure.why, extra=about)
            if failure.is_lost and is_page(chunk) and self._shell.cache is not None:
                self._shell.cache.remove_lost(chunk)
            trouble.why = failure.why
            if self._shell.replica.chain is not chain:
                continue  # others may be asked by now
            if failure.damaged_version:
                # The successor that syncs gets the chunk as it is, and everything else of the chain becomes redundant again.
                self._shell.source.feed(CopyLost(chunk, failure.damaged_version))
            trouble.due_ns = self._clock.now() + min(repair_retry_max_ns, repair_retry_min_ns << min(trouble.failures, 20))
            trouble.failures += 1

    async def _repair(self, chunk: ChunkId, chain: Chain, others: list[Slot]) -> _RepairFailure | None:
        """None: it is good now, or not there any more."""
        why = "its chain has no other target"
        version = 0
        without_copy = serving_without_copy = 0
        for slot in others:
            meta = self._store.get(chunk)
            if chunk not in self._store.bad_chunks or meta is None or not meta.committed:
                return None
            if meta.committed != version:
                version, without_copy, serving_without_copy = meta.committed, 0, 0
            try:
                data = await self._fetch(chunk, chain, slot, meta)
            except FS3Error as failure:
                why = f"target {slot.target}: {failure.strerror}"
                if isinstance(failure, _NoCopy):
                    without_copy += 1
                    serving_without_copy += slot.state is PublicState.SERVING
                continue
            try:
                if await self._store.repair(chunk, meta.committed, data):
                    self.repaired_chunks += 1
                    log.info("target %d: chunk %s is repaired from target %d", self._shell.target, chunk.hex(), slot.target)
                    return None
                why = "it is being updated"
            except FS3Error as failure:
                if isinstance(failure, StoreDamaged) or failure.code is Code.DISK:
                    raise
                why = failure.strerror or failure.code.name
        if chunk not in self._store.bad_chunks:
            return None
        serving = sum(slot.state is PublicState.SERVING for slot in others)
        return _RepairFailure(why, without_copy == len(others), version if serving_without_copy == serving else 0)

    async def _fetch(self, chunk: ChunkId, chain: Chain, slot: Slot, meta: ChunkMeta) -> memoryview:
        """The committed bytes of another replica. Raises FS3Error when it has not the same version."""
        columns = ReadRequestColumns([chunk], [chain.id], [chain.version], [0], [meta.length])
        request = read_request_to_pb(columns, with_checksums=False, repair_version=meta.committed)
        timeout_ns = attempt_timeout_ns + slow_ns_per_byte * meta.length
        reply = await self._context.channel_to(slot.node).call(STORAGE.Read, request, timeout_ns=timeout_ns)
        answer = single_read_reply_from_pb(reply.message)
        code = Code.from_wire(answer.code)
        if code in (Code.CHECKSUM, Code.NOT_FOUND):
            raise _NoCopy(code, f"it answers {code.name}")
        if code is not Code.OK:
            raise FS3Error(code, f"it answers {code.name}")
        if answer.version != meta.committed:
            raise _NoCopy(Code.NOT_FOUND, f"it has version {answer.version}, here is {meta.committed}")
        return reply.payload if reply.payload is not None else memoryview(b"")
