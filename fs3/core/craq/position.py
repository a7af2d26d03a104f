"""Where a target stands in its chain: worked out once per chain version, asked at every step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from fs3.base.ids import ChainId, TargetId
from fs3.model.chain import Chain, PublicState

NO_CHAIN = ChainId(0)
NO_TARGET = TargetId(0)


class ChainRole(IntEnum):
    """Where this target is in its chain."""

    OUT = 0
    """Not in the live chain, or its store is not open yet."""
    HEAD = 1
    BODY = 2
    """Serving, but not the head; the tail is one of them."""
    SYNCING = 3


@dataclass(frozen=True, slots=True)
class ChainPosition:
    """A target's place and neighbours in the live chain."""

    chain: ChainId = NO_CHAIN
    version: int = 0
    role: ChainRole = ChainRole.OUT
    predecessor: TargetId = NO_TARGET
    """0: none."""
    successor: TargetId = NO_TARGET
    """0: none, which for a target that is OUT does not mean that it is last."""
    successor_syncs: bool = False
    is_last: bool = False
    """Of the live chain: what is staged here is staged everywhere."""
    serves: bool = False


def position_in(chain: Chain, target: TargetId, *, takes_part: bool = True) -> ChainPosition:
    """Where `target` stands in `chain`; nowhere as long as it takes no part."""
    slot = chain.slot(target)
    if slot is None or not takes_part or not chain.is_live(target):
        return ChainPosition(chain.id, chain.version)
    before = chain.predecessor(target)
    after = chain.successor(target)
    if slot.state is PublicState.SYNCING:
        place = ChainRole.SYNCING
    else:
        place = ChainRole.HEAD if before is None else ChainRole.BODY
    return ChainPosition(
        chain.id,
        chain.version,
        place,
        before.target if before is not None else NO_TARGET,
        after.target if after is not None else NO_TARGET,
        after is not None and after.state is PublicState.SYNCING,
        after is None,
        place is not ChainRole.SYNCING,
    )
