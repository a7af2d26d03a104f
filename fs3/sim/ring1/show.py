"""Events, effects and messages of the replication machines in a few words, for traces and scenario files."""

from __future__ import annotations

from fs3.base.status import Code
from fs3.core.craq.effects import AnswerUpdate, Commit, DropPending, Effect, FillDone, Forward, Stage
from fs3.core.craq.events import (
    BirthStored,
    ChainChanged,
    DropDone,
    Event,
    FillRequested,
    ForwardDone,
    StageDone,
    StoreOpened,
    Tick,
    UpdateReceived,
)
from fs3.core.craq.resync.rows import RangeDigest, RemoteRow
from fs3.core.craq.resync.steps import (
    Compare,
    CompareAnswer,
    Fill,
    Finish,
    FinishAnswer,
    ListRows,
    ListRowsAnswer,
    MergeAnswer,
    MergeChannels,
    PositionChanged,
    ResyncEffect,
    ResyncEvent,
)
from fs3.core.craq.send_window import SERIAL_BITS
from fs3.model.chain import Chain
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.sim.ring1.messages import (
    FIRST_CLIENT,
    ChainNotice,
    ChainRequest,
    HeartbeatCall,
    ManagerAnswer,
    Message,
    RegisterCall,
    ResyncCall,
    ResyncReply,
    SimReadAnswer,
    SimReadCall,
    SimUpdateAnswer,
    SimUpdateCall,
)


def show_chunk(chunk: bytes) -> str:
    """The end of a chunk id; a leading p marks a page."""
    number = int.from_bytes(chunk[8:], "big")
    return f"p{number}" if chunk[0] >= 0x80 else f"x{number}"


def show_tag(tag: Tag | None) -> str:
    """client/channel/seq."""
    if tag is None or not tag.client:
        return "untagged"
    return f"c{int.from_bytes(tag.client, 'big') - FIRST_CLIENT}/{tag.channel}/{tag.seq}"


def show_serial(serial: int) -> str:
    """incarnation.number of a sending."""
    return f"{serial >> SERIAL_BITS}.{serial & ((1 << SERIAL_BITS) - 1)}"


def show_update(update: Update) -> str:
    """What an update does, to what, under which number and tag."""
    what = f"{update.kind.name.lower()} {show_chunk(update.chunk)}"
    if update.version:
        what += f"@{update.version}"
    if update.kind is UpdateKind.TRUNCATE or update.offset:
        what += f" at {update.offset}"
    if update.data is not None:
        what += f" {bytes(update.data).decode(errors='replace')!r}"
    elif update.kind is UpdateKind.FILL:
        what += " from the store"
    return f"{what} {show_tag(update.tag)}"


def show_result(result: UpdateResult) -> str:
    """Code, version and length of an answer."""
    if result.code is Code.OK or result.code is Code.EXISTS:
        return f"{result.code.name} version {result.version} length {result.length}"
    return result.code.name


def show_event(event: Event | ResyncEvent | str) -> str:
    """An event of a replica or of a resync."""
    if isinstance(event, str):
        return event
    if isinstance(event, UpdateReceived):
        return f"received {show_update(event.update)}"
    if isinstance(event, StageDone):
        return f"staged {show_chunk(event.chunk)}@{event.version} {event.code.name}"
    if isinstance(event, ForwardDone):
        return f"acked {show_chunk(event.chunk)}@{event.version} #{show_serial(event.attempt)} {show_result(event.result)}"
    if isinstance(event, ChainChanged):
        return f"chain {show_chain(event.chain)}"
    if isinstance(event, StoreOpened):
        whole = "" if event.whole else ", not whole"
        return f"opened with pending {' '.join(show_chunk(chunk) for chunk in event.pending) or 'nothing'}{whole}"
    if isinstance(event, BirthStored):
        return "birth stored"
    if isinstance(event, DropDone):
        return f"dropped {show_chunk(event.chunk)}@{event.version}"
    if isinstance(event, FillRequested):
        return f"asked to fill {show_chunk(event.chunk)}"
    if isinstance(event, Tick):
        return "tick"
    if isinstance(event, PositionChanged):
        return f"resync: {event.position.role.name.lower()}, {'a' if event.position.successor_syncs else 'no'} successor syncs"
    return f"resync: {show_resync(event)}"


def show_resync(step: ResyncEvent | ResyncEffect) -> str:
    """An event or effect of a resync."""
    if isinstance(step, Compare):
        return f"compare {'; '.join(_range(wanted) for wanted in step.ranges)}"
    if isinstance(step, ListRows):
        return f"list {_keys(step.begin, step.end)}"
    if isinstance(step, Fill):
        return f"fill {show_chunk(step.chunk)}"
    if isinstance(step, MergeChannels):
        rows = " ".join(show_tag(Tag(client, channel, row.seq)) for (client, channel), row in step.rows)
        return f"merge channels {rows}"
    if isinstance(step, Finish):
        return "finish"
    if isinstance(step, FillDone):
        return f"filled {show_chunk(step.chunk)} {step.code.name}"
    if isinstance(step, CompareAnswer):
        return f"compared {step.code.name} {' '.join(state.name.lower() for state in step.states)}".rstrip()
    if isinstance(step, ListRowsAnswer):
        rows = "; ".join(_row(row) for row in step.rows) or "nothing"
        return f"listed {step.code.name} {rows}{' and more' if step.more else ''}"
    if isinstance(step, MergeAnswer):
        return f"merged {step.code.name}"
    if isinstance(step, FinishAnswer):
        return f"finish heard {step.code.name}"
    return type(step).__name__.lower()


def _keys(begin: bytes, end: bytes) -> str:
    return f"[{show_chunk(begin) if begin else ''}…{show_chunk(end) if end else ''})"


def _range(wanted: RangeDigest) -> str:
    return f"{_keys(wanted.begin, wanted.end)} {wanted.count} chunks"


def _row(row: RemoteRow) -> str:
    pending = f" pending {row.pending}" if row.pending else ""
    return f"{show_chunk(row.chunk)}@{row.committed}{pending}{' bad' if row.bad else ''}"


def show_effect(effect: Effect | ResyncEffect) -> str:
    """An effect of a replica or of a resync."""
    if isinstance(effect, Stage):
        return f"stage {show_update(effect.update)}"
    if isinstance(effect, Forward):
        floor = show_serial(effect.update.floor)
        what = (
            show_update(effect.update).replace("from the store", "as committed")
            if effect.committed
            else show_update(effect.update)
        )
        return f"forward to {effect.target} {what} #{show_serial(effect.attempt)} floor {floor}"
    if isinstance(effect, Commit):
        return f"commit {show_chunk(effect.chunk)}@{effect.version} {show_tag(effect.tag)}"
    if isinstance(effect, AnswerUpdate):
        return f"reply {show_result(effect.result)}"
    if isinstance(effect, DropPending):
        return f"drop pending {show_chunk(effect.chunk)}@{effect.version}"
    return show_resync(effect)


def show_chain(chain: Chain | None) -> str:
    """Version and states."""
    if chain is None:
        return "none"
    return f"v{chain.version} " + " ".join(f"{slot.target}:{slot.state.name.lower()}" for slot in chain.slots)


def show_message(message: Message) -> str:
    """A message between nodes."""
    if isinstance(message, SimUpdateCall):
        return show_update(message.update)
    if isinstance(message, SimUpdateAnswer):
        return f"answer {show_chunk(message.chunk)} {show_result(message.result)}"
    if isinstance(message, SimReadCall):
        return f"read {show_chunk(message.chunk)}"
    if isinstance(message, SimReadAnswer):
        return f"answer {message.code.name} version {message.version} {message.content.decode(errors='replace')!r}"
    if isinstance(message, ResyncCall):
        return show_resync(message.request)
    if isinstance(message, ResyncReply):
        return show_resync(message.answer)
    if isinstance(message, RegisterCall):
        return f"registers incarnation {message.incarnation}"
    if isinstance(message, HeartbeatCall):
        reports = " ".join(f"{report.state.name.lower()} v{report.chain_version}" for report in message.heartbeat.targets)
        return f"heartbeat {message.call}{' leaving' if message.heartbeat.leaving else ''} {reports}".rstrip()
    if isinstance(message, ManagerAnswer):
        return f"answer to {message.call}: {message.answer}"
    if isinstance(message, ChainNotice):
        return f"chain {show_chain(message.chain)}"
    assert isinstance(message, ChainRequest)
    return "asks for the chain"
