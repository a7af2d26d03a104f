"""Events, effects and messages of the replication machines in a few words, for traces and scenario files."""

from __future__ import annotations

from fs3.base.status import Code
from fs3.core.craq.effects import Commit, Effect, Forward, Reply, Stage
from fs3.core.craq.events import Acked, ChainChanged, Event, Opened, Staged, UpdateReceived
from fs3.core.craq.sendings import SERIAL_BITS
from fs3.model.chain import Chain
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.sim.messages import (
    FIRST_CLIENT,
    ChainTold,
    Heartbeat,
    HeartbeatAnswer,
    Message,
    ReadAnswer,
    ReadCall,
    UpdateAnswer,
    UpdateCall,
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


def show_event(event: Event | str) -> str:
    """An event of a replica."""
    if isinstance(event, str):
        return event
    if isinstance(event, UpdateReceived):
        return f"received {show_update(event.update)}"
    if isinstance(event, Staged):
        return f"staged {show_chunk(event.chunk)}@{event.version} {event.code.name}"
    if isinstance(event, Acked):
        return f"acked {show_chunk(event.chunk)}@{event.version} #{show_serial(event.attempt)} {show_result(event.result)}"
    if isinstance(event, ChainChanged):
        return f"chain {show_chain(event.chain)}"
    if isinstance(event, Opened):
        return f"opened with pending {' '.join(show_chunk(chunk) for chunk in event.pending) or 'nothing'}"
    return "tick"


def show_effect(effect: Effect) -> str:
    """An effect of a replica."""
    if isinstance(effect, Stage):
        return f"stage {show_update(effect.update)}"
    if isinstance(effect, Forward):
        floor = show_serial(effect.update.floor)
        return f"forward to {effect.target} {show_update(effect.update)} #{show_serial(effect.attempt)} floor {floor}"
    if isinstance(effect, Commit):
        return f"commit {show_chunk(effect.chunk)}@{effect.version} {show_tag(effect.tag)}"
    if isinstance(effect, Reply):
        return f"reply {show_result(effect.result)}"
    return f"drop pending of {show_chunk(effect.chunk)}"


def show_chain(chain: Chain | None) -> str:
    """Version and states."""
    if chain is None:
        return "none"
    return f"v{chain.version} " + " ".join(f"{slot.target}:{slot.state.name.lower()}" for slot in chain.slots)


def show_message(message: Message) -> str:
    """A message between nodes."""
    if isinstance(message, UpdateCall):
        return show_update(message.update)
    if isinstance(message, UpdateAnswer):
        return f"answer {show_chunk(message.chunk)} {show_result(message.result)}"
    if isinstance(message, ReadCall):
        return f"read {show_chunk(message.chunk)}"
    if isinstance(message, ReadAnswer):
        return f"answer {message.code.name} version {message.version} {message.content.decode(errors='replace')!r}"
    if isinstance(message, Heartbeat):
        return f"heartbeat, knows v{message.chain_version}"
    if isinstance(message, HeartbeatAnswer):
        return f"heartbeat answered{', ' + show_chain(message.chain) if message.chain is not None else ''}"
    if isinstance(message, ChainTold):
        return f"chain {show_chain(message.chain)}"
    return "asks for the chain"
