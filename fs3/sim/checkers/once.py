"""A tagged update is applied once, however often it is sent and whatever restarts in between."""

from __future__ import annotations

from collections.abc import Iterable

from fs3.base.ids import ChunkId, TargetId
from fs3.model.chunk import Tag
from fs3.sim.checkers.stores import CheckedStore


class CommitVersions:
    """Under which version of which chunk each tagged update was committed: one, on however many targets."""

    def __init__(self) -> None:
        self._versions: dict[Tag, tuple[ChunkId, int]] = {}

    def explain(self, target: TargetId, chunk: ChunkId, version: int, tag: Tag) -> str:
        """A target commits: "" unless the update was committed under another version before."""
        if not tag.client:
            return ""
        before = self._versions.setdefault(tag, (chunk, version))
        if before == (chunk, version):
            return ""
        return (
            f"target {target} commits {_describe(tag)} as version {version} of chunk {chunk.hex()[-8:]}; "
            f"it was version {before[1]} of chunk {before[0].hex()[-8:]}"
        )


def explain(stores: Iterable[tuple[TargetId, CheckedStore]]) -> str:
    """ "" when no target has applied a tag twice, else which did. A chunk that was removed counts its versions anew, so that this
    finds what `CommitVersions` does not."""
    for target, chunks in stores:
        for tag, count in chunks.applications.items():
            if count > 1:
                return f"target {target} applied {_describe(tag)} {count} times"
    return ""


def _describe(tag: Tag) -> str:
    return f"update {tag.seq} of client {tag.client.hex()[-4:]}/{tag.channel}"
