"""A target that leaves its chain of its own accord: why, and for how long it stays away.

The manager takes no target out of a chain while its lease runs. So a target that the chain should go on without is asked to
leave, and says itself that it is OFFLINE. From then on it serves no reads; its updates are fenced by the chain version like all
others.
"""

from __future__ import annotations

from fs3.base.backoff import Backoff
from fs3.base.ids import TargetId
from fs3.base.limits import rejoin_max_ns, rejoin_min_ns, rejoin_settled_ns
from fs3.base.units import MIB
from fs3.model.chain import Chain, PublicState
from fs3.ports.chunk_store import ChunkStore

full_target_room_bytes = 64 * MIB
"""A target that had no room while it was brought up to date tries again once so much more is free."""


class Withdrawal:
    """Of one target. Times are monotonic nanoseconds."""

    def __init__(self, target: TargetId) -> None:
        self.reason = ""
        """Why it leaves or stays away; "" when it does not."""
        self._target = target
        self._until = 0
        self._backoff = Backoff(rejoin_min_ns, rejoin_max_ns)
        self._served_since: int | None = None

    def on_chain_changed(self, now: int, chain: Chain | None) -> None:
        """The chain has another version."""
        slot = chain.slot(self._target) if chain is not None else None
        if slot is None or slot.state is not PublicState.SERVING:
            self._served_since = None
        elif self._served_since is None:
            self._served_since = now

    def begin(self, chain: Chain | None, why: str) -> bool:
        """Leave, and come back as soon as the chain has gone on. False: it does not serve, or no other target does."""
        serving = _serving(chain)
        if self._target not in serving or len(serving) < 2:
            return False
        self.reason = why
        self._until = 0
        return True

    def begin_on_request(self, now: int, chain: Chain | None, chain_version: int, unreachable_successor: TargetId) -> bool:
        """The manager asks it to leave a version of its chain. True when it does; it comes back when there is hope that things
        have changed: each time later, until it has served for a while. `unreachable`: the successor, if it cannot reach that."""
        if self.reason or chain is None or chain.version != chain_version or not chain.is_live(self._target):
            return False
        if not self._others_serve(chain):
            return False
        if self._served_since is not None and now - self._served_since >= rejoin_settled_ns:
            self._backoff.reset()
        self._until = now + self._backoff.next_ns()
        predecessor = chain.predecessor(self._target)
        if unreachable_successor:
            self.reason = f"it cannot reach target {unreachable_successor}, its successor in the chain"
        elif predecessor is not None:
            self.reason = f"target {predecessor.target}, its predecessor in the chain, cannot reach it"
        else:
            self.reason = "it could not reach its successor in the chain"
        return True

    def is_active(self, now: int, chain: Chain | None) -> bool:
        """It is to be reported OFFLINE. It does not stay away from a chain in which no other target serves."""
        if not self.reason:
            return False
        if self._others_serve(chain) and (self._target in _serving(chain) or now < self._until):
            return True
        self.reason = ""
        return False

    def _others_serve(self, chain: Chain | None) -> bool:
        return any(target != self._target for target in _serving(chain))


def _serving(chain: Chain | None) -> list[TargetId]:
    return [slot.target for slot in chain.serving_slots()] if chain is not None else []


class SpaceWithdrawal:
    """A target that could not be brought up to date because its disk is full: it is OFFLINE until there is room."""

    def __init__(self) -> None:
        self.reason = ""
        self._free_bytes = 0

    def begin(self, store: ChunkStore, why: str) -> None:
        """There was no room for what the chain sent."""
        self.reason = why or "there is no room for the chunks of its chain"
        self._free_bytes = store.get_space().free

    def is_active(self, store: ChunkStore) -> bool:
        """It is to be reported OFFLINE."""
        if self.reason and store.get_space().free >= self._free_bytes + full_target_room_bytes:
            self.reason = ""
        return bool(self.reason)
