"""Never two targets that would admit an update as the head: a target that was replaced must know, or have lost its lease."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fs3.base.ids import ChainId, TargetId


@dataclass(frozen=True, slots=True)
class HeadClaim:
    """A target that would admit a client's update at this moment: it takes itself for the head and holds a lease."""

    chain: ChainId
    target: TargetId
    version: int
    """Of its chain, as it knows it."""


def explain(claims: Iterable[HeadClaim]) -> str:
    """ "" when each chain has at most one head, else which targets claim to be the head of one."""
    heads: dict[ChainId, HeadClaim] = {}
    for claim in claims:
        other = heads.setdefault(claim.chain, claim)
        if other is not claim:
            return (
                f"chain {claim.chain}: target {other.target} under chain version {other.version} and "
                f"target {claim.target} under chain version {claim.version} may both serve as the head"
            )
    return ""
