"""Judges updates at one target: finds the facts of a case, and answers those that begin nothing."""

from __future__ import annotations

from fs3.base.ids import ClientId, TargetId
from fs3.base.status import Code
from fs3.core.craq.admission import (
    Action,
    Fence,
    Form,
    LaneState,
    Place,
    Row,
    Seen,
    Sender,
    Shortcut,
    Step,
    pack,
    row_for,
)
from fs3.core.craq.facts import client_step, forwarded_step, malformed, seen_of, shortcut_of
from fs3.core.craq.sendings import Heard
from fs3.core.craq.standing import Standing
from fs3.core.craq.view import ChunkView
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateResult


class Judge:
    """What a replica consults before it does anything with an update."""

    def __init__(self, target_id: TargetId, view: ChunkView) -> None:
        self.target_id = target_id
        self.view = view
        self.standing = Standing()
        self.heard = Heard()
        self.just: dict[tuple[ClientId, int], ChannelRow] = {}
        """Channel rows that a Commit of the step under way sets and the view does not show yet."""

    def stand(self, standing: Standing) -> None:
        """The target's place in its chain from now on."""
        self.standing = standing
        self.heard.listen_to(standing.predecessor)

    def row(self, update: Update, state: LaneState, meta: ChunkMeta | None) -> Row:
        """The admission row of an update. `meta` counts only for a free lane."""
        at = self.standing
        fence = self.fence(update)
        seen = Seen.FRESH
        step = Step.NEXT
        shortcut = Shortcut.NONE
        sender = self.sender(update, fence)
        if sender is Sender.CLIENT:
            if update.tag.client:
                seen = seen_of(update, self.channel(update.tag))
            if state is LaneState.FREE:
                step = client_step(meta)
                shortcut = shortcut_of(update, meta)
        elif state is LaneState.FREE:
            step = self.step(update, meta)
        form = Form.BAD if malformed(update) else Form.GOOD
        return row_for(pack(form, at.place, fence, sender, seen, state, step, shortcut))

    def step(self, update: Update, meta: ChunkMeta | None) -> Step:
        """What a predecessor sends, against what is known of its chunk."""
        row = self.channel(update.tag) if meta is None and update.tag.client else None
        return forwarded_step(update, meta, row, self.standing.place is Place.SYNCING)

    def fence(self, update: Update) -> Fence:
        """Equality of chain and chain version, nothing else."""
        at = self.standing
        return Fence.EQUAL if update.chain_version == at.version and update.chain == at.chain else Fence.OTHER

    def sender(self, update: Update, fence: Fence) -> Sender:
        """Who sent it; notes how far the predecessor has gone on."""
        if not update.from_target:
            return Sender.CLIENT
        if update.from_target != self.standing.predecessor:
            return Sender.STRANGER
        return Sender.LATE if fence is Fence.EQUAL and self.heard.is_late(update) else Sender.PREDECESSOR

    def channel(self, tag: Tag) -> ChannelRow | None:
        """The channel row of a tag."""
        if self.just:
            row = self.just.get((tag.client, tag.channel))
            if row is not None:
                return row
        return self.view.channel(tag.client, tag.channel)

    def answer(self, row: Row, update: Update, meta: ChunkMeta | None) -> UpdateResult:
        """The answer to an update that begins nothing. `meta` is what the row was found with."""
        action = row.action
        if action is Action.REPEAT:
            remembered = self.channel(update.tag)
            assert remembered is not None
            return remembered.result
        if action is Action.ALREADY_COMMITTED:
            return UpdateResult(Code.OK, update.version, meta.length if meta else 0, meta.checksum if meta else 0)
        if action is Action.EXISTS:
            assert meta is not None
            return UpdateResult(Code.EXISTS, meta.committed, meta.length, meta.checksum)
        if action is Action.NOTHING:
            return UpdateResult(Code.OK)
        return UpdateResult(row.code, message=self._refusal(row, update))

    def _refusal(self, row: Row, update: Update) -> str:
        who = f"target {self.target_id}"
        if row.code is Code.INVALID:
            return f"{who}: chunk {update.chunk.hex()}: {malformed(update) or row.why}"
        if row.code is Code.WRONG_CHAIN_VERSION:
            asked = f"chain {update.chain} version {update.chain_version}"
            return f"{who}: {asked} was asked for, it has chain {self.standing.chain} version {self.standing.version}"
        return f"{who}: {row.why}"
