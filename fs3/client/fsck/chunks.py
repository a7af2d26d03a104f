"""The check of what storage has: chunks of files that do not exist, files shorter than their chunks, replicas that differ.

It runs while everything is in use. Whatever looks wrong in a listing is asked about again in an order that proves it:

- A file's content is older than its chunks, is some inode's until it is reclaimed, and its id is never used again. So a chunk
  that is listed, whose content no inode has *after* that, and which is there still *after* that, belongs to no file and never
  will.
- A length is too short if storage has more between two looks at the inode that show the same `change` and no session.
- Every update is staged on every replica before any replica commits it. So a replica that has shown the same committed version
  before and after another one was looked at, and nothing pending, is not just behind.
- A chunk is damaged if every target that serves says so of its copy, twice: one that is just being repaired is not.
- A page of a KVCache is younger than the id of its namespace, which is never given out again. So a page that is listed, whose id
  no namespace has *after* that, and which is there still *after* that, cannot be reached any more; unless the id was never given
  out, as far as the manager knows.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence

from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error, error
from fs3.base.ids import CHUNK_ID_BYTES, ChainId, ChunkId, InodeId, TableId, TargetId, chunk_file, is_page, page_namespace
from fs3.base.limits import check_rounds_max, inspect_inodes_max, retry_backoff_max_ns, retry_backoff_min_ns
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.fsck.namespace_ids import NamespaceIds
from fs3.client.routing import RoutingSource
from fs3.client.storage.client import StorageClient
from fs3.client.storage.file_end import find_file_end
from fs3.core.files.layout import chain_of
from fs3.core.meta.fsck.namespace_check import CheckSource, Progress
from fs3.core.meta.fsck.problems import ProblemCollector
from fs3.model.chain import Chain
from fs3.model.check import InodeFacts, Problem, ProblemKind
from fs3.model.inode import InodeType, Layout
from fs3.model.upkeep import ChunkRow

check_replica_attempts_max = 12
"""How often the replicas of a chunk that is being written are compared before the check goes on."""

check_chunks_per_batch = 4096
"""Chunks of a listing that are compared with the namespace at once."""

_PATIENCE_NS = 10 * SECOND
"""For one page of one target."""
_ATTEMPTS_MAX = 3
"""Of checking a chain whose members change meanwhile."""

ReplicaRows = dict[TargetId, ChunkRow]
ReplicaDigest = tuple[int, int, int]
"""(committed version, length, checksum): what replicas must agree on."""


class ChunkCheck(ProblemCollector):
    """One check of some chains. `run`, then `problems` and `unsettled`."""

    def __init__(
        self,
        storage: StorageClient,
        routing: RoutingSource,
        source: CheckSource,
        namespaces: NamespaceIds,
        progress: Progress = lambda what, rows: None,
    ) -> None:
        super().__init__()
        self._storage = storage
        self._routing = routing
        self._source = source
        self._namespaces = namespaces
        self._progress = progress
        self.unsettled: set[ChunkId] = set()
        """Chunks that were being written whenever their replicas were compared."""
        self.chunks = 0
        """Chunks looked at."""
        self.skipped_targets: list[tuple[ChainId, TargetId]] = []
        """Targets that do not serve, so that their copies were not compared."""
        self._short: set[InodeId] = set()

    async def run(self, *, files: bool = True, replicas: bool = True) -> None:
        """Look at every chain. `files`: compare with the namespace, and pages with those of caches. `replicas`: compare replicas
        with each other.

        Raises FS3Error when a chain has no target that serves it, or one that does not answer.
        """
        await self._refresh()
        for chain in sorted(self._routing.routing.chains):
            for attempt in range(1, _ATTEMPTS_MAX + 1):
                members = self._members(chain)
                begun = self.chunks, len(self.skipped_targets)
                try:
                    await self._check_chain(chain, files, replicas)
                    break
                except FS3Error:
                    # A target that served when it began may have died, and the chain goes on without it.
                    self.chunks, left_out = begun
                    del self.skipped_targets[left_out:]
                    await self._refresh()
                    if self._members(chain) == members or attempt == _ATTEMPTS_MAX:
                        raise

    async def _refresh(self) -> None:
        await self._routing.refresh(self._routing.routing.version)

    async def _check_chain(self, chain: ChainId, files: bool, replicas: bool) -> None:
        members = self._members(chain)
        serving = [slot.target for slot in members.serving_slots()]
        self.skipped_targets += [(chain, slot.target) for slot in members.slots if slot.target not in serving]
        batch: list[tuple[ChunkId, ReplicaRows]] = []
        async for item in self._merge_listings(chain, serving):
            batch.append(item)
            if len(batch) >= check_chunks_per_batch:
                await self._check_batch(chain, batch, serving, files, replicas)
                batch = []
        await self._check_batch(chain, batch, serving, files, replicas)

    async def _check_batch(
        self,
        chain: ChainId,
        batch: Sequence[tuple[ChunkId, ReplicaRows]],
        serving: Sequence[TargetId],
        files: bool,
        replicas: bool,
    ) -> None:
        self.chunks += len(batch)
        self._progress("chunks", len(batch))
        if files:
            await self._check_files(chain, [(chunk, rows) for chunk, rows in batch if not chunk[0]])
            await self._check_damage(chain, [chunk for chunk, rows in batch if not chunk[0] and _are_bad(rows.values(), serving)])
            await self._check_pages(chain, [chunk for chunk, _ in batch if is_page(chunk)])
        if replicas and len(serving) > 1:
            for chunk, rows in batch:
                if len(rows) < len(serving) or len({_digest_of(row) for row in rows.values()}) > 1:
                    await self._compare(chain, chunk)

    # --- against the namespace ----------------------------------------------------------------------------------------

    async def _check_files(self, chain: ChainId, batch: Sequence[tuple[ChunkId, ReplicaRows]]) -> None:
        contents = sorted({file[0] for chunk, _ in batch if (file := chunk_file(chunk)) is not None})
        known: dict[InodeId, InodeFacts] = {}
        next_id = 1 << 64
        for at in range(0, len(contents), inspect_inodes_max):
            inspection = await self._source.inspect_contents(contents[at : at + inspect_inodes_max])
            known.update((facts.content, facts) for facts in inspection.facts)
            next_id = min(next_id, inspection.next_id)
        strays: list[Problem] = []
        for chunk, rows in batch:
            file = chunk_file(chunk)
            assert file is not None
            content, index = file
            facts = known.get(content)
            if facts is None:
                kind = ProblemKind.ORPHAN_CHUNK if content < next_id else ProblemKind.CHUNK_FROM_NOWHERE
                expected = 0 if content < next_id else next_id
                strays.append(Problem(kind, content, chain, key=chunk, expected=expected))
            elif facts.type is not InodeType.FILE:
                strays.append(Problem(ProblemKind.MISPLACED_CHUNK, facts.inode, chain, key=chunk))
            elif facts.chunk_size:
                layout = _layout(facts)
                belongs = chain_of(layout, index)
                if belongs != chain:
                    strays.append(Problem(ProblemKind.MISPLACED_CHUNK, facts.inode, chain, key=chunk, expected=belongs))
                else:
                    end = max((index * facts.chunk_size + row.length for row in rows.values() if row.committed), default=0)
                    if end > facts.length and not facts.open and facts.nlink and content not in self._short:
                        self._short.add(content)
                        await self._check_length(facts)
        await self._check_strays(chain, strays)

    async def _check_damage(self, chain: ChainId, suspects: Sequence[ChunkId]) -> None:
        """Those of files that are there, and of which every target that serves has a bad copy still."""
        for chunk in suspects:
            file = chunk_file(chunk)
            assert file is not None
            facts = (await self._source.inspect_contents([file[0]])).facts
            looks = await self.inspect_replicas(chain, chunk)
            if facts and _are_bad([row for row in looks.values() if row is not None], list(looks)):
                kind = ProblemKind.DAMAGED_CHUNK
                self.add_problems([Problem(kind, facts[0].inode, chain, key=chunk, found=len(looks))])

    async def _check_pages(self, chain: ChainId, pages: Sequence[ChunkId]) -> None:
        missing = await self._namespaces.find_missing(map(page_namespace, pages))
        next_id = self._namespaces.next_id
        strays = []
        for page in pages:
            number = page_namespace(page)
            if number not in missing:
                continue
            if number < next_id:
                strays.append(Problem(ProblemKind.UNREACHABLE_PAGE, 0, chain, key=page, found=number))
            else:
                strays.append(Problem(ProblemKind.PAGE_FROM_NOWHERE, 0, chain, key=page, found=number, expected=next_id))
        await self._check_strays(chain, strays)

    async def _check_strays(self, chain: ChainId, strays: Sequence[Problem]) -> None:
        """Those that are still there, now that their inodes or namespaces are known to be gone."""
        if not strays:
            return
        outcomes = await self._storage.find([(ChunkId(problem.key), chain) for problem in strays])
        for problem, outcome in zip(strays, outcomes, strict=True):
            if outcome.code is Code.OK:
                self.add_problems([problem])
            elif outcome.code is not Code.NOT_FOUND:
                raise error(outcome.code, f"chain {chain} does not tell what it has: {outcome.message or outcome.code.name}")

    async def _check_length(self, facts: InodeFacts) -> None:
        for _ in range(check_rounds_max):
            if facts.open or not facts.nlink:
                return
            end = await find_file_end(self._storage, facts.content, _layout(facts), facts.length)
            if end <= facts.length:
                return  # it was cut, or told its length, meanwhile
            now = (await self._source.inspect_contents([facts.content])).facts
            if not now:
                return
            if now[0].change == facts.change and not now[0].open:
                kind = ProblemKind.TOO_SHORT
                self.add_problems([Problem(kind, facts.inode, change=facts.change, found=facts.length, expected=end)])
                return
            facts = now[0]

    # --- replicas against each other ----------------------------------------------------------------------------------

    async def _compare(self, chain: ChainId, chunk: ChunkId) -> None:
        """Three looks at all replicas. One that shows the same in the first and the last showed it during the second."""
        backoff = Backoff(retry_backoff_min_ns, retry_backoff_max_ns)
        for _ in range(check_replica_attempts_max):
            members = self._members(chain)
            looks = [await self.inspect_replicas(chain, chunk) for _ in range(3)]
            is_settled = all(not (row and row.pending) for look in looks for row in look.values())
            if is_settled and looks[0] == looks[1] == looks[2]:
                found = _differences(chain, chunk, looks[0])
                if found:
                    await self._refresh()  # one that no longer serves may be behind, and answers all the same
                if self._members(chain) == members:
                    self.add_problems(found)
                    return
            await asyncio.sleep(backoff.next_ns() / SECOND)
        self.unsettled.add(chunk)

    async def inspect_replicas(self, chain: ChainId, chunk: ChunkId) -> dict[TargetId, ChunkRow | None]:
        """One chunk on every target that serves its chain."""
        number = int.from_bytes(chunk, "big")
        after = ChunkId((number - 1).to_bytes(CHUNK_ID_BYTES, "big")) if number else None
        found: dict[TargetId, ChunkRow | None] = {}
        for slot in self._members(chain).serving_slots():
            page = await self._storage.list_chunks(chain, slot.target, after=after, until=_next(chunk), timeout_ns=_PATIENCE_NS)
            found[slot.target] = page.rows[0] if page.rows else None
        return found

    # --- pieces -------------------------------------------------------------------------------------------------------

    async def _merge_listings(self, chain: ChainId, targets: Sequence[TargetId]) -> AsyncIterator[tuple[ChunkId, ReplicaRows]]:
        """Every chunk that any of these targets has, in key order, with what each has of it."""
        heads: dict[TargetId, ChunkRow] = {}
        streams = {target: self._rows(chain, target) for target in targets}
        for target, stream in streams.items():
            if (row := await anext(stream, None)) is not None:
                heads[target] = row
        while heads:
            chunk = min(row.chunk for row in heads.values())
            here = {target: row for target, row in heads.items() if row.chunk == chunk}
            yield chunk, here
            for target in here:
                following = await anext(streams[target], None)
                if following is None:
                    del heads[target]
                else:
                    heads[target] = following

    async def _rows(self, chain: ChainId, target: TargetId) -> AsyncIterator[ChunkRow]:
        after: ChunkId | None = None
        while True:
            page = await self._storage.list_chunks(chain, target, after=after, timeout_ns=_PATIENCE_NS)
            for row in page.rows:
                yield row
            if not page.more:
                return
            after = page.rows[-1].chunk

    def _members(self, chain: ChainId) -> Chain:
        members = self._routing.routing.chains.get(chain)
        if members is None or not members.serving_slots():
            raise error(Code.NOT_SERVING, f"nobody serves chain {chain}")
        return members


def _digest_of(row: ChunkRow) -> ReplicaDigest:
    return row.committed, row.length, row.checksum


def _are_bad(rows: Collection[ChunkRow], serving: Sequence[TargetId]) -> bool:
    return len(rows) == len(serving) and all(row.bad for row in rows)


def _layout(facts: InodeFacts) -> Layout:
    return Layout(TableId(0), facts.chunk_size, len(facts.chains), facts.chains)


def _next(chunk: ChunkId) -> ChunkId | None:
    number = int.from_bytes(chunk, "big") + 1
    return ChunkId(number.to_bytes(CHUNK_ID_BYTES, "big")) if number >> 8 * CHUNK_ID_BYTES == 0 else None


def _differences(chain: ChainId, chunk: ChunkId, replicas: dict[TargetId, ChunkRow | None]) -> list[Problem]:
    """Each replica that is not like most of them; of equally many, those with the higher version are right."""
    there = {target: row for target, row in replicas.items() if row is not None and row.committed}
    if not there:
        return []
    counts = Counter(_digest_of(row) for row in there.values())
    best = max(counts, key=lambda looks: (counts[looks], looks))
    model = next(target for target, row in there.items() if _digest_of(row) == best)
    inode = (chunk_file(chunk) or (0, 0))[0]
    problems = []
    for target in replicas:
        if target not in there:
            problems.append(Problem(ProblemKind.REPLICA_MISSING, inode, chain, key=chunk, found=target, expected=model))
        elif _digest_of(there[target]) != best:
            problems.append(Problem(ProblemKind.REPLICA_DIFFERS, inode, chain, key=chunk, found=target, expected=model))
    return problems
