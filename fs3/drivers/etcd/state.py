"""What an operator wants to know of the etcd cluster under a store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fs3.base.errors import FS3Error
from fs3.drivers.etcd.client import EtcdClient
from fs3.drivers.etcd.room import EtcdRoom, find_room
from fs3.wire.etcd import MEMBER_LIST, STATUS, EtcdStatus, decode_members, decode_status, encode_nothing

etcd_quota_warn_percent = 80
etcd_kept_revisions_warn = 2_000_000
"""Some minutes of heavy use, many times over: nothing is being compacted."""


class EtcdStats:
    """What a store has done since it was opened."""

    __slots__ = ("commits", "conflicts", "failed", "reruns", "rows", "transactions")

    def __init__(self) -> None:
        self.transactions = 0
        """Answered, reads among them."""
        self.commits = 0
        """Transactions of etcd that have written."""
        self.rows = 0
        """Written by them."""
        self.conflicts = 0
        """Batches that met a commit of another process."""
        self.reruns = 0
        """Operations run again for that reason."""
        self.failed = 0
        """Operations that etcd did not carry out, or not in time."""


@dataclass(frozen=True, slots=True)
class EtcdState:
    """The members of an etcd cluster, as far as they answer."""

    members: dict[str, EtcdStatus | None]
    """Those that are named, by "host:port"; None: it does not answer."""
    count: int = 0
    """Of all members, also those that are not named; 0: unknown."""
    rooms: dict[str, EtcdRoom] = field(default_factory=dict)
    """Of members, as they said last."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, for a person; empty when nothing is."""
        silent = [f"etcd at {endpoint} does not answer" for endpoint, status in self.members.items() if status is None]
        said = {text for status in self.members.values() if status is not None for text in status.errors}
        return (*silent, *(f"etcd: {text}" for text in sorted(said)), *self._problems_of_room())

    def _problems_of_room(self) -> Iterator[str]:
        """Before the quota of space is used up, and nothing can be changed any more."""
        for endpoint, status in self.members.items():
            room = self.rooms.get(endpoint, EtcdRoom())
            quota = (status.quota_bytes if status is not None else 0) or room.quota_bytes
            if status is not None and 0 < quota * etcd_quota_warn_percent < status.db_bytes * 100:
                share = f"{100 * status.db_bytes // quota} % of its quota of {quota / 1e6:.0f} MB"
                unused = f"{(status.db_bytes - status.db_bytes_in_use) / 1e6:.0f} MB of that would be free after `etcdctl defrag`"
                yield f"the files of etcd at {endpoint} take {share}; {unused}; else raise --quota-backend-bytes"
            if room.kept_revisions > etcd_kept_revisions_warn:
                told = "start each member with --auto-compaction-mode revision --auto-compaction-retention 10000"
                yield f"etcd at {endpoint} keeps {room.kept_revisions:,} old revisions; {told}"

    def describe(self) -> str:
        """One line: how many members answer, how much room the store takes."""
        answering = [status for status in self.members.values() if status is not None]
        taken = max((status.db_bytes for status in answering), default=0)
        versions = ", ".join(sorted({status.version for status in answering})) or "none"
        named = f"{len(answering)} of {len(self.members)} members answer"
        if self.count > len(self.members):
            named += f" ({self.count - len(self.members)} more are not named: without those that are, the store is not reached)"
        quotas = [status.quota_bytes for status in answering] + [room.quota_bytes for room in self.rooms.values()]
        quota = min((each for each in quotas if each), default=0)
        of_quota = f" of {quota / 1e6:.0f}" if quota else ""
        return f"{named}, version {versions}, {taken / 1e6:.1f}{of_quota} MB each"


async def find_state(client: EtcdClient, rooms: Mapping[str, EtcdRoom] | None = None) -> EtcdState:
    """Ask every member. `rooms`: what they have said of that; None: ask."""

    async def ask(endpoint: str) -> EtcdStatus | None:
        try:
            return decode_status(await client.call(STATUS, encode_nothing(), endpoint=endpoint))
        except FS3Error:
            return None

    found = await asyncio.gather(*(ask(endpoint) for endpoint in client.endpoints))
    try:
        count = len(decode_members(await client.call(MEMBER_LIST, encode_nothing())))
    except FS3Error:
        count = 0
    if rooms is None:
        asked = await asyncio.gather(*(find_room(endpoint, client.access) for endpoint in client.endpoints))
        rooms = dict(zip(client.endpoints, asked, strict=True))
    return EtcdState(dict(zip(client.endpoints, found, strict=True)), count, dict(rooms))
