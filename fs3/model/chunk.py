"""Chunks and the updates that change them."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

import msgspec

from fs3.base.ids import ChainId, ChunkId, ClientId, TargetId
from fs3.base.status import Code
from fs3.model.trace import UpdateTrace


class UpdateKind(IntEnum):
    """What an update does to its chunk. Numbers as on the wire; the .proto says more."""

    WRITE = 0
    PUT = 1
    TRUNCATE = 2
    REMOVE = 3
    FILL = 4
    FILL_BAD = 5


FILLS = frozenset((UpdateKind.FILL, UpdateKind.FILL_BAD))
"""What only a resync does: the whole chunk is replaced by the predecessor's, by sound bytes or by damaged ones."""


class Tag(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Names one update for ever: it is applied once however often it is sent."""

    client: ClientId
    channel: int
    seq: int


class PayloadHandle(Protocol):
    """The place of an update's data in the buffer its request arrived in, which its service wants back."""

    @property
    def is_gone(self) -> bool:
        """The buffer went back: the data may not be looked at any more, and nothing else may be asked of the handle."""
        ...

    def hold(self) -> None:
        """The store works on the data from now on."""
        ...

    def drop(self) -> None:
        """The store has what it needs, and the machine has seen that."""
        ...

    def lend(self) -> bool:
        """Let a forward send the data; `give_back` follows. False: it must read them from the store instead."""
        ...

    def give_back(self) -> None:
        """The forward is done with the data."""
        ...

    def park(self) -> bool:
        """The update waits behind another one of its chunk, with its data. False: there is no room for that."""
        ...

    def unpark(self) -> None:
        """It does not wait any more, or never did."""
        ...


class PushedHandle(Protocol):
    """The data of an update that were pushed: they came ahead of it, and are in the store already or about to be."""

    @property
    def onward(self) -> int:
        """The number under which this target has pushed them to its own successor; 0: it has not."""
        ...


class Update(msgspec.Struct, frozen=True):
    """A change to one chunk, as it travels down a chain. The machine looks at neither `data` nor what says where they are
    (`payload`, `push`, `pushed`), nor at `trace`; it hands them on."""

    chunk: ChunkId
    kind: UpdateKind
    chain: ChainId
    chain_version: int
    version: int
    """Version it creates; 0 from a client, numbered by the head."""
    offset: int
    length: int
    tag: Tag
    checksums: tuple[int, ...] = ()
    """Of the data, cut at multiples of 64 KiB of chunk offset."""
    reserve: int = 0
    """Size the chunk is expected to reach, 0 unknown."""
    data: memoryview | None = None
    from_target: TargetId = TargetId(0)
    """Who sent it: 0 a client, else the predecessor."""
    serial: int = 0
    """Number of this sending between two neighbours of a chain; rises with every sending, also over restarts. 0 from a client."""
    floor: int = 0
    """The sender waits for no answer to a sending with a lower serial; whoever receives one later than this drops it."""
    payload: PayloadHandle | None = None
    """Of `data`, in a service; whoever replaces `data` by nothing may leave it."""
    is_of_lost_page: bool = False
    """A client's REMOVE: it has found every copy of this KVCache page damaged or gone. Only the head is told, for its events."""
    push: int = 0
    """From a predecessor: the number under which the data were pushed, and then `data` is None; 0: they were not."""
    pushed: PushedHandle | None = None
    """What has come of that push, in a service."""
    trace: UpdateTrace | None = None
    """Of an update whose operation is traced, in a service."""


ChannelKey = tuple[ClientId, int]
"""Names an update channel: the client, and its number there."""


class ChunkMeta(msgspec.Struct, frozen=True, gc=False):
    """What a target knows of one chunk. A chunk without committed version (0) is not readable; absent means hole."""

    committed: int
    """Readable version, 0 none."""
    pending: int
    """Staged version, 0 none; always committed + 1, but for a FILL."""
    chain_version: int
    """Chain version under which the newest of the two was staged."""
    length: int
    """Bytes of the committed version."""
    checksum: int
    """Digest of the committed version's block checksums (`fs3.base.checksum.digest_of`)."""
    pending_kind: UpdateKind = UpdateKind.WRITE
    pending_tag: Tag | None = None
    """Tag of the pending update, so that whoever rolls it forward does so under the right name."""
    pending_length: int = 0
    pending_checksum: int = 0


def apply_update(kind: UpdateKind, offset: int, data: bytes, content: bytes | None) -> bytes | None:
    """The content of a chunk after an update. None: the chunk does not exist."""
    if kind is UpdateKind.REMOVE:
        return None
    if kind in (UpdateKind.PUT, UpdateKind.FILL, UpdateKind.FILL_BAD):
        return data
    before = content or b""
    if kind is UpdateKind.TRUNCATE:
        return before[:offset]
    if not data:
        return before
    return before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :]


class UpdateResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to an update, kept with the channel so that a repetition gets the same."""

    code: Code
    version: int = 0
    length: int = 0
    checksum: int = 0
    message: str = ""


class ChannelRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last update applied for (client, channel): part of the replicated state, persisted with the commit it describes."""

    seq: int
    chunk: ChunkId
    result: UpdateResult
