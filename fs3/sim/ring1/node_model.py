"""The node around a simulated target, as the manager sees it: it registers, heartbeats, holds a lease, and hands over.

Each node has one target, of the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fs3.base.ids import NodeId
from fs3.base.status import Code
from fs3.core.membership import departures, generations
from fs3.core.membership.events import Rejection
from fs3.core.membership.generations import Lineage
from fs3.model.chain import Chain, LocalState
from fs3.model.cluster import Heartbeat, HeartbeatAck, RegistrationAck
from fs3.model.generation import Generation, TargetClaim
from fs3.model.target_report import TargetReport
from fs3.sim.ring1.messages import MANAGER, ChainNotice, ChainRequest, HeartbeatCall, ManagerAnswer, Message, RegisterCall
from fs3.sim.ring1.target_host import TargetHost


class NodeEnvironment(Protocol):
    """What a node finds around it."""

    def send(self, source: int, target: int, message: Message) -> None:
        """Put a message on its way."""
        ...

    def call_at(self, host: TargetHost, due_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        """Call back at a time of the host's clock, unless it has died."""
        ...

    def on_exit(self, host: TargetHost) -> None:
        """The process ends by itself, and is started again after a while."""
        ...


@dataclass(frozen=True, slots=True)
class _SentHeartbeat:
    sent_ns: int
    state: LocalState | None
    """What it reports of the target. None: nothing, and the lease that it may be granted does not let the target serve."""
    routing: int


class NodeModel:
    """What a process does about the manager. A new one for each start of the host."""

    def __init__(self, host: TargetHost, env: NodeEnvironment, heartbeat_ns: int) -> None:
        self.host = host
        self.env = env
        self.heartbeat_ns = heartbeat_ns
        self.is_registered = False
        self.is_leaving = False
        self.routing = 0
        """Routing version that is known here."""
        self._held: ChainNotice | None = None
        """A chain that is not applied before the manager has heard that it is known here."""
        self._seq = 0
        self._call = 0
        self._unanswered: dict[int, _SentHeartbeat] = {}

    def begin(self) -> None:
        """The process has started."""
        if self.host.chunks.generations:
            self.host.chunks.generations = generations.begin(self.host.chunks.generations, self.host.draw_token())
        self._turn()

    def _turn(self) -> None:
        if self.is_registered:
            self.heartbeat()
        else:
            self._register()
        self.env.call_at(self.host, self.host.clock + self.heartbeat_ns, self._turn)

    def _register(self) -> None:
        host = self.host
        claims = (TargetClaim(host.target, host.chunks.generations),) if host.keeps_generations else ()
        self.env.send(host.target, MANAGER, RegisterCall(host.process, host.incarnation if host.knows_itself else 0, claims))

    def heartbeat(self) -> None:
        """Tell the manager that this target is there."""
        if not self.is_registered:
            return
        host = self.host
        host.repairs.ask()
        self._seq += 1
        state, chain = host.local_state, host.chain
        reports: tuple[TargetReport, ...] = ()
        if state is not None and chain is not None:
            newest = host.chunks.generations[-1] if host.chunks.generations else None
            reports = (TargetReport(host.target, state, chain.version, generation=newest),)
        self._unanswered[self._seq] = _SentHeartbeat(host.clock, reports[0].state if reports else None, self.routing)
        heartbeat = Heartbeat(NodeId(host.target), host.incarnation, self._seq, reports, self.routing, self.is_leaving)
        self.env.send(host.target, MANAGER, HeartbeatCall(self._seq, heartbeat))

    def leave(self) -> None:
        """A clean stop: serve no more, then say so, then end."""
        self.is_leaving = True
        self.host.lease_until_ns = 0
        self.heartbeat()

    def receive(self, message: ManagerAnswer | ChainNotice) -> bool:
        """A message of the manager. False: it is for the target."""
        if isinstance(message, ChainNotice):
            if message.routing >= self.routing and self.is_registered:
                self._learn(message)
            return True
        answer = message.answer
        if isinstance(answer, Rejection):
            if answer.code is Code.OLD_INCARNATION:
                self.env.on_exit(self.host)
            elif answer.code is Code.UNKNOWN_NODE:
                self.is_registered = False
        elif isinstance(answer, RegistrationAck):
            if not self.is_registered and message.call == self.host.process:
                self.is_registered = True
                if self.host.keeps_generations:
                    self._settle(answer)
                self.host.begin(answer.incarnation, is_born=self.is_born(answer))
                self.env.send(self.host.target, MANAGER, ChainRequest())
                self.heartbeat()
        else:
            self._on_heartbeat_ack(message.call, answer)
        return True

    def _learn(self, notice: ChainNotice) -> None:
        self.routing = notice.routing
        if not self.must_be_heard(self.host.chain, notice.chain):
            self._held = None
            self.host.receive(MANAGER, notice)
        elif self._held is None or self._held.chain.version < notice.chain.version:
            self._held = notice
            self.heartbeat()

    def must_be_heard(self, applied: Chain | None, newer: Chain) -> bool:
        """`fs3.core.membership.departures.must_be_heard`, for a planted bug to exchange."""
        return departures.must_be_heard(applied, newer, self.host.target)

    def is_born(self, answer: RegistrationAck) -> bool:
        """The target was complete once: when there is no store for it, that was lost."""
        return self.host.target in answer.born

    def _settle(self, answer: RegistrationAck) -> None:
        """How its directory and what the manager remembers belong together; an old copy is not whole."""
        chunks = self.host.chunks
        remembered = {each.target: each.generation for each in answer.generations}.get(self.host.target)
        lineage = self.compare(chunks.generations, remembered)
        assert lineage is not Lineage.AHEAD, "the store of the manager is never put back"
        if lineage is Lineage.CURRENT and chunks.generations:
            chunks.generations = chunks.generations[-1:]
        else:
            chunks.whole = chunks.whole and lineage is Lineage.CURRENT
            chunks.generations = (generations.begin_beside(remembered, self.host.draw_token()),)
        chunks.is_restored = False

    def compare(self, written: Sequence[Generation], remembered: Generation | None) -> Lineage:
        """`fs3.core.membership.generations.compare`, for a planted bug to exchange."""
        return generations.compare(written, remembered)

    def _on_heartbeat_ack(self, seq: int, answer: HeartbeatAck) -> None:
        heartbeat = self._unanswered.pop(seq, None)
        if heartbeat is None:
            return
        if self._held is not None and heartbeat.routing >= self._held.routing and departures.is_heard(answer):
            held, self._held = self._held, None
            self.host.receive(MANAGER, held)
        if self.is_leaving:
            self.env.on_exit(self.host)
            return
        if answer.lease_ns and heartbeat.state is not None:
            self.host.lease_until_ns = max(self.host.lease_until_ns, self.counted_from(heartbeat.sent_ns) + answer.lease_ns)
            if heartbeat.state is LocalState.UPTODATE:
                self.host.on_birth_stored()
        if answer.routing_version > self.routing:
            self.env.send(self.host.target, MANAGER, ChainRequest())

    def counted_from(self, sent_ns: int) -> int:
        """When a lease begins: the manager counts from later than when the heartbeat was sent, never from earlier."""
        return sent_ns
