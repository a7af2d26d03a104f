"""One run: a cluster, its clients, trouble, healing, and the questions that are asked all along and in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, NodeId, TargetId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.membership.state import State
from fs3.model.chunk import Tag
from fs3.model.routing import Role, Routing
from fs3.sim.checkers import leases, locks
from fs3.sim.checkers.once import CommitVersions
from fs3.sim.ring import Outcome
from fs3.sim.ring2 import checks
from fs3.sim.ring2.cluster import Cluster
from fs3.sim.ring2.loop import Deadlock, SimLoop, SimProcess, SimTask, open_loop
from fs3.sim.ring2.nemesis import ClusterNemesis
from fs3.sim.ring2.operator import Operator
from fs3.sim.ring2.story import Story, capture_logs
from fs3.sim.ring2.swarm import ClusterSwarm, draw_swarm
from fs3.sim.ring2.upgrader import Upgrader
from fs3.sim.ring2.workloads.chunks import READ_BYTES, SHORT_READ_BYTES, ChunkHistory, ChunkWorkload, shared_chunks
from fs3.sim.ring2.workloads.files import FileWorkload, FinishedFiles
from fs3.sim.ring2.workloads.locks import LockHistory, LockWorkload, find_stuck
from fs3.sim.ring2.workloads.pages import PageWorkload, StoredKeys

BEGIN_NS = 30 * SECOND
"""A cluster serves so soon after its first start."""
END_NS = 120 * SECOND
"""After healing, all operations have ended by then."""
HEALED_NS = 60 * SECOND
"""And then every target serves again."""
MOVED_NS = 600 * SECOND
"""And then every target is where it should be, though some joiners were given up first."""
LOCK_PATIENCE_NS = 20 * SECOND
"""A lock that no client holds is acquired within so long."""
HEAD_CHECK_NS = 50 * MILLISECOND
"""How often what must always hold is looked at."""


class ClusterRun:
    """A run in the making."""

    def __init__(self, loop: SimLoop, seed: int, story: Story, swarm: ClusterSwarm | None = None) -> None:
        prng = Prng(seed)
        drawn = draw_swarm(Prng(prng.next()))
        self.swarm = swarm or drawn
        self.story = story
        self.loop = loop
        self.commit_versions = CommitVersions()
        self.history = ChunkHistory()
        self.finished_files = FinishedFiles()
        self.page_history = ChunkHistory()
        self.stored_keys = StoredKeys()
        self.lock_history = LockHistory()
        self.cluster = Cluster(loop, Prng(prng.next()), self.swarm, story, self._on_commit)
        self.operator = Operator(self.cluster, Prng(~seed), self.swarm)
        upgrader = Upgrader(self.cluster, Prng(~seed), self.swarm)
        self.nemesis = ClusterNemesis(self.cluster, Prng(prng.next()), self.swarm, self.operator, upgrader)
        self._prng = Prng(prng.next())
        self._files: list[FileWorkload] = []
        self._pages: list[PageWorkload] = []
        self._two_heads = False

    async def run(self) -> None:
        """Everything. What is wrong is in the story."""
        story, loop = self.story, self.loop
        looking = loop.create_task(self._watch_heads())
        try:
            if not await self.start_hosts():
                return
            works = self._start_workloads()
            if self.swarm.lock_operations:
                locking = loop.create_task(self._keep_locking(works, Prng(self._prng.next())))
            trouble = loop.create_task(self.nemesis.run())
            _, late = await asyncio.wait((trouble,), timeout=(self.swarm.trouble_ns + END_NS) / SECOND)
            if late:
                story.fail("nemesis", f"does not come to an end\n{loop.report(late)}")
                return
            trouble.result()
            if self.swarm.lock_operations:
                locking.cancel()
            if self.nemesis.lost_targets:
                story.say("world", "the only copy was on a disk that was lost: nothing further can be asked of this run")
                return
            if works and not await self._wait_workloads(works):
                return
            if await self._wait_until("healed", HEALED_NS, self._explain_not_healed) and await self._wait_moved():
                await self._check_end_state()
        finally:
            looking.cancel()
            for line in loop.unhandled_errors:
                story.fail("loop", line)

    async def start_hosts(self) -> bool:
        """Start every host. True when all serve; else the story says why not."""
        for host in self.cluster.hosts.values():
            host.start()

        return await self._wait_until("begin", BEGIN_NS, self._explain_not_healed)

    def _explain_not_healed(self) -> str:
        if len(self.cluster.clients) < self.swarm.clients:
            return "not all clients are connected"
        return checks.explain_not_serving(self._routing())

    def _routing(self) -> Routing:
        """The newest that any client has heard of."""
        known = [client.manager.routing for client in self.cluster.clients.values()]
        return max(known, key=lambda routing: routing.version)

    # --- work -----------------------------------------------------------------------------------------------------------

    def _start_workloads(self) -> list[asyncio.Task[None]]:
        swarm, prng = self.swarm, self._prng
        routing = self._routing()
        chains = list(routing.tables[min(routing.tables)].chains)
        chunks = shared_chunks(swarm.chunks, chains)
        works: list[asyncio.Task[None]] = []
        count = len(self.cluster.clients)

        def share(operations: int, number: int) -> tuple[int, int]:
            mine = operations // count + (number <= operations % count)
            return mine, swarm.trouble_ns // max(mine, 1)

        for number, (name, client) in enumerate(list(self.cluster.clients.items()), 1):
            process = self.cluster.hosts[name].process
            assert process is not None
            read_bytes = SHORT_READ_BYTES if swarm.short_circuit and not swarm.large_chance else READ_BYTES
            chunk_work = ChunkWorkload(
                number, client, Prng(prng.next()), self.history, self.story, swarm.large_chance, read_bytes
            )
            files = FileWorkload(number, client, Prng(prng.next()), self.finished_files, self.story)
            pages = PageWorkload(
                number,
                client,
                Prng(prng.next()),
                self.page_history,
                self.stored_keys,
                self.story,
                swarm.pages,
                swarm.page_bytes,
            )
            self._files.append(files)
            self._pages.append(pages)
            mine, think = share(swarm.chunk_operations, number)
            works.append(self.loop.spawn(process, chunk_work.run(mine, chunks, think)))
            for work, operations in ((files.run, swarm.file_operations), (pages.run, swarm.page_operations)):
                mine, think = share(operations, number)
                if mine:
                    works.append(self.loop.spawn(process, work(mine, think)))
            mine, think = share(swarm.admin_operations, number)
            if mine:
                works.append(self.loop.spawn(process, self._administrate(client, Prng(prng.next()), mine, think)))
        return works

    async def _keep_locking(self, works: list[asyncio.Task[None]], prng: Prng) -> None:
        """Every client locks files, also one that has come in the place of one that died."""
        swarm, known, number = self.swarm, dict[str, Client](), 0
        mine = -(-swarm.lock_operations // swarm.clients)
        while True:
            for name, client in list(self.cluster.clients.items()):
                process = self.cluster.hosts[name].process
                if process is None or known.get(name) is client:
                    continue
                if name in known:
                    self.lock_history.on_lost()
                known[name] = client
                number += 1
                work = LockWorkload(number, client, Prng(prng.next()), self.lock_history, lambda: self.loop.now)
                works.append(self.loop.spawn(process, work.run(mine, swarm.trouble_ns // mine)))
            await asyncio.sleep(0.1)

    async def _administrate(self, client: Client, prng: Prng, operations: int, think_ns: int) -> None:
        for _ in range(operations):
            await asyncio.sleep(prng.below(2 * think_ns + 1) / SECOND)
            try:
                match prng.below(3):
                    case 0:
                        await client.manager.status()
                    case 1:
                        await client.statfs()
                    case _:
                        await client.manager.ensure_table(0)
            except FS3Error as failure:
                self.story.say("admin", str(failure))

    def _on_commit(self, target: TargetId, chunk: ChunkId, version: int, tag: Tag) -> None:
        if wrong := self.commit_versions.explain(target, chunk, version, tag):
            self.story.fail("once", wrong)

    # --- waiting --------------------------------------------------------------------------------------------------------

    async def _wait_workloads(self, works: list[asyncio.Task[None]]) -> bool:
        deadline = self.loop.now + END_NS

        def alive() -> list[asyncio.Task[None]]:
            return [
                work for work in works if not work.done() and isinstance(work, SimTask) and work.process in self._live_processes()
            ]

        while (late := alive()) and self.loop.now < deadline and not self.story.failures:
            await asyncio.wait(late, timeout=1)
        for work in works:
            if work.done() and (problem := work.exception()) is not None:
                where = problem.__traceback__
                while where is not None and where.tb_next is not None:
                    where = where.tb_next
                code = where.tb_frame.f_code.co_qualname if where is not None else "?"
                self.story.fail("workload", f"{type(problem).__name__}: {problem} in {code}")
        if late and not self.story.failures:
            self.story.fail("liveness", f"{len(late)} clients wait for ever\n{self.loop.report(late)}")
        return not late

    async def _wait_until(self, what: str, limit_ns: int, problem: Callable[[], str]) -> bool:
        """Wait until there is no problem any more."""
        deadline = self.loop.now + limit_ns
        while True:
            trouble = problem()
            if not trouble:
                self.story.say("world", what)
                return True
            if self.story.failures:
                return False
            if self.loop.now > deadline:
                self.story.fail("liveness", f"{what}: {trouble}, {limit_ns // SECOND} s after all is well")
                return False
            await asyncio.sleep(0.05)

    async def _wait_moved(self) -> bool:
        """Wait until every target is where it should be."""
        if not self.swarm.operator_steps:
            return True
        await self.operator.end()
        state: State | None = None
        deadline = self.loop.now + MOVED_NS
        while self.loop.now < deadline and not self.story.failures:
            state = await self.cluster.load_state()
            assert state is not None
            trouble = checks.explain_not_moved(state, self.swarm.replicas) or self._explain_not_healed()
            trouble = trouble or checks.explain_not_emptied(state, self.cluster) or checks.explain_leftovers(state, self.cluster)
            if not trouble:
                self.story.say("world", "moved")
                return True
            await asyncio.sleep(0.2)
        if not self.story.failures:
            self.story.fail("moves", f"{trouble}, {MOVED_NS // SECOND} s after all is well")
        return False

    async def _watch_heads(self) -> None:
        while True:
            problem = "" if self._two_heads else leases.explain(checks.list_head_claims(self.cluster))
            if problem:
                self._two_heads = True
                self.story.fail("leases", problem)
            await asyncio.sleep(HEAD_CHECK_NS / SECOND)

    # --- the end --------------------------------------------------------------------------------------------------------

    async def _check_end_state(self) -> None:
        """Every chunk, file and page once more, then what the stores say."""
        story = self.story
        name, client = next(iter(self.cluster.clients.items()))
        process = self.cluster.hosts[name].process
        assert process is not None

        async def chunks() -> None:
            reader = ChunkWorkload(99, client, self._prng, self.history, story, 0)
            routing = self._routing()
            known = shared_chunks(self.swarm.chunks, list(routing.tables[min(routing.tables)].chains))
            for chunk, chain in known:
                code = await reader.read(chunk, chain)
                if code not in (Code.OK, Code.NOT_FOUND):
                    story.fail("liveness", f"chunk {chunk.hex()[-8:]} cannot be read in the end: {code.name}")

        async def files() -> None:
            for work in self._files:
                for file in list(work.files):
                    await work.verify(file)
                if work.files:
                    await work.verify_listing()
            if self._files:
                await self._files[0].verify_finished()

        async def pages() -> None:
            for work in self._pages:
                await work.verify()

        async def scrub() -> None:
            # What nobody reads is found by a scrub; the next one of its own is a long time off.
            for node in self._routing().nodes.values():
                if node.role is Role.STORAGE and self.swarm.rots:
                    await self._ask_scrub(client, node.id)

        async def locking() -> None:
            if self.swarm.lock_operations:
                if any(host.starts > 1 for name, host in self.cluster.hosts.items() if name.startswith("client")):
                    self.lock_history.on_lost()
                # Where no client died, nothing has to wait for one to be presumed dead.
                patience = self.swarm.session_silence_ms * MILLISECOND if self.lock_history.lost else 0
                if stuck := await find_stuck(client, patience + LOCK_PATIENCE_NS):
                    story.fail("locks", stuck)

        async def dead_writers() -> None:
            for work in dead:
                await work.verify_unfinished(self.swarm.session_silence_ms // 1000 + 30)

        dead: list[FileWorkload] = []
        living = list(self.cluster.clients.values())
        for work in self._files:
            if work.client not in living:
                work.client = client
                work.forget_touched()
                dead.append(work)
        for pages_of in self._pages:
            if pages_of.client not in living:
                pages_of.client = client
        for what, look in (
            ("chunks", chunks),
            ("files", files),
            ("locks", locking),
            ("pages", pages),
            ("scrub", scrub),
            ("dead writers", dead_writers),
        ):
            await self._run_check(what, self.loop.spawn(process, look()))
        for what, problem in (
            ("converged", lambda: checks.explain_divergence(self._routing().chains, self.cluster.disks)),
            ("namespace", lambda: checks.explain_namespace(self.cluster)),
            ("holes", self._explain_hidden_holes),
        ):
            await self._wait_until(what, 20 * SECOND, problem)
        history_of = self.lock_history
        if wrong := locks.explain(history_of.intervals, history_of.increments, history_of.reads):
            story.fail("locks", wrong)
        mismatches = sum(each.storage.reads.checksum_mismatches for each in self.cluster.clients.values())
        if mismatches and not self.swarm.rots:
            story.fail("sums", f"{mismatches} reads arrived with other bytes than were written, and no disk has changed any")
        for what, history in (("register", self.history), ("pages", self.page_history)):
            if unexplained := checks.explain_histories(history.operations):
                story.fail(what, unexplained)

    def _explain_hidden_holes(self) -> str:
        if self.swarm.upgrades:
            return ""  # services of the last release do not pass on what they are told of holes
        return checks.explain_hidden_holes(self._routing().chains.values(), self.cluster)

    async def _ask_scrub(self, client: Client, node: NodeId) -> None:
        for _ in range(30):
            try:
                await client.storage.scrub(node, begin=True)
            except FS3Error as failure:
                self.story.say("world", f"node {node} cannot be asked to scrub: {failure}")
                await asyncio.sleep(1)
            else:
                return

    def _live_processes(self) -> list[SimProcess | None]:
        return [host.process for host in self.cluster.hosts.values()]

    async def _run_check(self, what: str, task: asyncio.Task[None]) -> None:
        _, late = await asyncio.wait((task,), timeout=END_NS / SECOND)
        if late:
            self.story.fail("liveness", f"looking at the {what} in the end takes for ever\n{self.loop.report(late)}")
        elif (problem := task.exception()) is not None:
            self.story.fail(what, f"cannot be looked at in the end: {problem}")


def swarm_of_seed(seed: int) -> ClusterSwarm:
    """The options that a seed draws."""
    return draw_swarm(Prng(Prng(seed).next()))


def run_seed(
    seed: int,
    *,
    tell: Callable[[str], None] | None = None,
    steps: Callable[[int, str, str], None] | None = None,
    swarm: ClusterSwarm | None = None,
) -> Outcome:
    """Run one seed. `tell` hears the story as it happens, `steps` every callback of the loop; neither changes it."""
    with open_loop(seed) as loop:
        loop.on_step = steps
        return _run(loop, seed, Story(loop, tell), swarm)


def _run(loop: SimLoop, seed: int, story: Story, swarm: ClusterSwarm | None) -> Outcome:
    with capture_logs(story):
        world = ClusterRun(loop, seed, story, swarm)
        story.say("world", world.swarm.describe())
        try:
            loop.run_until_complete(world.run())
        except Deadlock as stuck:
            story.fail("deadlock", str(stuck))
    operations = sum(map(len, (*world.history.operations.values(), *world.page_history.operations.values())))
    figures = {"acknowledged": world.history.acknowledged, "virtual ms": loop.now // MILLISECOND}
    return Outcome(seed, f"{loop.fingerprint:016x}", story.failures, loop.steps, operations, figures)
