"""Judges updates at one target: finds the facts of a case, and answers those that begin nothing."""

from __future__ import annotations

from fs3.base.ids import ClientId, TargetId
from fs3.base.status import Code
from fs3.core.craq.admission.answers import AnswerTable
from fs3.core.craq.admission.facts import check_tag, client_step, explain_malformed, forwarded_step, shortcut_of
from fs3.core.craq.admission.table import (
    UNTAGGED,
    Action,
    AdmissionRow,
    FenceCheck,
    Form,
    LaneState,
    Sender,
    Shortcut,
    Step,
    TagCheck,
    pack,
    row_for,
)
from fs3.core.craq.position import ChainPosition, ChainRole
from fs3.core.craq.send_window import DuplicateFilter
from fs3.core.craq.view import ChunkView
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateResult


class Admitter:
    """What a replica consults before it does anything with an update."""

    def __init__(self, target_id: TargetId, view: ChunkView, answers: AnswerTable) -> None:
        self.target_id = target_id
        self.view = view
        self.answers = answers
        self.position = ChainPosition()
        self.duplicates = DuplicateFilter()
        self.step_rows: dict[tuple[ClientId, int], ChannelRow] = {}
        """Channel rows that a Commit of the step under way sets and the view does not show yet."""

    def set_position(self, position: ChainPosition) -> None:
        """The target's place in its chain from now on."""
        if (position.chain, position.version) != (self.position.chain, self.position.version):
            self.answers.clear()
        self.position = position
        self.duplicates.set_sender(position.predecessor)

    def admit(self, update: Update, state: LaneState, meta: ChunkMeta | None) -> AdmissionRow:
        """The admission row of an update. `meta` counts only for a free lane."""
        at = self.position
        fence = self.check_fence(update)
        seen = TagCheck.FRESH
        step = Step.NEXT
        shortcut = Shortcut.NONE
        sender = self.identify_sender(update, fence)
        if sender is Sender.CLIENT:
            if update.tag.client:
                seen = check_tag(update, self.find_last_answer(update.tag))
            if state is LaneState.FREE:
                step = client_step(meta)
                shortcut = shortcut_of(update, meta)
        elif state is LaneState.FREE:
            step = self.compare_version(update, meta)
        form = Form.BAD if explain_malformed(update) else Form.GOOD
        return row_for(pack(form, at.role, fence, sender, seen, state, step, shortcut))

    def compare_version(self, update: Update, meta: ChunkMeta | None) -> Step:
        """What a predecessor sends, against what is known of its chunk."""
        row = self.find_channel_row(update.tag) if meta is None and update.tag.client else None
        return forwarded_step(update, meta, row, self.position.role is ChainRole.SYNCING)

    def check_fence(self, update: Update) -> FenceCheck:
        """Equality of chain and chain version, nothing else."""
        at = self.position
        return FenceCheck.EQUAL if update.chain_version == at.version and update.chain == at.chain else FenceCheck.OTHER

    def identify_sender(self, update: Update, fence: FenceCheck) -> Sender:
        """Who sent it; notes how far the predecessor has gone on."""
        if not update.from_target:
            return Sender.CLIENT
        if update.from_target != self.position.predecessor:
            return Sender.STRANGER
        return Sender.LATE if fence is FenceCheck.EQUAL and self.duplicates.is_late(update) else Sender.PREDECESSOR

    def find_channel_row(self, tag: Tag) -> ChannelRow | None:
        """The channel row of a tag."""
        if self.step_rows:
            row = self.step_rows.get((tag.client, tag.channel))
            if row is not None:
                return row
        return self.view.get_channel(tag.client, tag.channel)

    def find_last_answer(self, tag: Tag) -> ChannelRow | None:
        """The last thing a client was told on the channel of a tag: its row, or an answer that left none."""
        row = self.find_channel_row(tag)
        told = self.answers.find((tag.client, tag.channel))
        return told if told is not None and (row is None or row.seq < told.seq) else row

    def choose_row_tag(self, tag: Tag) -> Tag:
        """The tag that a commit sets the channel row with: none when the client has gone on to a newer update, which the row must
        keep."""
        if tag.client:
            row = self.find_channel_row(tag)
            if row is not None and row.seq > tag.seq:
                return UNTAGGED
        return tag

    def answer(self, now: int, row: AdmissionRow, update: Update, meta: ChunkMeta | None) -> UpdateResult:
        """The answer to an update that begins nothing. `meta` is what the row was found with. EXISTS is remembered."""
        action = row.action
        if action is Action.REPEAT:
            remembered = self.find_last_answer(update.tag)
            assert remembered is not None
            return remembered.result
        if action is Action.ALREADY_COMMITTED:
            return UpdateResult(Code.OK, update.version, meta.length if meta else 0, meta.checksum if meta else 0)
        if action is Action.EXISTS:
            assert meta is not None
            exists = UpdateResult(Code.EXISTS, meta.committed, meta.length, meta.checksum)
            tag = update.tag
            if self.answers.remember(now, (tag.client, tag.channel), ChannelRow(tag.seq, update.chunk, exists)):
                return exists
            return UpdateResult(Code.BUSY, message=f"target {self.target_id} remembers too many answers already")
        if action is Action.NOTHING:
            return UpdateResult(Code.OK)
        return UpdateResult(row.code, message=self._refusal(row, update))

    def _refusal(self, row: AdmissionRow, update: Update) -> str:
        who = f"target {self.target_id}"
        if row.code is Code.INVALID:
            return f"{who}: chunk {update.chunk.hex()}: {explain_malformed(update) or row.why}"
        if row.code is Code.WRONG_CHAIN_VERSION:
            asked = f"chain {update.chain} version {update.chain_version}"
            return f"{who}: {asked} was asked for, it has chain {self.position.chain} version {self.position.version}"
        return f"{who}: {row.why}"
