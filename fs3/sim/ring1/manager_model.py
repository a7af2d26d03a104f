"""The management service of a simulated chain: the real `Manager` machine on a store that commits after a while.

It may be killed at any time. What it had not stored is forgotten, and so is everything it had heard; another one begins with what
is stored, as after a takeover.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.events import (
    Effect,
    Event,
    ManagerRequest,
    ManagerTick,
    Persist,
    Persisted,
    Publish,
    Rejection,
    Respond,
)
from fs3.core.membership.manager import Manager
from fs3.core.membership.state import ClusterRow, IdCounters, Rows, State
from fs3.model.chain import Chain, ChainTable, PublicState, Slot
from fs3.model.cluster import HeartbeatAck, RegisterNode, RegistrationAck
from fs3.model.routing import Node, Role
from fs3.sim.ring1.messages import ChainNotice, ChainRequest, HeartbeatCall, ManagerAnswer, Message, RegisterCall

CHAIN = ChainId(7)
_CLUSTER = ClusterRow(1, b"simulated", "sim")


class ManagerEnvironment(Protocol):
    """What the manager finds around it."""

    @property
    def manager_clock(self) -> int:
        """Its monotonic clock."""
        ...

    def tell(self, target: int, message: Message) -> None:
        """Put a message of the manager on its way."""
        ...

    def manager_at(self, due_ns: int, action: Callable[[], None]) -> None:
        """Call back at a time of the manager's clock, unless it has died."""
        ...

    def manager_stores(self, action: Callable[[Rows], None], rows: Rows) -> None:
        """A commit begins: call back when it is durable, unless the manager has died."""
        ...


def first_state(targets: int) -> State:
    """One chain of these targets, one per node, all of them new."""
    slots = tuple(Slot(TargetId(index), NodeId(index), PublicState.SERVING) for index in range(1, targets + 1))
    nodes = {NodeId(index): _node(index) for index in range(1, targets + 1)}
    table = ChainTable(TableId(1), 1, targets, (CHAIN,))
    counters = IdCounters(routing=1, node=targets, target=targets, chain=CHAIN, table=1)
    return State(_CLUSTER, counters, nodes, {CHAIN: Chain(CHAIN, 1, slots)}, {table.id: table})


def _node(index: int) -> Node:
    return Node(NodeId(index), f"node-{index}", Role.STORAGE, (), "", 0, alive=True)


class ManagerModel:
    """The manager's shell."""

    def __init__(
        self, targets: int, lease_ns: int, drift_ns: int, heartbeat_ns: int, env: ManagerEnvironment, machine_type: type[Manager]
    ) -> None:
        self.config = MgmtdConfig(
            storage_nodes=targets,
            replicas=targets,
            targets_per_node=1,
            lease_ns=lease_ns,
            heartbeat_ns=heartbeat_ns,
            drift_ns=drift_ns,
            reconfigure=True,
        )
        self.env = env
        self.stored = first_state(targets)
        self.up = True
        self.incarnation = 1
        """Rises with every start."""
        self._machine_type = machine_type
        self._begin()

    def _begin(self) -> None:
        stored = self.stored
        state = State(
            stored.cluster,
            stored.counters,
            dict(stored.nodes),
            dict(stored.chains),
            dict(stored.tables),
            born=set(stored.born),
            generations=dict(stored.generations),
            moves=dict(stored.moves),
            departing=dict(stored.departing),
            retired=dict(stored.retired),
        )
        self.machine = self._machine_type(self.env.manager_clock, self.config, state, b"")
        self._tokens: dict[int, tuple[int, int]] = {}
        self._token = 0
        self._armed_ns = 0
        self._arm()

    @property
    def chain(self) -> Chain:
        """As it is stored."""
        return self.stored.chains[CHAIN]

    @property
    def is_idle(self) -> bool:
        """Nothing it has decided is not stored yet."""
        return self.up and self.machine.published.chains[CHAIN] == self.chain

    def crash(self) -> None:
        """It is killed."""
        self.up = False

    def restart(self) -> None:
        """Another one takes over."""
        self.up = True
        self.incarnation += 1
        self._begin()

    def receive(self, source: int, message: Message) -> None:
        """A message arrives."""
        if isinstance(message, ChainRequest):
            self._tell(source)
            return
        self._token += 1
        assert isinstance(message, RegisterCall | HeartbeatCall)
        self._tokens[self._token] = (source, message.call)
        if isinstance(message, HeartbeatCall):
            self._step(ManagerRequest(self._token, message.heartbeat))
            return
        own, claims = (TargetId(source),), message.claims
        body = RegisterNode(f"node-{source}", Role.STORAGE, b"", message.incarnation, (), "", message.call, own, claims)
        self._step(ManagerRequest(self._token, body))

    def _tell(self, target: int) -> None:
        published = self.machine.published
        self.env.tell(target, ChainNotice(published.chains[CHAIN], published.version))

    def _step(self, event: Event) -> None:
        for effect in self.machine.step(self.env.manager_clock, event):
            self._carry_out(effect)
        self._arm()

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Persist):
            self.env.manager_stores(self._on_persisted, effect.rows)
        elif isinstance(effect, Publish):
            for slot in self.chain.slots:
                self._tell(slot.target)
        elif isinstance(effect, Respond):
            source, call = self._tokens.pop(effect.token)
            assert isinstance(effect.answer, RegistrationAck | HeartbeatAck | Rejection)
            self.env.tell(source, ManagerAnswer(call, effect.answer))

    def store(self, rows: Rows) -> None:
        """These rows are durable."""
        self.stored.apply(rows)

    def _on_persisted(self, rows: Rows) -> None:
        self.store(rows)
        self._step(Persisted())

    def _arm(self) -> None:
        due = self.machine.next_deadline()
        if not self._armed_ns or due < self._armed_ns:
            self._armed_ns = due
            self.env.manager_at(due, self._tick)

    def _tick(self) -> None:
        self._armed_ns = 0
        self._step(ManagerTick())
