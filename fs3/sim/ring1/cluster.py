"""The simulated cluster of ring 1: a chain of targets, their nodes, the manager and the clients, on one heap of events.

Here is what a process finds around it: clocks that run at different speeds, a network, disks that take time, and its own end.
The nemesis breaks it; the run it belongs to (`ClusterObserver`) hears of everything and says what may not happen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fs3.base.ids import TargetId
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.craq.effects import Effect
from fs3.core.craq.events import Event
from fs3.core.craq.resync.steps import ResyncEffect, ResyncEvent
from fs3.core.membership.manager import Manager
from fs3.core.membership.state import Rows
from fs3.model.chunk import Update
from fs3.sim.checkers.history import Operation
from fs3.sim.ring1.client_model import ClientModel
from fs3.sim.ring1.heap import Heap
from fs3.sim.ring1.links import Links
from fs3.sim.ring1.manager_model import ManagerModel
from fs3.sim.ring1.messages import FIRST_CLIENT, MANAGER, ChainNotice, ManagerAnswer, Message
from fs3.sim.ring1.node_model import NodeModel
from fs3.sim.ring1.show import show_message
from fs3.sim.ring1.swarm import ChainSwarm
from fs3.sim.ring1.target_host import Parts, TargetHost

_MILLION = 1_000_000


class ClusterObserver(Protocol):
    """Who watches a cluster: the run it belongs to."""

    @property
    def is_tracing(self) -> bool:
        """Lines of the trace are read, so they are worth their cost."""
        ...

    def say(self, line: str) -> None:
        """A line of the trace."""
        ...

    def record(self, host: TargetHost, event: Event | ResyncEvent | str, effects: list[Effect] | list[ResyncEffect]) -> None:
        """A machine of a target has made a step."""
        ...

    def on_operation_end(self, operation: Operation) -> None:
        """An operation of a client is over, or given up."""
        ...

    def on_acknowledged(self, update: Update) -> None:
        """A client is about to be told OK."""
        ...

    def on_admitted(self) -> None:
        """A target has let an update of a client in."""
        ...

    def on_exit(self, host: TargetHost) -> None:
        """A process has ended by itself: cleanly, so nothing is lost. It is to be started again."""
        ...

    def report_violation(self, what: str) -> None:
        """A promise was broken. Does not return: the run ends."""
        ...


class ChainCluster:
    """Everything that runs in a run, and where it runs."""

    def __init__(self, prng: Prng, swarm: ChainSwarm, parts: Parts, observer: ClusterObserver) -> None:
        """`prng`: also draws, later on, how long disks take."""
        self.parts = parts
        self.swarm = swarm
        self.heap = Heap()
        self.is_healed = False
        """There is no more trouble."""
        self._prng = prng
        self._observer = observer
        self._moments = 0
        self._paused: dict[int, list[tuple[Callable[..., None], tuple[Any, ...]]]] = {}
        count = swarm.targets
        # Clocks run at different speeds, as far apart as the manager allows for.
        rate = swarm.drift_ns * _MILLION // swarm.lease_ns // 2
        self._rates = [prng.between(0, 2 * rate) - rate for _ in range(count + 1)]
        self._offsets = [prng.below(SECOND) for _ in range(count + 1)]
        self.links = Links(self.heap, Prng(prng.next()), swarm, self)
        self.manager = ManagerModel(count, swarm.lease_ns, swarm.drift_ns, swarm.heartbeat_ns, self, parts.manager or Manager)
        self.hosts = {
            TargetId(index): TargetHost(TargetId(index), self, swarm.limits, parts, swarm.resync_limits, swarm.call_timeout_ns)
            for index in range(1, count + 1)
        }
        self.nodes: dict[TargetId, NodeModel] = {}
        share, more = divmod(swarm.operations, swarm.clients)
        self.clients: dict[int, ClientModel] = {}
        for index in range(swarm.clients + swarm.watchers):
            node = FIRST_CLIENT + index
            watches = index >= swarm.clients
            operations = swarm.watcher_reads if watches else share + (index < more)
            self.clients[node] = ClientModel(node, operations, swarm, Prng(prng.next()), self, watches=watches)

    # --- processes ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """All targets and clients start."""
        for host in self.hosts.values():
            self.start(host)
        for client in self.clients.values():
            self.heap.after(self._prng.between(1, self.swarm.heartbeat_ns + self.swarm.think_ns), client.next_operation)

    def start(self, host: TargetHost) -> None:
        """A process begins."""
        host.keeps_generations = self.swarm.rollbacks > 0
        host.start()
        kind = self.parts.node or NodeModel
        self.nodes[host.target] = kind(host, self, self.swarm.heartbeat_ns)
        self.nodes[host.target].begin()

    def on_exit(self, host: TargetHost) -> None:
        """A process ends by itself: cleanly, so nothing is lost."""
        self.say(f"{host.target} ends")
        self.forget(host)
        host.crash()
        self._observer.on_exit(host)

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

    def _for_manager(self, incarnation: int, action: Callable[..., None], *arguments: Any) -> None:
        if self.manager.up and self.manager.incarnation == incarnation:
            action(*arguments)

    def tell(self, target: int, message: Message) -> None:
        """The manager sends."""
        self.links.send(MANAGER, target, message)

    def send(self, source: int, target: int, message: Message) -> None:
        """Put a message on its way."""
        self.links.send(source, target, message)

    def process_of(self, node: int) -> int:
        """Which process of a node is there: rises with every start; 0 for a client, which does not die; -1: none."""
        if node == MANAGER:
            return self.manager.incarnation if self.manager.up else -1
        host = self.hosts.get(TargetId(node))
        return 0 if host is None else host.process if host.up else -1

    def deliver(self, source: int, target: int, process: int, message: Message) -> None:
        """A message arrives, if the process it was sent to still runs."""
        if process < 0 or process != self.process_of(target):
            return
        if self._observer.is_tracing:
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

    # --- what is told to the observer ----------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        """A line of the trace."""
        self._observer.say(line)

    def record(self, host: TargetHost, event: Event | ResyncEvent | str, effects: list[Effect] | list[ResyncEffect]) -> None:
        """A step of a machine."""
        self._observer.record(host, event, effects)

    def on_acknowledged(self, update: Update) -> None:
        """A client is about to be told OK."""
        self._observer.on_acknowledged(update)

    def on_admitted(self) -> None:
        """A target has let an update of a client in."""
        self._observer.on_admitted()

    def on_operation_end(self, operation: Operation) -> None:
        """An operation of a client is over, or given up."""
        self._observer.on_operation_end(operation)

    def report_violation(self, what: str) -> None:
        """A promise was broken: the run ends."""
        self._observer.report_violation(what)
