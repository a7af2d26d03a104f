"""Chains: ordered targets that hold the same chunks."""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise

import msgspec

from fs3.base.ids import ChainId, NodeId, TableId, TargetId


class PublicState(IntEnum):
    """A target's place in its chain, decided by the manager and stored with the chain. Numbers as on the wire."""

    SERVING = 1
    """Reads and writes."""
    SYNCING = 2
    """Writes only: it is being brought up to date."""
    WAITING = 3
    """Neither; it waits for a predecessor to sync from."""
    LASTSRV = 4
    """It was serving when the chain lost its last serving target."""
    OFFLINE = 5
    """Gone."""


class LocalState(IntEnum):
    """What a node reports about a target. Numbers as on the wire."""

    UPTODATE = 1
    ONLINE = 2
    OFFLINE = 3


class Slot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One target's place in a chain."""

    target: TargetId
    node: NodeId
    state: PublicState


class Chain(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A replica group. `slots` is the chain order; the live chain is its serving targets, then its syncing ones."""

    id: ChainId
    version: int
    """Rises at each change of membership, order or state."""
    slots: tuple[Slot, ...]

    def slot(self, target: TargetId) -> Slot | None:
        """The place of a target, None when it is not a member."""
        return next((slot for slot in self.slots if slot.target == target), None)

    def serving_slots(self) -> tuple[Slot, ...]:
        """The targets that serve, in order: head first, tail last."""
        return tuple(slot for slot in self.slots if slot.state is PublicState.SERVING)

    def live_slots(self) -> tuple[Slot, ...]:
        """Where updates travel: serving targets, then syncing ones."""
        return self.serving_slots() + tuple(slot for slot in self.slots if slot.state is PublicState.SYNCING)

    def head(self) -> Slot | None:
        """The target that orders writes; None while nobody serves."""
        return next(iter(self.serving_slots()), None)

    def tail(self) -> Slot | None:
        """The last serving target: it commits first, so it only ever shows committed data."""
        serving = self.serving_slots()
        return serving[-1] if serving else None

    def successor(self, target: TargetId) -> Slot | None:
        """The next target of the live chain. None for the last one *and* for a target that is not live: ask `is_live`."""
        live = self.live_slots()
        for here, after in pairwise(live):
            if here.target == target:
                return after
        return None

    def predecessor(self, target: TargetId) -> Slot | None:
        """The previous target of the live chain."""
        live = self.live_slots()
        for before, here in pairwise(live):
            if here.target == target:
                return before
        return None

    def is_live(self, target: TargetId) -> bool:
        """The target serves or syncs."""
        slot = self.slot(target)
        return slot is not None and slot.state in (PublicState.SERVING, PublicState.SYNCING)


class ChainTable(msgspec.Struct, frozen=True, array_like=True):
    """The chains that files or pages of one replica count are spread over."""

    id: TableId
    version: int
    replicas: int
    chains: tuple[ChainId, ...]
