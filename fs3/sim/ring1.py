"""Simulation ring 1: the replication machines on an event heap. No asyncio, no real time; one seed is one run, for ever.

A run has one chain of targets, a trusted manager and a few clients. For a while there is trouble: crashes that lose unsynced
commits, cut links, stopped processes, chain changes, and a network that delays, reorders, doubles and loses. Then everything is
healed, and the run must come to rest with every promise kept.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fs3.base.ids import TargetId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.craq.effects import Commit, Effect, Forward, Reply, Stage
from fs3.core.craq.events import Acked, Event, Staged, UpdateReceived
from fs3.model.chunk import Tag, Update
from fs3.sim.checkers import convergence, durability, once, register
from fs3.sim.client_model import ClientModel, Operation, is_page, page_content
from fs3.sim.fingerprint import Fingerprint
from fs3.sim.heap import Heap
from fs3.sim.links import Links
from fs3.sim.manager_model import ManagerModel
from fs3.sim.messages import FIRST_CLIENT, MANAGER, Message
from fs3.sim.show import show_effect, show_event, show_message
from fs3.sim.swarm import Swarm, swarm_of
from fs3.sim.target_host import Parts, TargetHost

rest_ns_max = 30 * SECOND
"""After the healing everything must have come to rest within this virtual time."""
steps_max = 200_000
"""A run that schedules more than this is broken. Usual are a few thousand."""


@dataclass
class Outcome:
    """What came of a run."""

    seed: int
    fingerprint: str
    failures: list[str] = field(default_factory=list)
    steps: int = 0
    operations: int = 0
    chain_versions: int = 0

    @property
    def is_clean(self) -> bool:
        """Every promise was kept."""
        return not self.failures


def _where(failed: BaseException) -> str:
    """The innermost places of an exception, without anything that differs from run to run."""
    frames = traceback.extract_tb(failed.__traceback__)[-3:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))


class Stop(Exception):
    """A run that has failed ends here."""


class World:
    """Everything of one run."""

    def __init__(self, seed: int, parts: Parts, trace: Callable[[str], None] | None = None, swarm: Swarm | None = None) -> None:
        self.seed = seed
        self.heap = Heap()
        self.fingerprint = Fingerprint()
        self.failures: list[str] = []
        self.is_healed = False
        self._prng = Prng(seed)
        self.swarm = swarm if swarm is not None else swarm_of(self._prng)
        self._trace = trace
        self._moments = 0
        self._paused: dict[int, list[tuple[int, Message]]] = {}
        self._acknowledged: list[Update] = []
        self._commit_order: dict[Tag, int] = {}
        self.links = Links(self.heap, Prng(self._prng.next()), self.swarm, self._incarnation_of, self._deliver)
        margin = 2 * MILLISECOND
        self.manager = ManagerModel(
            self.swarm.targets, self.swarm.lease_ns, margin, lambda to, what: self.send(MANAGER, to, what)
        )
        self.hosts = {
            TargetId(index): TargetHost(TargetId(index), self, self.swarm.lease_ns, self.swarm.limits, parts)
            for index in range(1, self.swarm.targets + 1)
        }
        share, more = divmod(self.swarm.operations, self.swarm.clients)
        self.clients: dict[int, ClientModel] = {}
        for index in range(self.swarm.clients + self.swarm.watchers):
            node = FIRST_CLIENT + index
            watches = index >= self.swarm.clients
            count = self.swarm.glances if watches else share + (index < more)
            self.clients[node] = ClientModel(node, count, self.swarm, Prng(self._prng.next()), self, watches=watches)

    # --- a run -------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Trouble, healing, rest, checks."""
        try:
            self._begin()
            while not self._is_at_rest():
                assert self.heap.steps < steps_max, "the run does not end"
                assert self.heap.step(), "nothing is scheduled any more"
            self._check_end()
        except Stop:
            pass
        except AssertionError as failed:
            self.failures.append(f"assertion: {failed}")
        except Exception as failed:  # a machine that breaks down is a finding like any other
            self.failures.append(f"{type(failed).__name__}: {failed} {_where(failed)}")
        if self.failures and self._trace is not None:
            for failure in self.failures:
                self._say(f"FAILED {failure}")
        operations = sum(len(client.history) for client in self.clients.values())
        return Outcome(self.seed, str(self.fingerprint), self.failures, self.heap.steps, operations, self.manager.chain.version)

    def _begin(self) -> None:
        self._say(self.swarm.describe())
        for host in self.hosts.values():
            host.acknowledged = self._check_acknowledged
            host.start()
            self._beat(host.target)
        self._sweep()
        for client in self.clients.values():
            self.heap.after(self._prng.below(self.swarm.think_ns + 1), client.next_operation)
        self._plan_trouble()
        self.heap.after(self.swarm.trouble_ns, self._heal)

    def _beat(self, target: TargetId) -> None:
        host = self.hosts[target]
        if host.up and target not in self._paused:
            host.heartbeat()
        self.heap.after(self.swarm.heartbeat_ns, self._beat, target)

    def _sweep(self) -> None:
        self.manager.sweep(self.heap.now)
        self.heap.after(self.swarm.heartbeat_ns, self._sweep)

    def _is_at_rest(self) -> bool:
        if not self.is_healed or not all(client.is_done for client in self.clients.values()):
            self._check_patience()
            return False
        version = self.manager.chain.version
        for host in self.hosts.values():
            chain = host.replica.chain if host.replica.opened else None
            if not host.is_idle or host.disk_is_busy or chain is None or chain.version != version:
                self._check_patience()
                return False
        return bool(self.manager.chain.serving())

    def _check_patience(self) -> None:
        if self.heap.now > self.swarm.trouble_ns + rest_ns_max:
            waiting = [client.node for client in self.clients.values() if not client.is_done]
            states = "; ".join(host.replica.describe() for host in self.hosts.values())
            self.complain(f"no rest {rest_ns_max // SECOND} s after healing: clients {waiting} wait; {states}")

    # --- trouble -----------------------------------------------------------------------------------------------------

    def _plan_trouble(self) -> None:
        swarm, prng = self.swarm, self._prng
        kinds: Sequence[tuple[int, Callable[[], None]]] = (
            (swarm.crashes, self._crash),
            (swarm.cuts, self._cut),
            (swarm.isolations, self._isolate),
            (swarm.pauses, self._pause),
            (swarm.bumps, self._bump),
        )
        for count, begin in kinds:
            for _ in range(count):
                self.heap.after(prng.below(swarm.trouble_ns), begin)

    def _victim(self) -> TargetHost:
        return self.hosts[TargetId(self._prng.between(1, self.swarm.targets))]

    def _crash(self) -> None:
        host = self._victim()
        if self.is_healed or not host.up:
            return
        lost = self._prng.below(host.chunks.unsynced + 1)
        self._say(f"crash {host.target}, {lost} of {host.chunks.unsynced} unsynced commits lost")
        self._paused.pop(host.target, None)
        host.crash(lost)
        # Half of the restarts are faster than the manager notices: the target comes back into the same chain version.
        patience = self.swarm.lease_ns // 4 if self._prng.chance(1, 2) else self.swarm.trouble_ns
        self.heap.after(self._prng.between(1, patience), self._restart, host, host.incarnation)

    def _restart(self, host: TargetHost, incarnation: int) -> None:
        if not host.up and host.incarnation == incarnation:
            self._say(f"restart {host.target}")
            host.start()
            host.heartbeat()

    def _cut(self) -> None:
        if self.is_healed:
            return
        one = self._victim().target
        other = self._prng.pick([MANAGER, *self.hosts, *self.clients])
        pairs = {(one, other)} if self._prng.chance(1, 3) else {(one, other), (other, one)}
        self._say(f"cut {sorted(pairs)}")
        self.links.cuts |= pairs
        self.heap.after(self._prng.between(1, self.swarm.trouble_ns // 2), self._mend, pairs)

    def _isolate(self) -> None:
        if self.is_healed:
            return
        one = self._victim().target
        others: list[int] = [MANAGER]
        if self._prng.chance(1, 2):
            others += [host for host in self.hosts if host != one]
        pairs = {pair for other in others for pair in ((one, other), (other, one))}
        self._say(f"isolate {one} from {others}")
        self.links.cuts |= pairs
        self.heap.after(self._prng.between(self.swarm.lease_ns // 2, 4 * self.swarm.lease_ns), self._mend, pairs)

    def _mend(self, pairs: set[tuple[int, int]]) -> None:
        self.links.cuts -= pairs

    def _pause(self) -> None:
        host = self._victim()
        if self.is_healed or not host.up or host.target in self._paused:
            return
        self._say(f"pause {host.target}")
        self._paused[host.target] = []
        self.heap.after(self._prng.between(1, 2 * self.swarm.lease_ns), self._resume, host)

    def _resume(self, host: TargetHost) -> None:
        messages = self._paused.pop(host.target, None)
        if messages is None:
            return
        self._say(f"resume {host.target}")
        for source, message in messages:
            host.receive(source, message)

    def _bump(self) -> None:
        if not self.is_healed and self.manager.chain.serving():
            self.manager.bump()

    def _heal(self) -> None:
        self._say("heal")
        self.is_healed = True
        self.links.heal()
        for host in self.hosts.values():
            self._resume(host)
            self._restart(host, host.incarnation)

    # --- surroundings of hosts and clients ---------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """Virtual nanoseconds."""
        return self.heap.now

    def moment(self) -> int:
        """A position in the order of events, later than all before."""
        self._moments += 1
        return self._moments

    def after(self, delay_ns: int, action: Callable[..., None], *arguments: int) -> None:
        """Call back in virtual time."""
        self.heap.after(delay_ns, action, *arguments)

    def send(self, source: int, target: int, message: Message) -> None:
        """Put a message on its way."""
        self.links.send(source, target, message)

    def _incarnation_of(self, node: int) -> int:
        host = self.hosts.get(TargetId(node))
        return 0 if host is None else host.incarnation if host.up else -1

    def _deliver(self, source: int, target: int, incarnation: int, message: Message) -> None:
        if incarnation < 0 or incarnation != self._incarnation_of(target):
            return  # whoever it was sent to is gone
        if self._trace is not None:
            self._say(f"{source} → {target}: {show_message(message)}")
        if target == MANAGER:
            self.manager.receive(self.heap.now, source, message)
        elif target >= FIRST_CLIENT:
            self.clients[target].receive(source, message)
        elif target in self._paused:
            self._paused[target].append((source, message))
        else:
            self.hosts[TargetId(target)].receive(source, message)

    def opens(self, host: TargetHost) -> None:
        """A store is looked through."""
        self.heap.after(self._prng.between(1, 2 * self.swarm.stage_max_ns), host.open, host.incarnation)

    def disk_begins(self, host: TargetHost) -> None:
        """A barrier begins."""
        swarm = self.swarm
        bits = self._prng.next()
        slow = not self.is_healed and bits & 1023 < swarm.stage_tail_chance
        span = swarm.stage_tail_ns if slow else swarm.stage_max_ns - swarm.stage_min_ns
        self.heap.after(swarm.stage_min_ns + ((bits >> 32) * span >> 32), host.disk_ends, host.incarnation)

    def arm(self, host: TargetHost, due_ns: int) -> None:
        """A host wants to be woken."""
        self.heap.after(max(0, due_ns - self.heap.now), host.tick, host.incarnation)

    def note(self, host: TargetHost, event: Event | str, effects: list[Effect]) -> None:
        """A step of a replica."""
        mix = self.fingerprint.add
        mix(self.heap.now, host.target)
        if isinstance(event, UpdateReceived):
            mix(1, event.update.chunk[-1], event.update.kind, event.update.version, event.update.tag.seq, event.token)
        elif isinstance(event, Staged):
            mix(2, event.chunk[-1], event.version, event.checksum)
        elif isinstance(event, Acked):
            mix(3, event.chunk[-1], event.version, event.attempt, event.result.code)
        for effect in effects:
            if isinstance(effect, Stage):
                mix(4, effect.update.version)
            elif isinstance(effect, Forward):
                mix(5, effect.target, effect.attempt, effect.update.floor)
            elif isinstance(effect, Commit):
                mix(6, effect.chunk[-1], effect.version, effect.result.checksum)
                self._commit_order.setdefault(effect.tag, len(self._commit_order))
            elif isinstance(effect, Reply):
                mix(7, effect.token, effect.result.code)
        if self._trace is not None:
            shown = "; ".join(show_effect(effect) for effect in effects)
            self._say(f"   {show_event(event)} ⇒ {shown or 'nothing'} | {host.replica.describe()}")

    def finished(self, operation: Operation) -> None:
        """An operation of a client is over, or given up."""
        self.fingerprint.add(self.heap.now, operation.client, operation.invoked, operation.returned, operation.attempts)
        self.fingerprint.add_bytes(operation.data)
        self._say(operation.describe())

    def complain(self, what: str) -> None:
        """A promise was broken: the run ends."""
        self.failures.append(what)
        raise Stop

    def _say(self, line: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.heap.now / MILLISECOND:10.3f} {line}")

    # --- checks ------------------------------------------------------------------------------------------------------

    def _check_acknowledged(self, update: Update) -> None:
        """A client is about to be told OK."""
        tag = update.tag
        if not tag.client or self.clients[int.from_bytes(tag.client, "big")].has_gone_on(tag):
            return
        self._acknowledged.append(update)
        wrong = durability.explain(tag, self.manager.chain, {host.target: host.chunks for host in self.hosts.values()})
        if wrong:
            self.complain(f"durability: {wrong}")

    def _check_end(self) -> None:
        stores = {host.target: host.chunks for host in self.hosts.values()}
        chain = self.manager.chain
        tags = [update.tag for update in self._acknowledged]
        for name, wrong in (
            ("convergence", convergence.explain(chain, stores)),
            ("once", once.explain((target, chunks) for target, chunks in stores.items())),
            ("durability", durability.explain_end(tags, chain, stores)),
        ):
            if wrong:
                self.failures.append(f"{name}: {wrong}")
        self._check_histories()
        for host in self.hosts.values():
            for chunk, record in sorted(host.chunks.records.items()):
                self.fingerprint.add(host.target, record.meta.committed, record.meta.chain_version)
                self.fingerprint.add_bytes(chunk + record.content)

    def _check_histories(self) -> None:
        """Every chunk's history, with one last read at every serving target."""
        histories: dict[bytes, list[Operation]] = {}
        for client in self.clients.values():
            for operation in client.history:
                histories.setdefault(operation.chunk, []).append(operation)
        for chunk, history in histories.items():
            history += [self._last_read(TargetId(slot.target), history[0]) for slot in self.manager.chain.serving()]
            if is_page(history[0].chunk):
                content = page_content(int.from_bytes(chunk[8:], "big"))
                for operation in history:
                    if operation.kind is None and operation.code is not None and operation.data not in (b"", content):
                        self.failures.append(f"page: {operation.describe()}")
                continue
            wrong = register.explain(history, self._commit_order)
            if wrong:
                self.failures.append(f"linearizability: {wrong}")

    def _last_read(self, target: TargetId, like: Operation) -> Operation:
        content = self.hosts[target].chunks.content(like.chunk)
        code = Code.NOT_FOUND if content is None else Code.OK
        begun = self.moment()
        return Operation(MANAGER, like.chunk, None, 0, content or b"", like.tag, begun, self.moment(), code, 1)


def run_seed(
    seed: int, parts: Parts | None = None, trace: Callable[[str], None] | None = None, swarm: Swarm | None = None
) -> Outcome:
    """One run."""
    return World(seed, parts if parts is not None else Parts(), trace, swarm).run()
