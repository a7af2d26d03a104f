"""Which writers are still there.

A client with open write sessions has one row, and while it has them it says now and then that it lives: with any change it asks
for, or by a keep-alive. Whichever metadata service hears it notes that and soon adds one to the count in its row (`beat`). One
service looks at all rows now and then; a count that stays the same for `client_presumed_dead_ns` of its own monotonic clock
belongs to a client that is presumed dead (`ClientFailureDetector`).

A presumption may be wrong: the client was cut off, or stopped. So its row is marked first (`presume_dead`), each of its sessions
is ended by a transaction that finds the mark still there, and whatever the client does takes the mark away.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fs3.base.ids import ClientId
from fs3.core.meta import keys, rows
from fs3.core.txn import ReadTxn, Txn


class ClientRecord(msgspec.Struct, frozen=True, array_like=True):
    """The row of one client."""

    heartbeats: int
    """Rises with every sign of life."""
    presumed_dead: bool = False
    """Presumed dead; its sessions are being ended."""


_decode = msgspec.msgpack.Decoder(ClientRecord).decode


def decode_client(key: bytes, row: bytes) -> ClientRecord:
    """A client's row."""
    try:
        return _decode(row)
    except msgspec.MsgspecError as error:
        rows.raise_malformed(key, error)


async def register_client(txn: Txn, client: ClientId) -> None:
    """The client opens a session."""
    key = keys.client_key(client)
    row = await txn.get(key)
    if row is None:
        txn.put(key, rows.encode(ClientRecord(1)))
    elif (life := decode_client(key, row)).presumed_dead:
        txn.put(key, rows.encode(ClientRecord(life.heartbeats + 1)))


async def record_heartbeats(txn: Txn, clients: Iterable[ClientId]) -> int:
    """These clients were heard of. Of how many that is noted: those without a session have no row."""
    noted = 0
    for client in clients:
        key = keys.client_key(client)
        row = await txn.get(key)
        if row is not None:
            txn.put(key, rows.encode(ClientRecord(decode_client(key, row).heartbeats + 1)))
            noted += 1
    return noted


async def list_clients(txn: ReadTxn, after: ClientId | None, limit: int) -> list[tuple[ClientId, ClientRecord]]:
    """At most `limit` clients behind one, in key order."""
    begin = keys.CLIENT if after is None else keys.client_key(after) + b"\0"
    found = await txn.scan(begin, keys.end_of(keys.CLIENT), limit)
    return [(keys.client_of(key), decode_client(key, row)) for key, row in found]


async def presume_dead(txn: Txn, client: ClientId, record: ClientRecord) -> bool:
    """Marks a client that nobody has heard of since its row was `life`. False when somebody has."""
    key = keys.client_key(client)
    row = await txn.get(key)
    if row is None or decode_client(key, row) != record:
        return False
    txn.put(key, rows.encode(ClientRecord(record.heartbeats, True)))
    return True


async def is_presumed_dead(txn: ReadTxn, client: ClientId, heartbeats: int) -> bool:
    """Nobody has heard of it since it was marked."""
    key = keys.client_key(client)
    row = await txn.get(key)
    return row is not None and decode_client(key, row) == ClientRecord(heartbeats, True)


async def forget_client(txn: Txn, client: ClientId, heartbeats: int) -> bool:
    """Deletes the row of a client whose sessions have all been ended. False when it was heard of meanwhile."""
    if not await is_presumed_dead(txn, client, heartbeats):
        return False
    txn.delete(keys.client_key(client))
    return True


class ClientFailureDetector:
    """Since when has nobody heard of each client? Pure: time comes in."""

    def __init__(self, timeout_ns: int) -> None:
        self._patience_ns = timeout_ns
        self._seen: dict[ClientId, tuple[int, int]] = {}
        """Client -> (beats, since when they are what they are)."""
        self._looked_at: int | None = None

    def observe(self, now: int, clients: Iterable[tuple[ClientId, ClientRecord]]) -> list[tuple[ClientId, ClientRecord]]:
        """All rows there are, as they are now. Who is presumed dead: those without a sign of life for the whole patience, and
        those that were marked before.

        Whoever looks too seldom may have been stopped himself, and those that tried to reach him meanwhile with him. So a long
        time without a look counts for nobody.
        """
        interrupted = self._looked_at is not None and now - self._looked_at > self._patience_ns // 2
        self._looked_at = now
        before, self._seen = self._seen, {}
        dead = []
        for client, life in clients:
            beats, since = before.get(client, (-1, now))
            if beats != life.heartbeats or interrupted:
                since = now
            self._seen[client] = life.heartbeats, since
            if life.presumed_dead or now - since >= self._patience_ns:
                dead.append((client, life))
        return dead
