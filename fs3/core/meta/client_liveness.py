"""Which clients with open write sessions or locks are still there.

Intuition: a writer may die at any time, and its file then has to be closed for it. A service cannot tell a dead client from one
that is cut off or stopped, so it only presumes, from silence; and a presumption must cost a client that comes back nothing that
it was acknowledged.

Algorithm: a client with open write sessions or locks has one row, and while it has them it says now and then that it lives: with
any change it asks for, or by a keep-alive. The metadata service that hears it soon adds one to the heartbeats in its row
(`record_heartbeats`). One service looks at all rows now and then; heartbeats that stay the same for `client_presumed_dead_ns` of
its own monotonic clock belong to a client that is presumed dead (`ClientFailureDetector`). Then

1. `presume_dead` marks its row, if nothing has changed in it since it was looked at;
2. its locks are released (`fs3.core.meta.locks.end_epoch`), and each of its sessions is ended (`fs3.core.meta.sessions.prune`),
   each by a transaction that finds the mark still there (`is_presumed_dead`);
3. `forget_client` deletes the row, if the mark is still there.

Whatever the client does takes the mark away (`record_heartbeats`, `register_client`) and with it ends the steps that are left.
Clocks of different machines are never compared: a row holds a count, not a time.

Limits: silence is measured from when a service first saw the count, so one that has just begun to look waits for the whole
timeout, and so does one that did not look for half of it: it may have been stopped itself, and the clients' heartbeats with it.
Heartbeats come in the interval of the services' notes (`last_seen_flush_ns`) on top of that of the client's keep-alives
(`session_keepalive_ns`); the timeout is at least twice the sum of these and of the interval of the looks. A client whose
session was ended wrongly takes it up again with its next close or sync, for as long as ended sessions are remembered; an unnamed
file is gone. Its locks are lost, and it is told so.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fs3.base.ids import ClientId
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.errors import MetaError
from fs3.core.security.client_owners import OTHERS_CLIENT
from fs3.core.txn import ReadTxn, Txn


class ClientRecord(msgspec.Struct, frozen=True, array_like=True):
    """The row of one client."""

    heartbeats: int
    """Rises with every note that the client was heard of."""
    presumed_dead: bool = False
    """Its sessions are being ended."""
    owner: str = ""
    """Whose the client is; "": it began in a cluster without security."""


_decode = msgspec.msgpack.Decoder(ClientRecord).decode
_NEW = ClientRecord(0)


def decode_client(key: bytes, row: bytes) -> ClientRecord:
    """What a client's row says. Raises MetaError INTERNAL when it cannot be read."""
    try:
        return _decode(row)
    except msgspec.MsgspecError as error:
        rows.raise_malformed(key, error)


async def register_client(txn: Txn, client: ClientId, owner: str = "") -> None:
    """The client opens a session, or takes one up again: from now on it has a row, and is not presumed dead.

    `owner`: whose it is; "": that is not known. PERMISSION when it is another's.
    """
    key = keys.client_key(client)
    row = await txn.get(key)
    record = _NEW if row is None else decode_client(key, row)
    check_owner(client, record.owner, owner)
    if row is None:
        txn.put(key, rows.encode(ClientRecord(1, owner=owner)))
    elif record.presumed_dead:
        txn.put(key, rows.encode(ClientRecord(record.heartbeats + 1, owner=record.owner or owner)))
    elif owner and not record.owner:
        txn.put(key, rows.encode(ClientRecord(record.heartbeats, owner=owner)))


async def renew_client(txn: Txn, client: ClientId, owner: str = "") -> None:
    """`register_client` that counts as a heartbeat: who is about to presume the client dead finds another row. For what a client
    that is presumed dead does not get back."""
    key = keys.client_key(client)
    row = await txn.get(key)
    record = _NEW if row is None else decode_client(key, row)
    check_owner(client, record.owner, owner)
    txn.put(key, rows.encode(ClientRecord(record.heartbeats + 1, owner=record.owner or owner)))


def check_owner(client: ClientId, known: str, owner: str) -> None:
    """Raises PERMISSION when a client that is known to be one principal's is used by another one. "": that is not known."""
    if owner and known and owner != known:
        raise MetaError(Code.PERMISSION, OTHERS_CLIENT.format(client.hex()))


async def find_owner(txn: ReadTxn, client: ClientId) -> str:
    """Whose the client is, by what is stored of it: its sessions and locks, or requests that are remembered. "": nothing is."""
    key = keys.client_key(client)
    row = await txn.get(key)
    if row is not None and (owner := decode_client(key, row).owner):
        return owner
    for key, row in await txn.scan(keys.request_key(client, 0), keys.after_client(client), 1):
        return rows.decode_request(key, row).owner
    return ""


async def record_heartbeats(txn: Txn, clients: Iterable[ClientId]) -> int:
    """These clients were heard of since the last note. How many rows say so now: clients without a session have none."""
    noted = 0
    for client in clients:
        key = keys.client_key(client)
        row = await txn.get(key)
        if row is not None:
            record = decode_client(key, row)
            txn.put(key, rows.encode(ClientRecord(record.heartbeats + 1, owner=record.owner)))
            noted += 1
    return noted


async def list_clients(txn: ReadTxn, after: ClientId | None, limit: int) -> list[tuple[ClientId, ClientRecord]]:
    """At most `limit` clients whose ids come after `after` (None: from the first), in the order of their ids."""
    begin = keys.CLIENT if after is None else keys.client_key(after) + b"\0"
    found = await txn.scan(begin, keys.end_of(keys.CLIENT), limit)
    return [(keys.client_of(key), decode_client(key, row)) for key, row in found]


async def presume_dead(txn: Txn, client: ClientId, record: ClientRecord) -> bool:
    """Marks a client whose row is still `record`. False when it was heard of since, or has no session any more."""
    key = keys.client_key(client)
    row = await txn.get(key)
    if row is None or decode_client(key, row) != record:
        return False
    txn.put(key, rows.encode(ClientRecord(record.heartbeats, True, record.owner)))
    return True


async def is_presumed_dead(txn: ReadTxn, client: ClientId, heartbeats: int) -> bool:
    """The client was marked at this count of heartbeats, and was not heard of since."""
    key = keys.client_key(client)
    row = await txn.get(key)
    if row is None:
        return False
    record = decode_client(key, row)
    return record.presumed_dead and record.heartbeats == heartbeats


async def forget_client(txn: Txn, client: ClientId, heartbeats: int) -> bool:
    """Deletes the row of a client whose sessions have all been ended. False when it was heard of meanwhile."""
    if not await is_presumed_dead(txn, client, heartbeats):
        return False
    txn.delete(keys.client_key(client))
    return True


class ClientFailureDetector:
    """Since when has each client been silent? Pure: the time of each look comes in, as monotonic nanoseconds."""

    def __init__(self, timeout_ns: int) -> None:
        """`timeout_ns`: a client that is silent for so long is presumed dead."""
        self.timeout_ns = timeout_ns
        """How long a client may be silent."""
        self._seen: dict[ClientId, tuple[int, int]] = {}
        """Client -> (heartbeats, since when they are what they are)."""
        self._looked_at: int | None = None

    def observe(self, now: int, clients: Iterable[tuple[ClientId, ClientRecord]]) -> list[tuple[ClientId, ClientRecord]]:
        """The clients that are presumed dead, of all that have a row now: those whose heartbeats stayed the same for the whole
        timeout, and those that were marked before.

        When half the timeout has passed since the last look, this service was perhaps stopped, and could not hear the clients
        meanwhile: then the silence of each begins anew.
        """
        interrupted = self._looked_at is not None and now - self._looked_at > self.timeout_ns // 2
        self._looked_at = now
        before, self._seen = self._seen, {}
        dead = []
        for client, record in clients:
            heartbeats, since = before.get(client, (-1, now))
            if heartbeats != record.heartbeats or interrupted:
                since = now
            self._seen[client] = record.heartbeats, since
            if record.presumed_dead or now - since >= self.timeout_ns:
                dead.append((client, record))
        return dead
