"""A tiny manager that is trusted: it never fails, and shortens the chain when a target's lease has run out.

A target that was taken out stays out, even when it comes back: bringing it up to date is not simulated here. When the last
serving target is lost, whoever of the last serving ones is heard of first serves alone: all of them are complete.
"""

from __future__ import annotations

from collections.abc import Callable

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.model.chain import Chain, PublicState, Slot
from fs3.sim.messages import FIRST_CLIENT, ChainAsked, ChainTold, Heartbeat, HeartbeatAnswer, Message

Send = Callable[[int, Message], None]
CHAIN = ChainId(7)


class ManagerModel:
    """Decides the chain."""

    def __init__(self, targets: int, lease_ns: int, margin_ns: int, send: Send) -> None:
        """`margin_ns` is waited beyond the lease before a target is taken out."""
        slots = tuple(Slot(TargetId(index), NodeId(index), PublicState.SERVING) for index in range(1, targets + 1))
        self.chain = Chain(CHAIN, 1, slots)
        self._patience_ns = lease_ns + margin_ns
        self._heard_ns = {slot.target: 0 for slot in slots}
        self._send = send

    def receive(self, now_ns: int, source: int, message: Message) -> None:
        """A message arrives."""
        if isinstance(message, ChainAsked):
            self._send(source, ChainTold(self.chain))
            return
        assert isinstance(message, Heartbeat)
        target = TargetId(source)
        self._heard_ns[target] = now_ns
        slot = self.chain.slot(target)
        if slot is not None and slot.state is PublicState.LASTSRV:
            states = {
                other.target: PublicState.SERVING if other.target == target else PublicState.OFFLINE for other in self.chain.slots
            }
            self._change(states)
        self._send(source, HeartbeatAnswer(message.sent_ns, self.chain if message.chain_version < self.chain.version else None))

    def sweep(self, now_ns: int) -> None:
        """Take out whoever has not been heard of for longer than its lease."""
        serving = [slot.target for slot in self.chain.serving()]
        lost = [target for target in serving if now_ns > self._heard_ns[target] + self._patience_ns]
        if not lost:
            return
        state = PublicState.LASTSRV if len(lost) == len(serving) else PublicState.OFFLINE
        self._change(dict.fromkeys(lost, state))

    def bump(self) -> None:
        """A new chain version with the same targets, as when something else about the chain changes."""
        self._change({})

    def _change(self, states: dict[TargetId, PublicState]) -> None:
        slots = tuple(Slot(slot.target, slot.node, states.get(slot.target, slot.state)) for slot in self.chain.slots)
        self.chain = Chain(self.chain.id, self.chain.version + 1, slots)
        for slot in slots:
            self._send(slot.target, ChainTold(self.chain))


def is_client(node: int) -> bool:
    """The node number is a client's."""
    return node >= FIRST_CLIENT
