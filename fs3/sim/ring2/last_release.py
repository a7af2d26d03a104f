"""Processes of the last release beside today's, as far as the others and the stores can tell.

What that release says and stores is recorded in `proto/released`. A process of it is today's code without what the release does
not have: fields of messages, on their way in and out; methods that it does not serve; kinds of rows, which it neither sees nor
writes; and the fields at the ends of records, which are gone once it has written a row again.

Limits: what the release did otherwise with the same messages and rows is not here; `tests/processes/test_releases.py` runs it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

import fs3
from fs3.core.meta import keys
from fs3.core.txn import ReadTxn, Txn
from fs3.drivers.memory.network import MemoryNetwork
from fs3.drivers.memory.transport import MemoryChannel, MemoryTransport
from fs3.drivers.rpc.pending_call import PendingCall
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.model.method import Method
from fs3.ports.kv import OnDone, ReadOp, WriteOp
from fs3.ports.rpc import Bindings, Channel, Listener, Part
from fs3.sim.ring2.kv import SimKV
from fs3.sim.ring2.loop import current_process
from fs3.wire.endpoints import strip_scheme

T = TypeVar("T")

RELEASED = Path(fs3.__file__).parents[1] / "proto" / "released"
"""In a checkout of the project."""

_RECORDS = {
    b"cluster": "ClusterRow", b"counters": "IdCounters", b"node/": "Node", b"chain/": "Chain", b"table/": "ChainTable",
    b"namespace/": "CacheNamespace", b"config/": "RoleConfig", b"born/": "", b"generation/": "Generation", b"move/": "Move",
    b"departing/": "Departing", b"retired/": "RetiredTarget", b"removed/": "RemovedNode", b"moves": "MoveSettings",
    b"machine/": "Machine", b"token/": "JoinToken", b"settings/": "SettingsVersion", b"event/": "ClusterEvent",
    b"lease": "LeaseRecord", b"manager/": "Holder",
}  # fmt: skip
"""Beginnings of the manager's keys behind `mgmtd/`, and what is stored there."""
_MANAGER = b"mgmtd/"
_METADATA = {value for name, value in vars(keys).items() if name.isupper() and isinstance(value, bytes)}
"""Beginnings of the keys of metadata."""
_LEVEL_OF_LEASES = 2
"""Of the first release that gives leases on attributes, and whose metadata services count apart."""


def runs_last_release() -> bool:
    """Whether the code that runs belongs to a process of the last release."""
    process = current_process()
    return process is not None and process.is_of_last_release


class LastRelease:
    """What the last release knows. FileNotFoundError where there is no record of it."""

    def __init__(self) -> None:
        lines = (RELEASED / "wire.txt").read_text().splitlines()
        wire = dict(line.split(": ", 1) for line in lines)
        self._wire = {key for key, means in wire.items() if means != "reserved"}
        self._methods = {int(means.split()[0], 16) for means in wire.values() if means.startswith("0x")}
        rows = [json.loads(line) for line in (RELEASED / "rows.jsonl").read_text().splitlines()]
        self._fields = {row["record"]: len(row["fields"]) for row in rows}
        self._level = json.loads((RELEASED / "release.json").read_text())["level"]
        self._is_same = cache(self._is_same_uncached)
        self._find_record = cache(self._find_record_uncached)

    # --- messages ----------------------------------------------------------------------------------------------------

    def serves(self, method: Method) -> bool:
        """Whether it has a method."""
        return method.id in self._methods

    def reword(self, kind: type[Any], data: bytes) -> bytes:
        """A message without what the release does not know. ValueError naming an enum value that it does not know."""
        if self._is_same(kind.DESCRIPTOR):
            return data
        message = kind.FromString(data)
        self._strip(message)
        return bytes(message.SerializeToString())

    def _is_same_uncached(self, descriptor: Descriptor) -> bool:
        """Nothing of a message is new."""
        return all(
            f"{found.full_name} {field.number}" in self._wire for found in _reachable(descriptor) for field in found.fields
        ) and all(
            f"{field.enum_type.full_name} {value.number}" in self._wire
            for found in _reachable(descriptor)
            for field in found.fields
            if field.enum_type is not None
            for value in field.enum_type.values
        )

    def _strip(self, message: Message) -> None:
        for field, value in message.ListFields():
            if f"{message.DESCRIPTOR.full_name} {field.number}" not in self._wire:
                message.ClearField(field.name)
                continue
            each = list(value) if field.is_repeated else [value]
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                for inner in each:
                    self._strip(inner)
            elif field.enum_type is not None:
                new = [number for number in each if f"{field.enum_type.full_name} {number}" not in self._wire]
                if new:
                    raise ValueError(f"{field.full_name} is {new[0]}, which the last release does not know")

    # --- rows --------------------------------------------------------------------------------------------------------

    def has_row(self, key: bytes) -> bool:
        """Whether it knows of such a row."""
        if not key.startswith(_MANAGER):
            is_new = key == keys.LEASES or (key.startswith(keys.COUNTERS) and len(key) > keys.PREFIX_BYTES)
            return key[: keys.PREFIX_BYTES] in _METADATA and (self._level >= _LEVEL_OF_LEASES or not is_new)
        record = self._find_record(key)
        return record is not None and (not record or record in self._fields)

    def count_fields(self, record: str) -> int:
        """How many fields it knows of a record; KeyError for one that it does not know."""
        return int(self._fields[record])

    def shorten(self, key: bytes, value: bytes) -> bytes:
        """A row with the fields that it knows."""
        record = self._find_record(key) if key.startswith(_MANAGER) else ""
        if not record:
            return value
        stored = msgspec.msgpack.decode(value)
        return msgspec.msgpack.encode(stored[: self._fields[record]])

    def _find_record_uncached(self, key: bytes) -> str | None:
        rest = key[len(_MANAGER) :]
        return next((record for prefix, record in _RECORDS.items() if rest.startswith(prefix)), None)


def _reachable(descriptor: Descriptor) -> list[Descriptor]:
    found = {descriptor.full_name: descriptor}
    waiting = [descriptor]
    while waiting:
        for field in waiting.pop().fields:
            inner = field.message_type
            if inner is not None and inner.full_name not in found:
                found[inner.full_name] = inner
                waiting.append(inner)
    return list(found.values())


class MixedTransport(MemoryTransport):
    """The network of a cluster in which some hosts run the last release."""

    def __init__(
        self, network: MemoryNetwork, host: str, release: LastRelease, is_old: Callable[[str], bool], pool: ReceivePool
    ) -> None:
        """`is_old`: whether a host runs the last release now."""
        super().__init__(network, host, pool=pool)
        self._release = release
        self._is_old = is_old

    def connect(self, endpoint: str) -> Channel:
        """See `fs3.ports.rpc.Transport.connect`."""
        return _MixedChannel(self._network, self._host, endpoint, self._calls_max, self._release, self._is_old)

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        """See `fs3.ports.rpc.Transport.serve`."""
        if self._is_old(self._host):
            bindings = {method: handler for method, handler in bindings.items() if self._release.serves(method)}
        return await super().serve(endpoint, bindings)


class _MixedChannel(MemoryChannel):
    """A channel with perhaps the last release at one end."""

    def __init__(
        self,
        network: MemoryNetwork,
        host: str,
        endpoint: str,
        calls_max: int,
        release: LastRelease,
        is_old: Callable[[str], bool],
    ) -> None:
        super().__init__(network, host, endpoint, calls_max)
        self._release = release
        self._is_old = is_old
        self._server = strip_scheme(endpoint, "memory")

    @property
    def _is_mixed(self) -> bool:
        return self._is_old(self.host) or self._is_old(self._server)

    def _transmit(self, call: PendingCall, timeout_ms: int) -> None:
        if self._is_mixed:
            call.data = self._release.reword(call.method.request, call.data)
        super()._transmit(call, timeout_ms)

    def on_reply(self, request_id: int, data: bytes, parts: Sequence[Part], length: int) -> None:
        """See `ClientEnd.on_reply`."""
        super().on_reply(request_id, self._reword_reply(request_id, data), parts, length)

    def on_message(self, request_id: int, data: bytes) -> None:
        """See `ClientEnd.on_message`."""
        super().on_message(request_id, self._reword_reply(request_id, data))

    def _reword_reply(self, request_id: int, data: bytes) -> bytes:
        call = self.pending.get(request_id)
        return data if call is None or not self._is_mixed else self._release.reword(call.method.reply, data)


class OldKV:
    """`fs3.ports.kv.KV` of a process of the last release."""

    def __init__(self, kv: SimKV, release: LastRelease) -> None:
        self._kv = kv
        self._release = release

    def submit_read(self, op: ReadOp[T], done: OnDone[T]) -> None:
        """See `KV.submit_read`."""
        self._kv.submit_read(self._read_as_before(op), done)

    def submit(self, op: WriteOp[T], done: OnDone[T]) -> None:
        """See `KV.submit`."""
        self._kv.submit(self._write_as_before(op), done)

    async def read(self, op: ReadOp[T]) -> T:
        """`submit_read`, awaited."""
        return await self._kv.read(self._read_as_before(op))

    async def transact(self, op: WriteOp[T]) -> T:
        """`submit`, awaited."""
        return await self._kv.transact(self._write_as_before(op))

    async def close(self) -> None:
        """See `KV.close`."""
        await self._kv.close()

    def _read_as_before(self, op: ReadOp[T]) -> ReadOp[T]:
        def run(txn: ReadTxn) -> Awaitable[T]:
            return op(_OldReadTxn(txn, self._release))

        return run

    def _write_as_before(self, op: WriteOp[T]) -> WriteOp[T]:
        def run(txn: Txn) -> Awaitable[T]:
            return op(_OldTxn(txn, self._release))

        return run


class _OldReadTxn:
    """`fs3.core.txn.ReadTxn` as the last release sees it."""

    def __init__(self, txn: Any, release: LastRelease) -> None:
        self._txn = txn
        self._release = release

    async def get(self, key: bytes) -> bytes | None:
        """See `ReadTxn.get`."""
        value: bytes | None = await self._txn.get(key) if self._release.has_row(key) else None
        return None if value is None else self._release.shorten(key, value)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ReadTxn.get_many`."""
        return [await self.get(key) for key in keys]

    async def scan(self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        """See `ReadTxn.scan`. Within one kind of rows: either all are shown or none."""
        rows = await self._txn.scan(begin, end, limit, reverse=reverse)
        return [(key, self._release.shorten(key, value)) for key, value in rows if self._release.has_row(key)]

    def tolerant(self) -> Self:
        """See `ReadTxn.tolerant`."""
        return type(self)(self._txn.tolerant(), self._release)


class _OldTxn(_OldReadTxn):
    """`fs3.core.txn.Txn` as the last release writes it."""

    def put(self, key: bytes, value: bytes) -> None:
        """See `Txn.put`."""
        if self._release.has_row(key):
            self._txn.put(key, self._release.shorten(key, value))

    def delete(self, key: bytes) -> None:
        """See `Txn.delete`."""
        if self._release.has_row(key):
            self._txn.delete(key)
