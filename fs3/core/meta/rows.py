"""Typed access to rows: msgpack of records, and one error for a row that is not what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NoReturn

import msgspec

from fs3.base.ids import InodeId, NodeId
from fs3.base.status import Code
from fs3.core.meta import keys
from fs3.core.meta.errors import MetaError
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import Dirent, FileSession, Inode


class NamespaceCounters(msgspec.Struct, frozen=True, array_like=True):
    """The one row that counts. Inodes and sessions draw their ids from the same sequence, so a create rewrites it once."""

    next_id: int
    inodes: int
    """Inode rows."""
    garbage: int
    """Garbage rows."""


class ServiceTally(msgspec.Struct, frozen=True, array_like=True):
    """What one of several metadata services on a shared engine draws from and counts in, so that they do not all write the row of
    the counters. What there is of inodes and garbage is the sum of that row and all tallies."""

    next_id: int = 0
    end_id: int = 0
    """Ids from `next_id` up to here, taken from those of the counters, are for this service."""
    inodes: int = 0
    """More than there were; may be negative."""
    garbage: int = 0


class StoreIdent(msgspec.Struct, frozen=True, array_like=True):
    """What the rows are."""

    format: int
    """Of rows that older software would read wrongly; new fields and new kinds of rows do not change it."""
    cluster: bytes = b""
    """b"": not known yet."""


class GarbageKind(IntEnum):
    """What has to be done; a part of the key, so that each kind is a queue of its own."""

    FILE = 1
    """Remove the chunks of a file that has neither name nor writer, then its inode."""
    TREE = 2
    """Dismantle a directory that has no name any more."""


class Garbage(msgspec.Struct, frozen=True, array_like=True):
    """One thing to reclaim."""

    inode: InodeId
    kind: GarbageKind
    queued_ns: int
    """Wall clock of the operation that queued it."""
    begun: bool = False
    """Files: their chunks may be gone, so no reader may keep them any more."""

    @property
    def key(self) -> bytes:
        """Its row's key."""
        return keys.garbage_key(self.kind, self.queued_ns, self.inode)


class PrunedSession(msgspec.Struct, frozen=True, array_like=True):
    """A session that was ended because its client was silent. Should it come back, its length still counts."""

    session: FileSession
    pruned_ns: int
    """Wall clock."""


class RequestRecord(msgspec.Struct, frozen=True, array_like=True):
    """What a request answered."""

    verb: str
    wall_ns: int
    result: msgspec.Raw
    """msgpack of the verb's result."""
    owner: str = ""
    """Whose client has asked; "": in a cluster without security."""


encode = msgspec.msgpack.Encoder().encode
_inode = msgspec.msgpack.Decoder(Inode).decode
_owner = msgspec.msgpack.Decoder(int).decode
_dirent = msgspec.msgpack.Decoder(Dirent).decode
_session = msgspec.msgpack.Decoder(FileSession).decode
_pruned = msgspec.msgpack.Decoder(PrunedSession).decode
_data = msgspec.msgpack.Decoder(bytes).decode
_garbage = msgspec.msgpack.Decoder(Garbage).decode
_counters = msgspec.msgpack.Decoder(NamespaceCounters).decode
_tally = msgspec.msgpack.Decoder(ServiceTally).decode
_remembered = msgspec.msgpack.Decoder(RequestRecord).decode


def raise_malformed(key: bytes, why: Any) -> NoReturn:
    """A row cannot be read, or is missing where another one says it exists."""
    raise MetaError(Code.INTERNAL, f"row {key!r} is malformed: {why}")


async def find_inode(txn: ReadTxn, inode: InodeId) -> Inode | None:
    """The inode with an id, None when there is none (any more)."""
    key = keys.inode_key(inode)
    row = await txn.get(key)
    if row is None:
        return None
    try:
        return _inode(row)
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)


async def get_inode(txn: ReadTxn, inode: InodeId) -> Inode:
    """The inode that a directory entry, a session or a garbage row names: it exists."""
    key = keys.inode_key(inode)
    row = await txn.get(key)
    if row is None:
        raise_malformed(key, "it is missing, but another row names it")
    try:
        return _inode(row)
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)


async def get_inodes(txn: ReadTxn, inodes: Sequence[InodeId]) -> list[Inode]:
    """`get_inode` of many."""
    wanted = [keys.inode_key(inode) for inode in inodes]
    found = []
    for key, row in zip(wanted, await txn.get_many(wanted), strict=True):
        if row is None:
            raise_malformed(key, "it is missing, but another row names it")
        try:
            found.append(_inode(row))
        except msgspec.MsgspecError as error:
            raise_malformed(key, error)
    return found


def put_inode(txn: Txn, inode: Inode) -> None:
    """Store an inode."""
    txn.put(keys.inode_key(inode.id), encode(inode))


async def find_content_owner(txn: ReadTxn, content: InodeId) -> InodeId | None:
    """The inode that has a content of another id than its own, by the row that says so."""
    key = keys.content_key(content)
    row = await txn.get(key)
    return None if row is None else decode_content_owner(key, row)


def put_content_owner(txn: Txn, inode: Inode) -> None:
    """Say which inode has its content."""
    txn.put(keys.content_key(inode.content_id), encode(inode.id))


async def find_dirent(txn: ReadTxn, key: bytes) -> Dirent | None:
    """The directory entry with a key."""
    row = await txn.get(key)
    return None if row is None else decode_dirent(key, row)


def decode_dirent(key: bytes, row: bytes) -> Dirent:
    """A directory entry from its row."""
    try:
        return _dirent(row)
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)


def put_dirent(txn: Txn, key: bytes, inode: Inode) -> None:
    """Let a directory entry name an inode."""
    txn.put(key, encode(Dirent(inode.id, inode.type)))


def decode_inode(key: bytes, row: bytes) -> Inode:
    """An inode from its row."""
    try:
        return _inode(row)
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)


def decode_content_owner(key: bytes, row: bytes) -> InodeId:
    """The inode that has a content, from that row."""
    try:
        return InodeId(_owner(row))
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)


def decode_session(key: bytes, row: bytes) -> FileSession:
    """A session from its row."""
    try:
        return _session(row)
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)


def decode_pruned_session(key: bytes, row: bytes) -> PrunedSession:
    """A session that was ended, from its row."""
    try:
        return _pruned(row)
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)


def decode_data(key: bytes, row: bytes) -> bytes:
    """The bytes of a small file, or of an extended attribute, from their row."""
    try:
        return _data(row)
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)


def decode_garbage(key: bytes, row: bytes) -> Garbage:
    """A thing to reclaim from its row."""
    try:
        garbage = _garbage(row)
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)
    if garbage.key != key:
        raise_malformed(key, f"it says {garbage}")
    return garbage


def decode_request(key: bytes, row: bytes) -> RequestRecord:
    """A request's result from its row."""
    try:
        return _remembered(row)
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)


async def get_counters(txn: ReadTxn) -> NamespaceCounters:
    """The counters."""
    row = await txn.get(keys.COUNTERS)
    if row is None:
        raise_malformed(keys.COUNTERS, "it is missing; the namespace was never created")
    try:
        return _counters(row)
    except msgspec.MsgspecError as error:
        raise_malformed(keys.COUNTERS, error)


def put_counters(txn: Txn, counters: NamespaceCounters) -> None:
    """Store the counters."""
    txn.put(keys.COUNTERS, encode(counters))


async def get_tally(txn: ReadTxn, service: NodeId) -> ServiceTally:
    """The tally of a metadata service; an empty one when it has none yet."""
    key = keys.tally_key(service)
    row = await txn.get(key)
    return ServiceTally() if row is None else decode_tally(key, row)


def decode_tally(key: bytes, row: bytes) -> ServiceTally:
    """A tally from its row."""
    try:
        return _tally(row)
    except msgspec.MsgspecError as error:
        raise_malformed(key, error)


def put_tally(txn: Txn, service: NodeId, tally: ServiceTally) -> None:
    """Store the tally of a metadata service."""
    txn.put(keys.tally_key(service), encode(tally))


async def find_tallies(txn: ReadTxn) -> list[tuple[bytes, bytes]]:
    """The rows of all tallies: one for each metadata service there ever was, at most."""
    begin, end = keys.tallies_range()
    found: list[tuple[bytes, bytes]] = []
    while page := await txn.scan(begin, end, _TALLIES_PER_PAGE):
        found += page
        begin = page[-1][0] + b"\0"
    return found


async def sum_counters(txn: ReadTxn) -> NamespaceCounters:
    """The counters with all tallies added."""
    counters = await get_counters(txn)
    tallies = [decode_tally(key, row) for key, row in await find_tallies(txn)]
    inodes = counters.inodes + sum(tally.inodes for tally in tallies)
    return NamespaceCounters(counters.next_id, inodes, counters.garbage + sum(tally.garbage for tally in tallies))


_TALLIES_PER_PAGE = 256
