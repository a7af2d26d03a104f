"""The manager's rows on the key-value port.

    mgmtd/cluster            ClusterRow        written once
    mgmtd/counters           IdCounters        with every change
    mgmtd/node/<id>          Node              ids as 4 bytes, big-endian
    mgmtd/chain/<id>         Chain
    mgmtd/table/<id>         ChainTable
    mgmtd/namespace/<id>     CacheNamespace
    mgmtd/config/<role>      RoleConfig
    mgmtd/born/<target>      nothing           the target has been complete at least once
    mgmtd/generation/<target>  Generation      the newest start of a target
    mgmtd/move/<chain>       Move
    mgmtd/departing/<node>   Departing
    mgmtd/drained_disks/<node>  DrainedDisks
    mgmtd/retired/<target>   RetiredTarget
    mgmtd/removed/<name>     RemovedNode
    mgmtd/moves              MoveSettings
    mgmtd/machine/<name>     Machine           that has joined
    mgmtd/token/<id>         JoinToken
    mgmtd/settings/<version> SettingsVersion   as 4 bytes, big-endian
    mgmtd/security           SecurityRow       with the keys that seal tickets
    mgmtd/user/<name>        Account
    mgmtd/group/<name>       Group             the name of a gid
    mgmtd/node_key/<name>    NodeKey
    mgmtd/authority          CertificateAuthority   with the key that certificates of machines are signed with

    mgmtd/event/<number>     ClusterEvent      what happened, for people; numbers as 8 bytes

    mgmtd/lease              LeaseRecord       who is the primary
    mgmtd/manager/<name>     Holder            every manager that has ever joined, with its endpoints

Values are msgpack arrays. All rows of one change are written in one transaction, which checks in the lease record that the
manager that writes is still the primary: NOT_PRIMARY, and nothing is written, when it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from fs3.base.errors import error
from fs3.base.ids import TargetId
from fs3.base.limits import managers_max
from fs3.base.status import Code
from fs3.core.membership.election import Holder, LeaseRecord
from fs3.core.membership.state import FORMAT, ClusterRow, IdCounters, Rows, State
from fs3.core.txn import ReadTxn, Txn
from fs3.model.chain import Chain, ChainTable
from fs3.model.cluster import CacheNamespace, RoleConfig
from fs3.model.event import ClusterEvent
from fs3.model.generation import Generation
from fs3.model.group import Group
from fs3.model.machine import CertificateAuthority, JoinToken, Machine
from fs3.model.moves import Departing, DrainedDisks, Move, MoveSettings, RemovedNode, RetiredTarget
from fs3.model.routing import Node
from fs3.model.security import Account, NodeKey, SecurityRow
from fs3.model.settings import SettingsVersion
from fs3.ports.kv import KV, OnDone, RoomMaker

R = TypeVar("R")

_PREFIX = b"mgmtd/"
CLUSTER_KEY = _PREFIX + b"cluster"
_COUNTERS = _PREFIX + b"counters"
_NODE = _PREFIX + b"node/"
_CHAIN = _PREFIX + b"chain/"
_TABLE = _PREFIX + b"table/"
_NAMESPACE = _PREFIX + b"namespace/"
_CONFIG = _PREFIX + b"config/"
_BORN = _PREFIX + b"born/"
_GENERATION = _PREFIX + b"generation/"
_MOVE = _PREFIX + b"move/"
_DEPARTING = _PREFIX + b"departing/"
_DRAINED_DISKS = _PREFIX + b"drained_disks/"
_RETIRED = _PREFIX + b"retired/"
_REMOVED = _PREFIX + b"removed/"
_MOVE_SETTINGS = _PREFIX + b"moves"
_MACHINE = _PREFIX + b"machine/"
_TOKEN = _PREFIX + b"token/"
_SETTINGS = _PREFIX + b"settings/"
_SECURITY = _PREFIX + b"security"
_USER = _PREFIX + b"user/"
_GROUP = _PREFIX + b"group/"
_NODE_KEY = _PREFIX + b"node_key/"
_AUTHORITY = _PREFIX + b"authority"
_EVENT = _PREFIX + b"event/"
_LEASE = _PREFIX + b"lease"
_MANAGER = _PREFIX + b"manager/"
_PAGE = 1024
_encode = msgspec.msgpack.Encoder().encode


class LeaseView(NamedTuple):
    """What a manager sees of the others."""

    record: LeaseRecord | None
    managers: tuple[Holder, ...]
    is_swapped: bool = False
    """`swap_lease` has replaced the record."""
    security: SecurityRow | None = None
    """None: there is none, or it was not looked at."""


class MgmtdStore:
    """Loads and saves the manager's state, and the record that says who may save it."""

    def __init__(self, kv: KV) -> None:
        self._kv = kv

    # --- the election ------------------------------------------------------------------------------------------------

    def read_lease(self, done: OnDone[LeaseView]) -> None:
        """Read the lease record and the list of managers."""
        self._kv.submit_read(_read_lease_view, done)

    def swap_lease(self, expected: LeaseRecord | None, record: LeaseRecord, done: OnDone[LeaseView]) -> None:
        """Replace the lease record when it is the expected one. `done` gets what is there afterwards."""

        async def op(txn: Txn) -> LeaseView:
            view = await _read_lease_view(txn, with_security=False)
            if view.record != expected:
                return view
            txn.put(_LEASE, _encode(record))
            return view._replace(record=record, is_swapped=True)

        self._kv.submit(op, done)

    def join(self, manager: Holder, done: OnDone[None]) -> None:
        """Put a manager into the list, with its endpoints; at most `managers_max` (TOO_LARGE)."""

        async def op(txn: Txn) -> None:
            key = _MANAGER + manager.name.encode()
            known = await _scan(txn, _MANAGER)
            if len(known) >= managers_max and key not in dict(known):
                raise error(Code.TOO_LARGE, f"the cluster knows {managers_max} managers, the most it can have")
            txn.put(key, _encode(manager))

        self._kv.submit(op, done)

    # --- the state ---------------------------------------------------------------------------------------------------

    def find_cluster(self, done: OnDone[bytes]) -> None:
        """Id of the cluster; b"" when the store has none yet."""

        async def op(txn: ReadTxn) -> bytes:
            stored = await txn.get(CLUSTER_KEY)
            return b"" if stored is None else _decode_cluster(stored).id

        self._kv.submit_read(op, done)

    async def load(self) -> State | None:
        """Everything that is stored, None when the store has no cluster yet. FS3Error naming a row that cannot be read."""
        return await self._kv.read(_load)

    async def create(self, cluster: ClusterRow, lease_record: LeaseRecord) -> State:
        """Initialise the store for a new cluster. Durable on return. NOT_PRIMARY."""

        async def op(txn: Txn) -> None:
            await _check(txn, lease_record)
            txn.put(CLUSTER_KEY, _encode(cluster))
            txn.put(_COUNTERS, _encode(IdCounters()))

        await self._kv.transact(op)
        return State(cluster)

    def save(self, rows: Rows, lease_record: LeaseRecord, done: OnDone[None]) -> None:
        """Store one change; `done` is called when it is durable or has failed (NOT_PRIMARY: for good).

        `lease_record`: the one under whose epoch the change was decided.
        """

        async def op(txn: Txn) -> None:
            await _check(txn, lease_record)
            txn.put(_COUNTERS, _encode(rows.counters))
            for node in rows.nodes:
                txn.put(_numbered(_NODE, node.id), _encode(node))
            for chain in rows.chains:
                txn.put(_numbered(_CHAIN, chain.id), _encode(chain))
            for table in rows.tables:
                txn.put(_numbered(_TABLE, table.id), _encode(table))
            for namespace in rows.namespaces:
                txn.put(_numbered(_NAMESPACE, namespace.id), _encode(namespace))
            for forgotten in rows.forgotten_namespaces:
                txn.delete(_numbered(_NAMESPACE, forgotten.id))
            for config in rows.configs:
                txn.put(_numbered(_CONFIG, config.role), _encode(config))
            for target in rows.born:
                txn.put(_numbered(_BORN, target), b"\x01")
            for each in rows.generations:
                txn.put(_numbered(_GENERATION, each.target), _encode(each.generation))
            _save_moves(txn, rows)
            _save_admission(txn, rows)
            _save_security(txn, rows)

        self._kv.submit(RoomMaker(op) if rows.forgotten_namespaces else op, done)

    async def load_events(self) -> list[ClusterEvent]:
        """The events that are kept, oldest first. FS3Error naming a row that cannot be read."""

        async def op(txn: ReadTxn) -> list[ClusterEvent]:
            return await _rows(txn, _EVENT, ClusterEvent)

        return await self._kv.read(op)

    def save_events(self, events: Sequence[ClusterEvent], first: int, lease_record: LeaseRecord, done: OnDone[None]) -> None:
        """Store events, and forget those before number `first`. `done`, `lease_record`: as of `save`."""

        async def op(txn: Txn) -> None:
            await _check(txn, lease_record)
            for key, _ in await txn.scan(_EVENT, _event_key(first), _PAGE):
                txn.delete(key)
            for event in events:
                txn.put(_event_key(event.seq), _encode(event))

        self._kv.submit(op, done)


def _event_key(number: int) -> bytes:
    return _EVENT + number.to_bytes(8, "big")


def _save_moves(txn: Txn, rows: Rows) -> None:
    for gone in rows.removed_nodes:
        txn.delete(_numbered(_NODE, gone))
    changes: list[tuple[bytes, Any]] = [(_numbered(_MOVE, chain), move) for chain, move in rows.moves]
    changes += [(_numbered(_DEPARTING, node), departing) for node, departing in rows.departing]
    changes += [(_numbered(_DRAINED_DISKS, node), drained) for node, drained in rows.drained_disks]
    changes += [(_numbered(_RETIRED, target), retired) for target, retired in rows.retired]
    changes += [(_REMOVED + name.encode(), removed) for name, removed in rows.removed]
    for key, record in changes:
        if record is None:
            txn.delete(key)
        else:
            txn.put(key, _encode(record))
    if rows.move_settings is not None:
        txn.put(_MOVE_SETTINGS, _encode(rows.move_settings))


async def initialise(
    kv: KV,
    cluster: ClusterRow,
    machine: Machine,
    token: JoinToken,
    settings: SettingsVersion,
    authority: CertificateAuthority | None = None,
) -> None:
    """Make a cluster in a store that has none, before any manager runs. EXISTS naming the cluster that is there."""

    async def op(txn: Txn) -> None:
        stored = await txn.get(CLUSTER_KEY)
        if stored is not None:
            there = _decode_cluster(stored)
            raise error(Code.EXISTS, f"the store holds cluster {there.name!r} ({there.id.hex()}) already")
        txn.put(CLUSTER_KEY, _encode(cluster))
        txn.put(_COUNTERS, _encode(IdCounters(settings=settings.version)))
        txn.put(_MACHINE + machine.name.encode(), _encode(machine))
        txn.put(_TOKEN + token.id.encode(), _encode(token))
        txn.put(_numbered(_SETTINGS, settings.version), _encode(settings))
        if authority is not None:
            txn.put(_AUTHORITY, _encode(authority))

    await kv.transact(op)


def _save_admission(txn: Txn, rows: Rows) -> None:
    """Machines, tokens and settings."""
    for name in rows.removed_machines:
        txn.delete(_MACHINE + name.encode())
    for machine in rows.machines:
        txn.put(_MACHINE + machine.name.encode(), _encode(machine))
    for gone in rows.removed_tokens:
        txn.delete(_TOKEN + gone.encode())
    for token in rows.tokens:
        txn.put(_TOKEN + token.id.encode(), _encode(token))
    for former in rows.removed_settings:
        txn.delete(_numbered(_SETTINGS, former))
    for version in rows.settings:
        txn.put(_numbered(_SETTINGS, version.version), _encode(version))


def _save_security(txn: Txn, rows: Rows) -> None:
    if rows.security is not None:
        txn.put(_SECURITY, _encode(rows.security))
    if rows.authority is not None:
        txn.put(_AUTHORITY, _encode(rows.authority))
    changes: list[tuple[bytes, Any]] = [(_USER + name.encode(), user) for name, user in rows.users]
    changes += [(_GROUP + name.encode(), group) for name, group in rows.groups]
    changes += [(_NODE_KEY + name.encode(), node_key) for name, node_key in rows.node_keys]
    for key, record in changes:
        if record is None:
            txn.delete(key)
        else:
            txn.put(key, _encode(record))


async def _read_lease_view(txn: ReadTxn, *, with_security: bool = True) -> LeaseView:
    """`with_security` False: a transaction that writes does not look at what the primary writes often."""
    stored = await txn.get(_LEASE)
    record = None if stored is None else _decode(LeaseRecord, _LEASE, stored)
    managers = tuple(await _rows(txn, _MANAGER, Holder))
    return LeaseView(record, managers, security=await _read_security(txn) if with_security else None)


async def _read_security(txn: ReadTxn) -> SecurityRow | None:
    stored = await txn.get(_SECURITY)
    return None if stored is None else _decode(SecurityRow, _SECURITY, stored)


async def _check(txn: ReadTxn, lease_record: LeaseRecord) -> None:
    """NOT_PRIMARY unless the epoch of the manager that writes lasts: what was decided under an epoch is stored within it."""
    stored = await txn.get(_LEASE)
    record = None if stored is None else _decode(LeaseRecord, _LEASE, stored)
    assert lease_record.holder is not None
    holder = record.holder if record is not None else None
    if (
        record is not None
        and holder is not None
        and (record.epoch, holder.instance) == (lease_record.epoch, lease_record.holder.instance)
    ):
        return
    now = "nobody" if record is None or record.holder is None else record.holder.name
    epoch = 0 if record is None else record.epoch
    raise error(
        Code.NOT_PRIMARY,
        f"epoch {lease_record.epoch} of {lease_record.holder.name} is over; {now} is the primary, in epoch {epoch}",
    )


def _numbered(prefix: bytes, number: int) -> bytes:
    return prefix + number.to_bytes(4, "big")


def _number_of(key: bytes) -> int:
    return int.from_bytes(key[-4:], "big")


def _decode(kind: type[R], key: bytes, value: bytes) -> R:
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except msgspec.MsgspecError as wrong:
        raise error(Code.DISK, f"the manager's row {key!r} cannot be read: {wrong}") from wrong


async def _load(txn: ReadTxn) -> State | None:
    stored = await txn.get(CLUSTER_KEY)
    if stored is None:
        return None
    cluster = _decode_cluster(stored)
    counters = await txn.get(_COUNTERS)
    if counters is None:
        raise error(Code.DISK, f"the manager's row {_COUNTERS!r} is missing")
    settings = await txn.get(_MOVE_SETTINGS)
    authority = await txn.get(_AUTHORITY)
    return State(
        cluster,
        _decode(IdCounters, _COUNTERS, counters),
        nodes={node.id: node for node in await _rows(txn, _NODE, Node)},
        chains={chain.id: chain for chain in await _rows(txn, _CHAIN, Chain)},
        tables={table.id: table for table in await _rows(txn, _TABLE, ChainTable)},
        namespaces={namespace.name: namespace for namespace in await _rows(txn, _NAMESPACE, CacheNamespace)},
        configs={config.role: config for config in await _rows(txn, _CONFIG, RoleConfig)},
        born={TargetId(_number_of(key)) for key, _ in await _scan(txn, _BORN)},
        moves={move.chain: move for move in await _rows(txn, _MOVE, Move)},
        departing={departing.node: departing for departing in await _rows(txn, _DEPARTING, Departing)},
        drained_disks={drained.node: drained for drained in await _rows(txn, _DRAINED_DISKS, DrainedDisks)},
        retired={retired.target: retired for retired in await _rows(txn, _RETIRED, RetiredTarget)},
        removed={removed.name: removed for removed in await _rows(txn, _REMOVED, RemovedNode)},
        move_settings=MoveSettings() if settings is None else _decode(MoveSettings, _MOVE_SETTINGS, settings),
        generations={TargetId(_number_of(key)): _decode(Generation, key, value) for key, value in await _scan(txn, _GENERATION)},
        machines={machine.name: machine for machine in await _rows(txn, _MACHINE, Machine)},
        tokens={token.id: token for token in await _rows(txn, _TOKEN, JoinToken)},
        settings={version.version: version for version in await _rows(txn, _SETTINGS, SettingsVersion)},
        security=await _read_security(txn) or SecurityRow(),
        users={user.name: user for user in await _rows(txn, _USER, Account)},
        node_keys={each.name: each for each in await _rows(txn, _NODE_KEY, NodeKey)},
        groups={group.name: group for group in await _rows(txn, _GROUP, Group)},
        authority=None if authority is None else _decode(CertificateAuthority, _AUTHORITY, authority),
    )


def _decode_cluster(stored: bytes) -> ClusterRow:
    """The format is looked at first: another one may have other fields."""
    fields = _decode(list[Any], CLUSTER_KEY, stored)
    if not fields or fields[0] != FORMAT:
        found = fields[0] if fields else "nothing"
        raise error(Code.UNSUPPORTED, f"the manager's data has format {found}, this fs3 reads format {FORMAT}")
    return _decode(ClusterRow, CLUSTER_KEY, stored)


async def _rows(txn: ReadTxn, prefix: bytes, kind: type[R]) -> list[R]:
    return [_decode(kind, key, value) for key, value in await _scan(txn, prefix)]


async def _scan(txn: ReadTxn, prefix: bytes) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    begin, end = prefix, prefix[:-1] + bytes((prefix[-1] + 1,))
    while True:
        page = await txn.scan(begin, end, _PAGE)
        found.extend(page)
        if len(page) < _PAGE:
            return found
        begin = page[-1][0] + b"\0"
