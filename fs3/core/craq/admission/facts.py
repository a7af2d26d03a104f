"""The facts of an admission case: an update against what is known of its chunk and its channel. See `admission.table`."""

from __future__ import annotations

from fs3.base.ids import CHUNK_ID_BYTES
from fs3.core.craq.admission.table import Shortcut, Step, TagCheck
from fs3.model.chunk import FILLS, ChannelRow, ChunkMeta, Tag, Update, UpdateKind


def explain_malformed(update: Update) -> str:
    """What is wrong with an update whatever the chain is; "" when nothing is."""
    kind = update.kind
    if len(update.chunk) != CHUNK_ID_BYTES:
        return f"chunk id of {len(update.chunk)} bytes"
    if update.offset < 0 or update.length < 0:
        return f"negative range {update.offset}+{update.length}"
    if update.offset and (kind is UpdateKind.PUT or kind in FILLS):
        return f"{kind.name} at offset {update.offset}: it replaces the whole chunk"
    if update.from_target:
        return "" if update.version > 0 else "a forwarded update without version"
    if update.version:
        return f"version {update.version} from a client: the head numbers updates"
    if kind in FILLS:
        return f"{kind.name} from a client"
    if not update.tag.client and kind is not UpdateKind.REMOVE:
        return f"{kind.name} without a tag cannot be applied exactly once"
    return ""


def check_tag(update: Update, row: ChannelRow | None) -> TagCheck:
    """A client's tag against its channel's row."""
    if row is None or row.seq < update.tag.seq:
        return TagCheck.FRESH
    if row.seq > update.tag.seq:
        return TagCheck.STALE
    return TagCheck.AGAIN if row.chunk == update.chunk else TagCheck.CROSSED


def client_step(meta: ChunkMeta | None) -> Step:
    """Whether the head may number an update now."""
    return Step.NEXT if meta is None or not meta.pending else Step.GAP


def shortcut_of(update: Update, meta: ChunkMeta | None) -> Shortcut:
    """Whether a client's update has nothing to do."""
    if update.kind is UpdateKind.PUT:
        return Shortcut.PRESENT if meta is not None and meta.committed else Shortcut.NONE
    if update.kind is UpdateKind.REMOVE and meta is None and not update.tag.client:
        return Shortcut.ABSENT
    return Shortcut.NONE


def forwarded_step(update: Update, meta: ChunkMeta | None, row: ChannelRow | None, syncing: bool) -> Step:
    """A predecessor's version against the chunk's.

    `row` is the channel row of the update's tag, needed only for a REMOVE of an absent chunk: then all that is left to do is to
    set the row, unless it is there or newer. A syncing target trusts nothing that it has not staged under this chain version.
    """
    version = update.version
    if meta is None:
        if update.kind is UpdateKind.REMOVE:
            recorded = not update.tag.client or (row is not None and row.seq >= update.tag.seq)
            return Step.DONE if recorded else Step.NEXT
        return Step.NEXT if version == 1 or (syncing and update.kind in FILLS) else Step.GAP
    if syncing:
        return _syncing_step(update, meta)
    if version == meta.pending:
        return Step.RESENT if is_same_tag(meta.pending_tag, update.tag) else Step.RENAMED
    if version == meta.committed + 1 and not meta.pending:
        return Step.NEXT
    if version > meta.committed:
        return Step.GAP
    return Step.DONE if version == meta.committed else Step.PAST


def _syncing_step(update: Update, meta: ChunkMeta) -> Step:
    """A version against what a syncing target has of the chunk.

    A fill or REMOVE replaces whatever is there: what the predecessor says last of a chunk is right, and serials tell what it
    said last (`send_window`). But it never goes back behind what is committed under this chain version: that would be a late
    duplicate after all.
    Anything else needs the version before, staged under this very chain version; the sender then falls back to a FILL.
    """
    version = update.version
    replaces = update.kind in FILLS or update.kind is UpdateKind.REMOVE
    if meta.chain_version != update.chain_version:
        return Step.NEXT if replaces else Step.GAP
    if meta.pending:
        removes = meta.pending_kind is UpdateKind.REMOVE
        if (
            version == meta.pending
            and removes == (update.kind is UpdateKind.REMOVE)
            and is_same_tag(meta.pending_tag, update.tag)
        ):
            return Step.RESENT
        return Step.NEXT if replaces else Step.GAP
    if update.kind is UpdateKind.REMOVE or version == meta.committed + 1:
        return Step.NEXT
    if version > meta.committed:
        return Step.NEXT if replaces else Step.GAP
    return Step.DONE if version == meta.committed else Step.PAST


def is_same_tag(one: Tag | None, other: Tag | None) -> bool:
    """Two tags name one update. Untagged updates are told apart by their versions only, which the caller has compared."""
    if one is None or not one.client:
        return other is None or not other.client
    return one == other
