"""What the next process has to know of this one, should it be killed: written down before the kernel is answered.

Open handles and files, locks, the numbers of requests under way, and the bytes and attributes that were accepted and are not
stored. A mount
whose process is not replaced keeps no ledger: then every method here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from fs3.api.fuse.deferred_attributes import from_numbers, to_numbers
from fs3.api.fuse.kept_bytes import KeptBlock, KeptWhole, read_kept
from fs3.api.locks import LockPlace
from fs3.base.ids import CLIENT_ID_BYTES, ClientId, InodeId, SessionId
from fs3.drivers.fuse.lasting_memory import LastingMemory, Values
from fs3.drivers.fuse.protocol import UNIQUE_RESEND
from fs3.drivers.fuse.records import Negotiated
from fs3.model.lock import HeldLock, LockKind, LockOwner
from fs3.model.requests import Append, AppendStep, SetAttributes

requests_remembered_max = 1024
"""Requests that were answered, and whose numbers are known still: the kernel may not have taken the answer."""

_SEQS_RESERVED: Final = 1 << 16
"""Numbers of requests that are noted as used at once."""
_HANDLES_PER_PROCESS: Final = 1 << 40


class _Number(IntEnum):
    """Places of the page of numbers; 0 to 2 are the memory's own."""

    GENERATION = 3
    SEQS_END = 4
    CLIENT = 5  # and 6
    MAJOR = 7
    MINOR = 8
    FLAGS = 9
    MAX_WRITE = 10
    ROOT = 11


class _Kind(IntEnum):
    """Of records, with their values."""

    REQUEST = 1  # unique seq, and of the step that ends an append: step content session serial length start
    HANDLE = 2  # number node writes appends unique
    OPEN = 3  # node content session acknowledged truncations flags appender
    LOCK = 4  # node number flags start end epoch
    ATTRIBUTES = 5  # node which mode uid gid atime mtime


class OpenFlags(IntFlag):
    """Of an open file."""

    MODIFIED = 1
    MTIME_IS_SET = 2
    UNNAMED = 4
    REMOVED = 8
    NOT_KEPT = 16
    """Bytes were accepted for which there was no room here."""


class OpenRecord(NamedTuple):
    """What was known of an open file."""

    node: InodeId
    content: InodeId
    session: SessionId
    acknowledged: int
    truncations: int
    flags: OpenFlags
    appender: SessionId


class HandleRecord(NamedTuple):
    """An open handle of a file."""

    number: int
    node: InodeId
    writes: bool
    appends: bool
    unique: int
    """Of the request that opened it."""


class AppendRecord(NamedTuple):
    """The step that ends an append, which may have been done."""

    request: Append
    start: int
    """Where the bytes are, when it was."""
    seq: int


@dataclass(slots=True)
class _Request:
    """One that changes something."""

    place: int
    seq: int
    append: AppendRecord | None = None


@dataclass(slots=True)
class Inheritance:
    """What an earlier process has left."""

    opens: dict[InodeId, OpenRecord] = field(default_factory=dict)
    handles: list[HandleRecord] = field(default_factory=list)
    locks: dict[LockPlace, list[HeldLock]] = field(default_factory=dict)
    blocks: dict[InodeId, list[tuple[int, bytes]]] = field(default_factory=dict)
    """(offset, bytes) in the order they were written."""
    attributes: dict[InodeId, SetAttributes] = field(default_factory=dict)
    """To be set with the bytes."""
    wholes: dict[InodeId, KeptWhole] = field(default_factory=dict)
    cells: list[int] = field(default_factory=list)
    """What holds the bytes: to be given back once they are taken up."""


class MountLedger:
    """Of one mount, in one process."""

    def __init__(self, memory: LastingMemory | None = None) -> None:
        """`memory`: as the last process left it; None: there is none."""
        self._memory = memory
        self._requests: dict[int, _Request] = {}
        """By the kernel's number for them."""
        self._ended: dict[int, None] = {}
        self._opens: dict[InodeId, int] = {}
        """The places of records, here and below."""
        self._handles: dict[int, int] = {}
        self._attributes: dict[InodeId, int] = {}
        self._locks: dict[LockPlace, list[int]] = {}
        self._order = 0
        self._not_kept: set[InodeId] = set()
        self.inheritance = Inheritance()
        self.generation = 1
        """Counts the processes of the mount."""
        if memory is not None:
            self.generation = memory.number(_Number.GENERATION) + 1
            memory.set_number(_Number.GENERATION, self.generation)
            self._inherit(memory)

    @property
    def is_kept(self) -> bool:
        """There is a next process."""
        return self._memory is not None

    @property
    def handles_begin(self) -> int:
        """Handles of this process have greater numbers; those of earlier ones do not."""
        return self.generation * _HANDLES_PER_PROCESS

    # --- who the mount is --------------------------------------------------------------------------------------------

    def client_id(self) -> ClientId:
        """Of all processes of the mount: sessions and locks are this client's, whichever of them has it."""
        memory = self._memory
        assert memory is not None
        if not memory.number(_Number.CLIENT):
            drawn = os.urandom(CLIENT_ID_BYTES)
            memory.set_number(_Number.CLIENT + 1, int.from_bytes(drawn[8:], "big"))
            memory.set_number(_Number.CLIENT, int.from_bytes(drawn[:8], "big"))
        parts = (memory.number(_Number.CLIENT), memory.number(_Number.CLIENT + 1))
        return ClientId(b"".join(part.to_bytes(8, "big") for part in parts))

    def seqs(self) -> Iterator[int]:
        """Numbers of requests to the metadata service that no process of the mount has used."""
        memory = self._memory
        assert memory is not None
        end = max(1, memory.number(_Number.SEQS_END))
        while True:
            begin, end = end, end + _SEQS_RESERVED
            memory.set_number(_Number.SEQS_END, end)
            yield from range(begin, end)

    @property
    def root(self) -> InodeId:
        """The directory that is mounted; 0: it was not looked up yet."""
        return InodeId(self._memory.number(_Number.ROOT) if self._memory is not None else 0)

    @root.setter
    def root(self, node: InodeId) -> None:
        if self._memory is not None:
            self._memory.set_number(_Number.ROOT, node)

    @property
    def agreed(self) -> Negotiated:
        """What the kernel and the first process agreed on; major 0: nothing yet."""
        memory = self._memory
        if memory is None:
            return Negotiated()
        places = (_Number.MAJOR, _Number.MINOR, _Number.FLAGS, _Number.MAX_WRITE)
        return Negotiated(*(memory.number(place) for place in places))

    def note_agreed(self, agreed: Negotiated) -> None:
        """They have agreed."""
        if self._memory is not None:
            self._memory.set_number(_Number.MINOR, agreed.minor)
            self._memory.set_number(_Number.FLAGS, agreed.flags)
            self._memory.set_number(_Number.MAX_WRITE, agreed.max_write_bytes)
            self._memory.set_number(_Number.MAJOR, agreed.major)

    # --- requests ----------------------------------------------------------------------------------------------------

    def begin_request(self, unique: int, seqs: Iterator[int], lane: int = 0) -> tuple[int, bool]:
        """(the number of a change that is asked for on behalf of a request of the kernel, it may have been sent before by an
        earlier process). `lane`: 0 or 1, for a request that asks for two changes. Number 0: any."""
        if self._memory is None:
            return 0, False
        key = unique & ~UNIQUE_RESEND
        known = self._requests.get(key)
        is_repeated = known is not None and unique != key
        if known is None:
            seq = next(seqs)
            next(seqs)
            known = self._requests[key] = _Request(self._memory.add(_Kind.REQUEST, key, seq), seq)
        self._ended.pop(key, None)
        return known.seq + lane, is_repeated

    def end_request(self, unique: int) -> None:
        """It is about to be answered."""
        if self._memory is None:
            return
        self._ended[unique & ~UNIQUE_RESEND] = None
        while len(self._ended) > requests_remembered_max:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._memory.remove(self._requests.pop(oldest).place)

    def note_append(self, unique: int, request: Append, start: int, seq: int) -> None:
        """An append is about to be ended by this step, under a number that was drawn for it."""
        known = self._requests.get(unique & ~UNIQUE_RESEND)
        if self._memory is not None and known is not None:
            length = request.length or len(request.data)
            step = (request.step, request.content, request.session, request.serial, length, start)
            self._memory.put(known.place, _Kind.REQUEST, unique & ~UNIQUE_RESEND, seq, *step)

    def inherited_append(self, unique: int) -> AppendRecord | None:
        """The step that may have ended the append of a request that the kernel has sent again."""
        known = self._requests.get(unique & ~UNIQUE_RESEND) if unique & UNIQUE_RESEND else None
        return known.append if known is not None else None

    # --- what is open ------------------------------------------------------------------------------------------------

    def note_handle(self, number: int, node: InodeId, unique: int, *, writes: bool, appends: bool = False) -> None:
        """A handle is open."""
        if self._memory is not None:
            values = (number, node, writes, appends, unique & ~UNIQUE_RESEND)
            self._handles[number] = self._memory.add(_Kind.HANDLE, *values)

    def remove_handle(self, number: int) -> None:
        """It is closed."""
        if self._memory is not None and number in self._handles:
            self._memory.remove(self._handles.pop(number))

    def note_open(self, record: OpenRecord) -> None:
        """A file is open, or something of it has changed."""
        memory, node = self._memory, record.node
        if memory is None:
            return
        if node in self._not_kept:
            record = record._replace(flags=record.flags | OpenFlags.NOT_KEPT)
        place = self._opens.get(node, -1)
        if place < 0:
            self._opens[node] = memory.add(_Kind.OPEN, *record)
        else:
            memory.put(place, _Kind.OPEN, *record)

    def remove_open(self, node: InodeId) -> None:
        """No handle of it is open."""
        if self._memory is not None:
            self._not_kept.discard(node)
            if node in self._opens:
                self._memory.remove(self._opens.pop(node))

    def set_locks(self, place: LockPlace, locks: Iterable[HeldLock]) -> None:
        """All that an owner holds of a file."""
        memory = self._memory
        if memory is None:
            return
        before = self._locks.pop(place, [])
        after = [memory.add(_Kind.LOCK, *_lock_values(place, lock)) for lock in locks]
        for each in before:
            memory.remove(each)
        if after:
            self._locks[place] = after

    # --- bytes and attributes ----------------------------------------------------------------------------------------

    def note_attributes(self, node: InodeId, wanted: SetAttributes | None) -> bool:
        """These are to be set with the bytes of a file; None: none are any more. False: there is no room to note them."""
        memory, place = self._memory, self._attributes.get(node, -1)
        if memory is None:
            return True
        if wanted is None:
            memory.remove(self._attributes.pop(node, -1))
        elif place < 0:
            place = memory.add(_Kind.ATTRIBUTES, node, *to_numbers(wanted))
            if place < 0:
                return False
            self._attributes[node] = place
        else:
            memory.put(place, _Kind.ATTRIBUTES, node, *to_numbers(wanted))
        return True

    def keep_block(self, node: InodeId, offset: int) -> KeptBlock | None:
        """A place for bytes of a file from an offset on, written in this order."""
        if self._memory is None:
            return None
        self._order += 1
        return KeptBlock(self._memory, node, offset, self._order, self._on_not_kept)

    def keep_whole(self, node: InodeId) -> KeptWhole | None:
        """A place for all bytes of a small file."""
        return None if self._memory is None else KeptWhole(self._memory, node, self._on_not_kept)

    def _on_not_kept(self, node: int) -> None:
        self._not_kept.add(InodeId(node))
        place = self._opens.get(InodeId(node), -1)
        if self._memory is not None and place >= 0:
            found = self._memory.read(place)
            self._memory.put(place, _Kind.OPEN, *found[:5], found[5] | OpenFlags.NOT_KEPT, found[6])

    # --- what an earlier process left --------------------------------------------------------------------------------

    def _inherit(self, memory: LastingMemory) -> None:
        left = self.inheritance
        for place, kind, values in memory.records():
            match kind:
                case _Kind.REQUEST:
                    self._requests[values[0]] = _Request(place, values[1], _append_of(values))
                case _Kind.HANDLE:
                    number, node, writes, appends, unique, *_ = values
                    left.handles.append(HandleRecord(number, InodeId(node), bool(writes), bool(appends), unique))
                    self._handles[number] = place
                case _Kind.OPEN:
                    node, content, session, acknowledged, truncations, flags, appender, _ = values
                    left.opens[InodeId(node)] = OpenRecord(
                        InodeId(node),
                        InodeId(content),
                        SessionId(session),
                        acknowledged,
                        truncations,
                        OpenFlags(flags),
                        SessionId(appender),
                    )
                    self._opens[InodeId(node)] = place
                case _Kind.ATTRIBUTES:
                    node, *numbers = values
                    left.attributes[InodeId(node)] = from_numbers(InodeId(node), numbers)
                    self._attributes[InodeId(node)] = place
                case _Kind.LOCK:
                    where, lock = _lock_of(values)
                    left.locks.setdefault(where, []).append(lock)
                    self._locks.setdefault(where, []).append(place)
        self._ended = dict.fromkeys(sorted(self._requests, key=lambda unique: self._requests[unique].seq))
        kept = read_kept(memory)
        left.blocks, left.wholes, left.cells, self._order = kept.blocks, kept.wholes, kept.cells, kept.order

    def give_cells(self, cells: Iterable[int]) -> None:
        """What they held is kept elsewhere by now, or stored."""
        if self._memory is not None:
            for cell in cells:
                self._memory.give_cell(cell)


def _append_of(values: Values) -> AppendRecord | None:
    _, seq, step, content, session, serial, length, start = values
    if not step:
        return None
    # An inline step carries its bytes, which come with the kernel's request; `length` is their number.
    request = Append(InodeId(content), SessionId(session), AppendStep(step), serial, length=length)
    return AppendRecord(request, start, seq)


_BY_HANDLE: Final = 1
_EXCLUSIVE: Final = 2
_KIND_AT: Final = 8


def _lock_values(place: LockPlace, lock: HeldLock) -> Values:
    flags = place.by_handle * _BY_HANDLE | lock.exclusive * _EXCLUSIVE | lock.kind << _KIND_AT
    return place.inode, place.number, flags, lock.start, lock.end, lock.epoch


def _lock_of(values: Values) -> tuple[LockPlace, HeldLock]:
    node, number, flags, start, end, epoch, *_ = values
    by_handle, is_exclusive = bool(flags & _BY_HANDLE), bool(flags & _EXCLUSIVE)
    owner = LockOwner(ClientId(b""), number, by_handle)
    return LockPlace(InodeId(node), number, by_handle), HeldLock(
        LockKind(flags >> _KIND_AT), owner, start, end, is_exclusive, epoch
    )
