"""Simulation ring 1: the replication machines on an event heap. No asyncio, no real time; one seed is one run, for ever.

A run has one chain of targets, a manager (the real machine too) and a few clients. For a while there is trouble (`nemesis`):
processes die, stop and hand over, links are cut, disks fill up, rot and are exchanged, and the network delays, reorders, doubles
and loses. Targets leave the chain and come back through a resync. Then everything is healed, and the run must come to rest with
every target serving and every promise kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fs3.base.ids import TargetId
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.craq.effects import AnswerUpdate, Commit, Effect, Forward
from fs3.core.craq.events import Event, ForwardDone, StageDone, UpdateReceived
from fs3.core.craq.resync.steps import ResyncEffect, ResyncEvent
from fs3.core.membership.manager import Manager
from fs3.core.membership.state import Rows
from fs3.model.chunk import Tag, Update
from fs3.sim.checkers import durability, leases
from fs3.sim.ring1.client_model import ClientModel, Operation
from fs3.sim.ring1.fingerprint import Fingerprint
from fs3.sim.ring1.heap import Heap
from fs3.sim.ring1.links import Links
from fs3.sim.ring1.manager_model import ManagerModel
from fs3.sim.ring1.messages import FIRST_CLIENT, MANAGER, ChainNotice, ManagerAnswer, Message
from fs3.sim.ring1.nemesis import ChainNemesis
from fs3.sim.ring1.node_model import NodeModel
from fs3.sim.ring1.show import show_chain, show_effect, show_event, show_message
from fs3.sim.ring1.swarm import ChainSwarm, draw_swarm
from fs3.sim.ring1.target_host import Parts, TargetHost
from fs3.sim.ring1.verdict import ChainOutcome, check_stores, describe_frames, explain_history, final_read

rest_ns_max = 30 * SECOND
"""After the healing everything must have come to rest within this virtual time."""
steps_max = 200_000
"""A run that schedules more than this is broken. Usual are a few thousand."""
_MILLION = 1_000_000


class RunFailure(Exception):
    """A run that has failed ends here."""


class ChainRun:
    """Everything of one run."""

    def __init__(
        self, seed: int, parts: Parts, trace: Callable[[str], None] | None = None, swarm: ChainSwarm | None = None
    ) -> None:
        self.seed = seed
        self.parts = parts
        self.heap = Heap()
        self.fingerprint = Fingerprint()
        self.failures: list[str] = []
        self.is_healed = False
        self._prng = Prng(seed)
        self.swarm = swarm if swarm is not None else draw_swarm(self._prng)
        self._trace = trace
        self._moments = 0
        self._paused: dict[int, list[tuple[Callable[..., None], tuple[Any, ...]]]] = {}
        self._acknowledged: list[Update] = []
        self._commit_order: dict[Tag, int] = {}
        count = self.swarm.targets
        # Clocks run at different speeds, as far apart as the manager allows for.
        rate = self.swarm.drift_ns * _MILLION // self.swarm.lease_ns // 2
        self._rates = [self._prng.between(0, 2 * rate) - rate for _ in range(count + 1)]
        self._offsets = [self._prng.below(SECOND) for _ in range(count + 1)]
        self.links = Links(self.heap, Prng(self._prng.next()), self.swarm, self._process_of, self._deliver)
        self.manager = ManagerModel(
            count, self.swarm.lease_ns, self.swarm.drift_ns, self.swarm.heartbeat_ns, self, parts.manager or Manager
        )
        self.hosts = {
            TargetId(index): TargetHost(
                TargetId(index), self, self.swarm.limits, parts, self.swarm.resync_limits, self.swarm.call_timeout_ns
            )
            for index in range(1, count + 1)
        }
        self.nodes: dict[TargetId, NodeModel] = {}
        share, more = divmod(self.swarm.operations, self.swarm.clients)
        self.clients: dict[int, ClientModel] = {}
        for index in range(self.swarm.clients + self.swarm.watchers):
            node = FIRST_CLIENT + index
            watches = index >= self.swarm.clients
            operations = self.swarm.watcher_reads if watches else share + (index < more)
            self.clients[node] = ClientModel(node, operations, self.swarm, Prng(self._prng.next()), self, watches=watches)
        self.nemesis = ChainNemesis(self, Prng(self._prng.next()))

    # --- a run -------------------------------------------------------------------------------------------------------

    def run(self) -> ChainOutcome:
        """Trouble, healing, rest, checks."""
        try:
            self._begin()
            while not self._is_at_rest():
                assert self.heap.steps < steps_max, "the run does not end"
                assert self.heap.step(), "nothing is scheduled any more"
            self._check_end()
        except RunFailure:
            pass
        except AssertionError as failed:
            self.failures.append(f"assertion: {failed} {describe_frames(failed)}")
        except Exception as failed:  # a machine that breaks down is a finding like any other
            self.failures.append(f"{type(failed).__name__}: {failed} {describe_frames(failed)}")
        if self.failures and self._trace is not None:
            for failure in self.failures:
                self.say(f"FAILED {failure}")
        operations = sum(len(client.history) for client in self.clients.values())
        return ChainOutcome(
            self.seed, str(self.fingerprint), self.failures, self.heap.steps, operations, self.manager.chain.version
        )

    def _begin(self) -> None:
        self.say(self.swarm.describe())
        for host in self.hosts.values():
            host.on_acknowledged = self._check_acknowledged
            host.on_admitted = self._check_leases
            self.start(host)
        for client in self.clients.values():
            self.heap.after(self._prng.between(1, self.swarm.heartbeat_ns + self.swarm.think_ns), client.next_operation)
        self.nemesis.plan()
        self.heap.after(self.swarm.trouble_ns, self._heal)

    def _heal(self) -> None:
        self.say("heal")
        self.is_healed = True
        self.nemesis.heal()
        for host in self.hosts.values():
            host.repairs.scrub()

    def _is_at_rest(self) -> bool:
        if not self.is_healed:
            return False
        if not all(client.is_done for client in self.clients.values()):
            self._check_patience()
            return False
        chain = self.manager.chain
        calm = self.manager.is_idle and len(chain.serving_slots()) == len(self.hosts)
        for host in self.hosts.values():
            known = host.chain if host.replica.is_open else None
            calm = calm and host.up and host.is_idle and known is not None and known.version == chain.version
            calm = calm and host.chunks.whole and not host.chunks.bad_chunks
        if not calm:
            self._check_patience()
        return calm

    def _check_patience(self) -> None:
        if self.heap.now > self.swarm.trouble_ns + rest_ns_max:
            waiting = [client.node for client in self.clients.values() if not client.is_done]
            states = "; ".join(
                f"{host.replica.describe()} resync {host.resync.machine.describe()}" for host in self.hosts.values()
            )
            chain = show_chain(self.manager.chain)
            self.report_violation(f"no rest {rest_ns_max // SECOND} s after healing: {chain}; clients {waiting} wait; {states}")

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self, host: TargetHost) -> None:
        """A process begins."""
        host.start()
        kind = self.parts.node or NodeModel
        self.nodes[host.target] = kind(host, self, self.swarm.heartbeat_ns)
        self.nodes[host.target].begin()

    def on_exit(self, host: TargetHost) -> None:
        """A process ends by itself: cleanly, so nothing is lost."""
        self.say(f"{host.target} ends")
        self.forget(host)
        host.crash(0)
        self.nemesis.restart_within(host, self.swarm.lease_ns)

    def forget(self, host: TargetHost) -> None:
        """The process is gone, and with it what waited for it to go on."""
        self._paused.pop(host.target, None)

    def pause(self, host: TargetHost) -> bool:
        """Stop a process; its clock goes on. False: it is stopped already."""
        if host.target in self._paused:
            return False
        self._paused[host.target] = []
        return True

    def resume(self, host: TargetHost) -> None:
        """It goes on with whatever has happened meanwhile."""
        waiting = self._paused.pop(host.target, None)
        if waiting is None:
            return
        self.say(f"resume {host.target}")
        process = host.process
        for action, arguments in waiting:
            if host.up and host.process == process:
                action(*arguments)

    def _for(self, host: TargetHost, process: int, action: Callable[..., None], *arguments: Any) -> None:
        """Call back a process, if it still runs."""
        if not host.up or host.process != process:
            return
        if host.target in self._paused:
            self._paused[host.target].append((action, arguments))
        else:
            action(*arguments)

    # --- surroundings of hosts, nodes, clients and the manager -------------------------------------------------------

    @property
    def now(self) -> int:
        """Virtual nanoseconds."""
        return self.heap.now

    def next_moment(self) -> int:
        """A position in the order of events, later than all before."""
        self._moments += 1
        return self._moments

    def after(self, delay_ns: int, action: Callable[..., None], *arguments: int) -> None:
        """Call back in virtual time."""
        self.heap.after(delay_ns, action, *arguments)

    def _clock(self, node: int) -> int:
        now = self.heap.now
        return self._offsets[node] + now + now * self._rates[node] // _MILLION

    def _delay_until(self, node: int, due_ns: int) -> int:
        """From now until a node's clock shows a time."""
        left = due_ns - self._clock(node)
        return max(0, left * _MILLION // (_MILLION + self._rates[node]) + 1)

    def clock(self, host: TargetHost) -> int:
        """A host's clock."""
        return self._clock(host.target)

    def call_at(self, host: TargetHost, due_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        """Call back a process at a time of its clock."""
        self.heap.after(self._delay_until(host.target, due_ns), self._for, host, host.process, action, *arguments)

    @property
    def manager_clock(self) -> int:
        """The manager's clock."""
        return self._clock(MANAGER)

    def manager_at(self, due_ns: int, action: Callable[[], None]) -> None:
        """Call back the manager at a time of its clock."""
        self.heap.after(self._delay_until(MANAGER, due_ns), self._for_manager, self.manager_incarnation, action)

    def manager_stores(self, action: Callable[[Rows], None], rows: Rows) -> None:
        """A commit of the manager begins."""
        self.heap.after(self._prng.between(1, 2 * MILLISECOND), self._for_manager, self.manager_incarnation, action, rows)

    @property
    def manager_incarnation(self) -> int:
        """Which of the managers is there."""
        return self.manager.incarnation if hasattr(self, "manager") else 1

    def _for_manager(self, life: int, action: Callable[..., None], *arguments: Any) -> None:
        if self.manager.up and self.manager.incarnation == life:
            action(*arguments)

    def tell(self, target: int, message: Message) -> None:
        """The manager sends."""
        self.links.send(MANAGER, target, message)

    def send(self, source: int, target: int, message: Message) -> None:
        """Put a message on its way."""
        self.links.send(source, target, message)

    def _process_of(self, node: int) -> int:
        if node == MANAGER:
            return self.manager.incarnation if self.manager.up else -1
        host = self.hosts.get(TargetId(node))
        return 0 if host is None else host.process if host.up else -1

    def _deliver(self, source: int, target: int, process: int, message: Message) -> None:
        if process < 0 or process != self._process_of(target):
            return  # whoever it was sent to is gone
        if self._trace is not None:
            self.say(f"{source} → {target}: {show_message(message)}")
        if target == MANAGER:
            self.manager.receive(source, message)
        elif target >= FIRST_CLIENT:
            self.clients[target].receive(source, message)
        else:
            host = self.hosts[TargetId(target)]
            self._for(host, process, self._receive, host, source, message)

    def _receive(self, host: TargetHost, source: int, message: Message) -> None:
        if isinstance(message, ManagerAnswer | ChainNotice):
            self.nodes[host.target].receive(message)
        else:
            host.receive(source, message)

    def on_store_opening(self, host: TargetHost) -> None:
        """A store is looked through."""
        self.heap.after(self._prng.between(1, 2 * self.swarm.stage_max_ns), self._for, host, host.process, host.open)

    def on_barrier_begin(self, host: TargetHost) -> None:
        """A barrier begins."""
        swarm = self.swarm
        bits = self._prng.next()
        slow = not self.is_healed and bits & 1023 < swarm.stage_tail_chance
        span = swarm.stage_tail_ns if slow else swarm.stage_max_ns - swarm.stage_min_ns
        delay = swarm.stage_min_ns + ((bits >> 32) * span >> 32)
        self.heap.after(delay, self._for, host, host.process, host.finish_barrier)

    def on_resync_finished(self, host: TargetHost) -> None:
        """A target was brought up to date."""
        self.nodes[host.target].heartbeat()

    def record(self, host: TargetHost, event: Event | ResyncEvent | str, effects: list[Effect] | list[ResyncEffect]) -> None:
        """A step of a machine."""
        mix = self.fingerprint.add
        mix(self.heap.now, host.target)
        if isinstance(event, UpdateReceived):
            mix(1, event.update.chunk[-1], event.update.kind, event.update.version, event.update.tag.seq, event.token)
        elif isinstance(event, StageDone):
            mix(2, event.chunk[-1], event.version, event.checksum)
        elif isinstance(event, ForwardDone):
            mix(3, event.chunk[-1], event.version, event.attempt, event.result.code)
        for effect in effects:
            if isinstance(effect, Forward):
                mix(5, effect.target, effect.attempt, effect.update.floor)
            elif isinstance(effect, Commit):
                mix(6, effect.chunk[-1], effect.version, effect.result.checksum)
                self._commit_order.setdefault(effect.tag, len(self._commit_order))
            elif isinstance(effect, AnswerUpdate):
                mix(7, effect.token, effect.result.code)
            else:
                mix(8, len(effects))
        if self._trace is not None:
            shown = "; ".join(show_effect(effect) for effect in effects)
            self.say(f"   {show_event(event)} ⇒ {shown or 'nothing'} | {host.replica.describe()}")

    def on_operation_end(self, operation: Operation) -> None:
        """An operation of a client is over, or given up."""
        self.fingerprint.add(self.heap.now, operation.client, operation.invoked, operation.returned, operation.attempts)
        self.fingerprint.add_bytes(operation.data)
        self.say(operation.describe())

    def report_violation(self, what: str) -> None:
        """A promise was broken: the run ends."""
        self.failures.append(what)
        raise RunFailure

    def say(self, line: str) -> None:
        """A line of the trace."""
        if self._trace is not None:
            self._trace(f"{self.heap.now / MILLISECOND:10.3f} {line}")

    # --- checks ------------------------------------------------------------------------------------------------------

    def _check_leases(self) -> None:
        wrong = leases.explain(self.hosts.values())
        if wrong:
            self.report_violation(f"leases: {wrong}")

    def _check_acknowledged(self, update: Update) -> None:
        """A client is about to be told OK."""
        tag = update.tag
        if not tag.client or self.clients[int.from_bytes(tag.client, "big")].has_moved_on(tag):
            return
        self._acknowledged.append(update)
        # A disk that was just exchanged has nothing; the manager does not know it yet.
        stores = {host.target: host.chunks for host in self.hosts.values() if host.chunks.whole and not host.chunks.is_new}
        wrong = durability.explain(tag, self.manager.chain, stores)
        if wrong:
            self.report_violation(f"durability: {wrong}")

    def _check_end(self) -> None:
        self.failures += check_stores(self.manager.chain, self.hosts, self._acknowledged)
        histories: dict[bytes, list[Operation]] = {}
        for client in self.clients.values():
            for operation in client.history:
                histories.setdefault(operation.chunk, []).append(operation)
        for history in histories.values():
            for slot in self.manager.chain.serving_slots():
                history.append(final_read(self.hosts[slot.target], history[0], self.next_moment(), self.next_moment()))
            wrong = explain_history(history, self._commit_order)
            if wrong:
                self.failures.append(wrong)
        for host in self.hosts.values():
            for chunk, record in sorted(host.chunks.records.items()):
                self.fingerprint.add(host.target, record.meta.committed, record.meta.chain_version)
                self.fingerprint.add_bytes(chunk + record.content)


def run_seed(
    seed: int, parts: Parts | None = None, trace: Callable[[str], None] | None = None, swarm: ChainSwarm | None = None
) -> ChainOutcome:
    """One run."""
    return ChainRun(seed, parts if parts is not None else Parts(), trace, swarm).run()
