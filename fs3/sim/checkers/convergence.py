"""When all is quiet, the serving targets of a chain are the same, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping

from fs3.base.ids import ChunkId, TargetId
from fs3.model.chain import Chain
from fs3.sim.checkers.stores import ComparedStore


def explain(chain: Chain, stores: Mapping[TargetId, ComparedStore]) -> str:
    """ "" when the serving targets, one or more, hold the same chunks and channel rows and nothing is pending, else why not."""
    serving = [slot.target for slot in chain.serving_slots()]
    if not serving:
        return f"no target of chain {chain.id} serves in version {chain.version}"
    for target in serving:
        if target not in stores:
            return f"target {target} serves and has no store"
        pending = stores[target].list_pending()
        if pending:
            return f"target {target} still has chunk {pending[0].hex()} pending"
    first = stores[serving[0]]
    for target in serving[1:]:
        other = stores[target]
        for chunk in sorted(first.records.keys() | other.records.keys()):
            mine = _shown(first, chunk)
            theirs = _shown(other, chunk)
            if mine != theirs:
                return f"chunk {chunk.hex()}: target {serving[0]} has {_describe(mine)}, target {target} has {_describe(theirs)}"
        if first.rows != other.rows:
            return f"targets {serving[0]} and {target} have different channel rows: {first.rows} and {other.rows}"
    return ""


def _describe(shown: tuple[int, bytes] | None) -> str:
    return "nothing" if shown is None else f"version {shown[0]}, {len(shown[1])} bytes {shown[1][:16]!r}"


def _shown(chunks: ComparedStore, chunk: ChunkId) -> tuple[int, bytes] | None:
    record = chunks.records.get(chunk)
    return (record.meta.committed, record.content) if record is not None else None
