"""The check of a whole cluster: its namespace, its chunks, its replicas; and the repair of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fs3.base.errors import error
from fs3.base.ids import ChainId, ChunkId, TargetId
from fs3.base.status import Code
from fs3.client.fsck.chunks import ChunkCheck
from fs3.client.fsck.namespace_ids import NamespaceIds
from fs3.client.meta.client import MetaClient
from fs3.client.mgmtd.namespace_source import NamespaceSource
from fs3.client.routing import RoutingSource
from fs3.client.storage.client import StorageClient
from fs3.core.files.write_plan import WriteIO
from fs3.core.meta.fsck.namespace_check import CheckSource, NamespaceCheck, Progress
from fs3.model.check import CheckPage, Inspection, Problem, ProblemKind, RepairResult, RowTable
from fs3.model.chunk import UpdateKind
from fs3.model.requests import CheckRows, InspectInodes, Repair


class MetaSource(CheckSource):
    """Pages and facts from the metadata process that answers, and repairs by it. All methods raise FS3Error."""

    def __init__(self, meta: MetaClient) -> None:
        self._meta = meta

    async def page(self, table: RowTable, begin: bytes) -> CheckPage:
        """The page of a table that begins at a key."""
        return await self._meta.ask(CheckRows(table, begin))

    async def inspect(self, inodes: Sequence[int]) -> Inspection:
        """At most `inspect_inodes_max` inodes as they are now."""
        return await self._meta.ask(InspectInodes(list(inodes)))

    async def inspect_contents(self, contents: Sequence[int]) -> Inspection:
        """The inodes that have these contents, at most `inspect_inodes_max`, as they are now."""
        return await self._meta.ask(InspectInodes(list(contents), contents=True))

    async def repair(self, problem: Problem) -> RepairResult:
        """Repair one problem of the namespace, if it is still one."""
        return await self._meta.ask(Repair(problem))


@dataclass
class Report:
    """What a check found."""

    problems: list[Problem] = field(default_factory=list)
    more: bool = False
    """There are more problems than one check says."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many of what were looked at."""
    unsettled_inodes: list[int] = field(default_factory=list)
    """Changed whenever they were looked at: nothing is known of how many names they should have."""
    unsettled_chunks: list[ChunkId] = field(default_factory=list)
    """Written whenever their replicas were compared."""
    skipped_targets: list[tuple[ChainId, TargetId]] = field(default_factory=list)
    """Targets that do not serve: their copies were not compared."""


class ManagerSource(RoutingSource, NamespaceSource, Protocol):
    """What is asked of the manager. `MgmtdClient` is the one of production."""


class Fsck:
    """Checks and repairs one cluster, in use. All methods raise FS3Error when a process that must be asked does not answer."""

    def __init__(
        self,
        meta: MetaClient,
        storage: StorageClient,
        manager: ManagerSource,
        progress: Progress = lambda what, rows: None,
    ) -> None:
        self._source = MetaSource(meta)
        self._storage = storage
        self._routing: RoutingSource = manager
        self._namespaces = NamespaceIds(manager)
        self._progress = progress

    async def check(self, *, names: bool = True, files: bool = True, replicas: bool = True) -> Report:
        """`names`: the namespace in itself. `files`: chunks against the namespace, pages against those of caches. `replicas`:
        replicas against each other."""
        report = Report()
        if names:
            survey = NamespaceCheck(self._source, self._progress)
            await survey.run()
            report.problems += survey.problems
            report.more = survey.more
            report.counts.update((table.name.lower(), rows) for table, rows in survey.counts.items())
            report.unsettled_inodes = sorted(survey.unsettled)
        if files or replicas:
            chunks = ChunkCheck(self._storage, self._routing, self._source, self._namespaces, self._progress)
            await chunks.run(files=files, replicas=replicas)
            found = chunks.problems
            if report.more or any(problem.kind is ProblemKind.CONTENT_UNLISTED for problem in report.problems):
                # Chunks of a content that no row knows of look as if nobody had them: first the row is written again.
                found = [problem for problem in found if problem.kind is not ProblemKind.ORPHAN_CHUNK]
                report.more = True
            report.problems += found
            report.more = report.more or chunks.more
            report.counts["chunks"] = chunks.chunks
            report.unsettled_chunks = sorted(chunks.unsettled)
            report.skipped_targets = chunks.skipped_targets
        return report

    async def repair(self, problem: Problem) -> RepairResult:
        """Repairs one problem, if it is still one."""
        match problem.kind:
            case ProblemKind.ORPHAN_CHUNK | ProblemKind.MISPLACED_CHUNK | ProblemKind.UNREACHABLE_PAGE:
                return await self._remove(problem)
            case ProblemKind.CHUNK_FROM_NOWHERE:
                return RepairResult(False, "it is left alone: restore newer metadata, or remove it by hand")
            case ProblemKind.PAGE_FROM_NOWHERE:
                return RepairResult(False, "it is left alone: put back a newer copy of the manager's store")
            case ProblemKind.DAMAGED_CHUNK:
                how = "bring a replica back that has its bytes, or overwrite all of the chunk, or cut the file before it"
                return RepairResult(False, f"nothing is invented: {how}")
            case ProblemKind.REPLICA_MISSING | ProblemKind.REPLICA_DIFFERS:
                how = "stop its node, move the target's directory away, start the node: it is filled from its chain"
                return RepairResult(False, f"target {problem.found} is mended by its owner: {how}")
        return await self._source.repair(problem)

    async def _remove(self, problem: Problem) -> RepairResult:
        if problem.kind is ProblemKind.ORPHAN_CHUNK and (await self._source.inspect_contents([problem.inode])).facts:
            return RepairResult(False, "it is no longer so")
        write = WriteIO(ChunkId(problem.key), ChainId(problem.parent), UpdateKind.REMOVE, 0)
        (result,) = await self._storage.update([write])
        if result.code not in (Code.OK, Code.NOT_FOUND):
            raise error(result.code, f"a chunk is not removed from chain {problem.parent}: {result.message or result.code.name}")
        return RepairResult(True, "it was removed")
