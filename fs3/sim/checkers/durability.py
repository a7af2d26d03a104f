"""What was acknowledged is on every target that serves: at the moment of the answer, and in the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fs3.base.ids import TargetId
from fs3.model.chain import Chain
from fs3.model.chunk import Tag
from fs3.sim.checkers.stores import CheckedStore


def explain(tag: Tag, chain: Chain, stores: Mapping[TargetId, CheckedStore]) -> str:
    """ "" when every serving target has the update committed or pending, else who has not.

    Of a target without store here nothing is demanded, nor of one that syncs: the head may have acknowledged under the chain
    version before it came in.
    """
    for slot in chain.serving_slots():
        if slot.target in stores and not stores[slot.target].has_update(tag):
            return (
                f"update {tag.seq} of client {tag.client.hex()[-4:]}/{tag.channel} was acknowledged without target {slot.target}"
            )
    return ""


def explain_end(acknowledged: Iterable[Tag], chain: Chain, stores: Mapping[TargetId, CheckedStore]) -> str:
    """ "" when every serving target has applied every acknowledged update, else which is missing."""
    for tag in acknowledged:
        for slot in chain.serving_slots():
            if not stores[slot.target].has_applied(tag):
                return f"target {slot.target} lost update {tag.seq} of client {tag.client.hex()[-4:]}/{tag.channel}"
    return ""
