"""A tagged update is applied once, however often it is sent and whatever restarts in between."""

from __future__ import annotations

from collections.abc import Iterable

from fs3.sim.checkers.stores import CheckedStore


def explain(stores: Iterable[tuple[int, CheckedStore]]) -> str:
    """ "" when no target has applied a tag twice, else which did."""
    for target, chunks in stores:
        for tag, count in chunks.applications.items():
            if count > 1:
                return f"target {target} applied update {tag.seq} of client {tag.client.hex()[-4:]}/{tag.channel} {count} times"
    return ""
