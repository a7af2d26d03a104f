"""Mistakes around the manager: leases, who is complete, who may restart a chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fs3.base.ids import ChainId, TargetId
from fs3.base.status import Code
from fs3.core.craq.completeness import Completeness
from fs3.core.craq.position import ChainPosition
from fs3.core.craq.replica import Replica
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.departures import Departures
from fs3.core.membership.generations import Lineage
from fs3.core.membership.manager import Manager
from fs3.core.membership.state import State
from fs3.model.chain import Chain, LocalState, PublicState, Slot
from fs3.model.cluster import RegistrationAck
from fs3.model.generation import Generation
from fs3.sim.ring1.node_model import NodeModel


class LeaseFromReceipt(NodeModel):
    """The lease is counted from when the answer to the heartbeat arrived."""

    def counted_from(self, sent_ns: int) -> int:
        return self.host.clock


class EmptyIsWhole(NodeModel):
    """A disk that was exchanged takes itself for that of a new target."""

    def is_born(self, answer: RegistrationAck) -> bool:
        return False


class OldCopyIsCurrent(NodeModel):
    """A directory that was put back takes itself for the one that was there."""

    def compare(self, written: Sequence[Generation], remembered: Generation | None) -> Lineage:
        return Lineage.CURRENT


class LeaveAndServe(NodeModel):
    """A clean stop is announced while the target goes on serving."""

    def leave(self) -> None:
        until = self.host.lease_until_ns
        super().leave()
        self.host.lease_until_ns = until


class InAHurry(Manager):
    """Chains change before the leases of the lost targets have run out."""

    def __init__(self, now: int, config: MgmtdConfig, state: State, entropy: bytes) -> None:
        super().__init__(now, config, state, entropy)
        self._health._config = msgspec.structs.replace(config, lease_ns=config.lease_ns // 3, drift_ns=0)


class NoDrift(Manager):
    """The manager trusts all clocks to run alike."""

    def __init__(self, now: int, config: MgmtdConfig, state: State, entropy: bytes) -> None:
        super().__init__(now, config, state, entropy)
        self._health._config = msgspec.structs.replace(config, drift_ns=0)


class GoesOnUnheard(NodeModel):
    """A target goes on without another one before the manager knows that it does."""

    def must_be_heard(self, applied: Chain | None, newer: Chain) -> bool:
        return False


class _NeverHeard(Departures):
    """What those that go on say is not listened to."""

    def on_heard(self, chain: Chain, target: TargetId, routing_version: int) -> bool:
        return False

    def without_returns(self, chain: Chain, states: Mapping[TargetId, LocalState]) -> Mapping[TargetId, LocalState]:
        return states


class CountsThoseThatLeft(Manager):
    """Who left counts as last serving, although another one is known to have gone on alone."""

    def __init__(self, now: int, config: MgmtdConfig, state: State, entropy: bytes) -> None:
        super().__init__(now, config, state, entropy)
        self._departures = _NeverHeard()


class AnybodyRestarts(Manager):
    """When nobody serves, whoever is there first restarts the chain, complete or not."""

    def _reconfigure(self, now: int, chains: Iterable[ChainId]) -> None:
        numbers = set(chains)
        super()._reconfigure(now, numbers)
        for number in sorted(numbers):
            chain = self._state.chains[number]
            here = [
                slot
                for slot in chain.slots
                if self._health.local_state(now, slot.node, slot.target, chain.version)
                in (LocalState.UPTODATE, LocalState.ONLINE)
            ]
            if not chain.serving_slots() and here:
                slots = [Slot(here[0].target, here[0].node, PublicState.SERVING)]
                slots += [Slot(slot.target, slot.node, PublicState.OFFLINE) for slot in chain.slots if slot != here[0]]
                self._ledger.put_chain(Chain(chain.id, chain.version + 1, tuple(slots)))


class _AlwaysComplete(Completeness):
    """Whoever is whole says that it is complete, whatever the chain says of it."""

    def local_state(self, position: ChainPosition, chain: Chain | None) -> LocalState:
        return LocalState.UPTODATE if self.whole else super().local_state(position, chain)


class _CompleteForEver(Completeness):
    """To have been brought up to date once counts under every later chain version."""

    def has_finished(self, position: ChainPosition) -> bool:
        return self._finished is not None and super().has_finished(ChainPosition(*self._finished, position.role))


class _AnyIncarnation(Completeness):
    """What the predecessor says is believed, whichever incarnation it has brought up to date."""

    def check_fence(
        self, position: ChainPosition, chain: ChainId, chain_version: int, source: TargetId, incarnation: int
    ) -> Code:
        return super().check_fence(position, chain, chain_version, source, 0)


class _ServesUnborn(Completeness):
    """A new target takes its place before the manager has stored that it is there."""

    def may_take_role(self, chain: Chain | None) -> bool:
        self.is_born = True
        return super().may_take_role(chain)


def complete(kind: type[Completeness]) -> type[Replica]:
    """A replica with a mistake in what it takes itself for."""

    class MistakenReplica(Replica):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)  # type: ignore[arg-type]
            self.completeness = kind(self.target_id, self.incarnation)

    return MistakenReplica


SaysUptodate = complete(_AlwaysComplete)
CompleteForEver = complete(_CompleteForEver)
AnyIncarnation = complete(_AnyIncarnation)
ServesUnborn = complete(_ServesUnborn)
