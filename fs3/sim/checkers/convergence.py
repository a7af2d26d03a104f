"""When all is quiet, the serving targets of a chain are the same, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping

from fs3.base.ids import ChunkId, TargetId
from fs3.model.chain import Chain
from fs3.sim.checkers.stores import CheckedStore


def explain(chain: Chain, stores: Mapping[TargetId, CheckedStore]) -> str:
    """ "" when all serving targets hold the same chunks and channel rows and nothing is pending, else the first difference."""
    serving = [slot.target for slot in chain.serving_slots()]
    for target in serving:
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
                return f"chunk {chunk.hex()}: target {serving[0]} has {mine}, target {target} has {theirs}"
        if first.rows != other.rows:
            return f"targets {serving[0]} and {target} have different channel rows: {first.rows} and {other.rows}"
    return ""


def _shown(chunks: CheckedStore, chunk: ChunkId) -> tuple[int, bytes] | None:
    record = chunks.records.get(chunk)
    return (record.meta.committed, record.content) if record is not None else None
