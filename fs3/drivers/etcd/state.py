"""What an operator wants to know of the etcd cluster under a store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fs3.base.errors import FS3Error
from fs3.drivers.etcd.client import EtcdClient
from fs3.wire.etcd import MEMBER_LIST, STATUS, EtcdStatus, decode_members, decode_status, encode_nothing


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

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, for a person; empty when nothing is."""
        silent = [f"etcd at {endpoint} does not answer" for endpoint, status in self.members.items() if status is None]
        said = {text for status in self.members.values() if status is not None for text in status.errors}
        if self.count > len(self.members):
            told = f"etcd has {self.count} members, of which --kv names {len(self.members)}"
            silent.append(f"{told}: it is not reached when those are away, whatever the others do")
        return (*silent, *(f"etcd: {text}" for text in sorted(said)))

    def describe(self) -> str:
        """One line: how many members answer, how much room the store takes."""
        answering = [status for status in self.members.values() if status is not None]
        taken = max((status.db_bytes for status in answering), default=0)
        versions = ", ".join(sorted({status.version for status in answering})) or "none"
        count = max(self.count, len(self.members))
        return f"{len(answering)} of {count} members answer, version {versions}, {taken / 1e6:.1f} MB each"


async def find_state(client: EtcdClient) -> EtcdState:
    """Ask every member."""

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
    return EtcdState(dict(zip(client.endpoints, found, strict=True)), count)
