"""The manager's rows on the key-value port.

    mgmtd/cluster            ClusterRow        written once
    mgmtd/counters           Counters          with every change
    mgmtd/node/<id>          Node              ids as 4 bytes, big-endian
    mgmtd/chain/<id>         Chain
    mgmtd/table/<id>         ChainTable
    mgmtd/namespace/<id>     Namespace
    mgmtd/config/<role>      StoredConfig

Values are msgpack arrays. All rows of one change are written in one transaction.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.core.membership.state import FORMAT, ClusterRow, Counters, Namespace, Rows, State, StoredConfig
from fs3.core.txn import ReadTxn, Txn
from fs3.model.chain import Chain, ChainTable
from fs3.model.routing import Node
from fs3.ports.kv import KV, Done

R = TypeVar("R")

_PREFIX = b"mgmtd/"
_CLUSTER = _PREFIX + b"cluster"
_COUNTERS = _PREFIX + b"counters"
_NODE = _PREFIX + b"node/"
_CHAIN = _PREFIX + b"chain/"
_TABLE = _PREFIX + b"table/"
_NAMESPACE = _PREFIX + b"namespace/"
_CONFIG = _PREFIX + b"config/"
_PAGE = 1024
_encode = msgspec.msgpack.Encoder().encode


class MgmtdStore:
    """Loads and saves the manager's state."""

    def __init__(self, kv: KV) -> None:
        self._kv = kv

    async def load(self) -> State | None:
        """Everything that is stored, None when the store has no cluster yet. FS3Error naming a row that cannot be read."""
        return await self._kv.read(_load)

    async def create(self, cluster: ClusterRow) -> State:
        """Initialise the store for a new cluster. Durable on return."""

        async def op(txn: Txn) -> None:
            txn.put(_CLUSTER, _encode(cluster))
            txn.put(_COUNTERS, _encode(Counters()))

        await self._kv.transact(op)
        return State(cluster)

    def save(self, rows: Rows, done: Done[None]) -> None:
        """Store one change; `done` is called when it is durable or has failed."""

        async def op(txn: Txn) -> None:
            txn.put(_COUNTERS, _encode(rows.counters))
            for node in rows.nodes:
                txn.put(_numbered(_NODE, node.id), _encode(node))
            for chain in rows.chains:
                txn.put(_numbered(_CHAIN, chain.id), _encode(chain))
            for table in rows.tables:
                txn.put(_numbered(_TABLE, table.id), _encode(table))
            for namespace in rows.namespaces:
                txn.put(_numbered(_NAMESPACE, namespace.id), _encode(namespace))
            for config in rows.configs:
                txn.put(_numbered(_CONFIG, config.role), _encode(config))

        self._kv.submit(op, done)


def _numbered(prefix: bytes, number: int) -> bytes:
    return prefix + number.to_bytes(4, "big")


def _decode(kind: type[R], key: bytes, value: bytes) -> R:
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except msgspec.MsgspecError as wrong:
        raise error(Code.DISK, f"the manager's row {key!r} cannot be read: {wrong}") from wrong


async def _load(txn: ReadTxn) -> State | None:
    stored = await txn.get(_CLUSTER)
    if stored is None:
        return None
    cluster = _decode_cluster(stored)
    counters = await txn.get(_COUNTERS)
    if counters is None:
        raise error(Code.DISK, f"the manager's row {_COUNTERS!r} is missing")
    return State(
        cluster,
        _decode(Counters, _COUNTERS, counters),
        nodes={node.id: node for node in await _rows(txn, _NODE, Node)},
        chains={chain.id: chain for chain in await _rows(txn, _CHAIN, Chain)},
        tables={table.id: table for table in await _rows(txn, _TABLE, ChainTable)},
        namespaces={namespace.name: namespace for namespace in await _rows(txn, _NAMESPACE, Namespace)},
        configs={config.role: config for config in await _rows(txn, _CONFIG, StoredConfig)},
    )


def _decode_cluster(stored: bytes) -> ClusterRow:
    """The format is looked at first: another one may have other fields."""
    fields = _decode(list[Any], _CLUSTER, stored)
    if not fields or fields[0] != FORMAT:
        found = fields[0] if fields else "nothing"
        raise error(Code.UNSUPPORTED, f"the manager's data has format {found}, this fs3 reads format {FORMAT}")
    return _decode(ClusterRow, _CLUSTER, stored)


async def _rows(txn: ReadTxn, prefix: bytes, kind: type[R]) -> list[R]:
    found: list[R] = []
    begin, end = prefix, prefix[:-1] + bytes((prefix[-1] + 1,))
    while True:
        page = await txn.scan(begin, end, _PAGE)
        found.extend(_decode(kind, key, value) for key, value in page)
        if len(page) < _PAGE:
            return found
        begin = page[-1][0] + b"\0"
