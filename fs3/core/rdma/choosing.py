"""Which address of the one end suits which of the other.

Nothing tells two hosts which of their ports reach each other. The pairs are tried in the order of what is likely: RoCE v2 before
InfiniBand before RoCE v1, addresses of the same network before others, link-local ones last. The proof decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fs3.model.rdma import INFINIBAND, ROCE_V1, ROCE_V2, RdmaAddress

_RANK = {ROCE_V2: 0, INFINIBAND: 1, ROCE_V1: 2}
_LINK_LOCAL = "fe80:"
_IPV4 = "0000:0000:0000:0000:0000:ffff:"


class Pair(NamedTuple):
    """An address of this end, and the index of one of the other's."""

    ours: RdmaAddress
    theirs: int


class PairChoice(NamedTuple):
    """The pairs worth a try, likely ones first, and why there are no others."""

    pairs: tuple[Pair, ...]
    rejected: tuple[str, ...]


def choose(ours: Sequence[RdmaAddress], theirs: Sequence[RdmaAddress]) -> PairChoice:
    """Every pair of addresses that could reach each other."""
    ranked: list[tuple[tuple[int, ...], Pair]] = []
    rejected: list[str] = []
    if not ours:
        rejected.append("this end has no RDMA address")
    if not theirs:
        rejected.append("the other end has no RDMA address")
    for mine in ours:
        why = ""
        for index, other in enumerate(theirs):
            problem = _mismatch(mine, other)
            if problem:
                why = why or problem
            else:
                is_local = mine.gid.startswith(_LINK_LOCAL) if mine.kind != INFINIBAND else False
                ranked.append(((_RANK[mine.kind], is_local, -_common_bits(mine.gid, other.gid)), Pair(mine, index)))
        if theirs and not any(pair.ours is mine for _, pair in ranked):
            rejected.append(f"{mine}: {why}")
    ranked.sort(key=lambda one: one[0])
    return PairChoice(tuple(pair for _, pair in ranked), tuple(rejected))


def _mismatch(mine: RdmaAddress, other: RdmaAddress) -> str:
    """Why the two cannot reach each other; "" when they might."""
    if mine.kind not in _RANK:
        return f"{mine.kind!r} is no kind of address that is known"
    if mine.kind != other.kind:
        return f"the other end has no {mine.kind}"
    if mine.kind == INFINIBAND:
        return ""
    return "" if _family(mine.gid) == _family(other.gid) else "the other end has no address of the same family"


def _family(gid: str) -> str:
    return "IPv4" if gid.startswith(_IPV4) else "link-local" if gid.startswith(_LINK_LOCAL) else "IPv6"


def _common_bits(one: str, other: str) -> int:
    """How many bits two addresses share at the beginning."""
    first, second = (int(gid.replace(":", ""), 16) for gid in (one, other))
    return 128 - (first ^ second).bit_length()
