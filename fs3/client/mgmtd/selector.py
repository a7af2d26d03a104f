"""Finding the primary among the managers of a cluster, and saying clearly why none of them will do.

All addresses are asked at the same time, a little apart: one that is dead, or takes requests and never answers, keeps no client
waiting. A manager that answers names those it knows, so one address is enough to begin with, and the next primary is found when
the one that was known first is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error, Unreachable, error
from fs3.base.limits import (
    manager_probe_ns,
    manager_probe_pause_max_ns,
    manager_probe_pause_min_ns,
    managers_max,
    reconnect_backoff_min_ns,
)
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.base.version import THIS_RELEASE, UNTOLD_RELEASE, Release, explain_conflict
from fs3.client.connector import Connector
from fs3.model.cluster import ClusterInfo, ManagerInfo
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel
from fs3.wire.frames import PROTOCOL_VERSION
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_queries import cluster_info_from_pb, get_cluster_to_pb

reconnect_backoff_max_ns = 1 * SECOND

manager_probe_stagger_ns = 50 * MILLISECOND
"""Between the first tries of the addresses; then all are being asked at the same time."""

MANAGERS_UNUSABLE = "no fs3 management service can be used"
"""How a failure begins that no manager can be found; what is wrong with each address follows."""

_FINAL = (Code.WRONG_CLUSTER, Code.PROTOCOL, Code.INVALID, Code.UNSUPPORTED)
"""Asking the same address again would give the same answer."""

Address = tuple[str, ...]
"""Endpoints of one manager."""


async def ask_cluster(channel: Channel, timeout_ns: int, release: Release = THIS_RELEASE) -> ClusterInfo:
    """What the manager at the other end says of its cluster. FS3Error when it does not answer, is no manager, or finds the
    release of this process too old."""
    reply = await channel.call(MGMTD.GetCluster, get_cluster_to_pb(release), timeout_ns=timeout_ns)
    return cluster_info_from_pb(reply.message)


class JitteredBackoff:
    """Growing pauses with some jitter, so that a crowd that lost its manager does not come back in step."""

    def __init__(self, prng: Prng, first_ns: int = reconnect_backoff_min_ns, most_ns: int = reconnect_backoff_max_ns) -> None:
        self._prng = prng
        self._waits = Backoff(first_ns, most_ns)

    def reset(self) -> None:
        """It works again."""
        self._waits.reset()

    async def pause(self, at_most_ns: int = reconnect_backoff_max_ns) -> None:
        """Wait; longer the next time."""
        wait = self._waits.next_ns()
        pause = self._prng.between(wait // 2, wait)
        await asyncio.sleep(max(0, min(pause, at_most_ns)) / SECOND)


class PrimarySelector:
    """The channel to the manager that is primary now, as far as is known."""

    def __init__(
        self,
        connector: Connector,
        addresses: Sequence[str],
        clock: Clock,
        prng: Prng,
        *,
        expected_cluster: bytes,
        connect_timeout_ns: int,
        release: Release = THIS_RELEASE,
    ) -> None:
        if not addresses:
            raise error(Code.INVALID, "no address of a management service was given")
        self._connector = connector
        self._addresses: list[Address] = [(address,) for address in addresses]
        """Where managers are, the most promising one first."""
        self._given = frozenset(self._addresses)
        self._clock = clock
        self._prng = prng
        self._connect_timeout_ns = connect_timeout_ns
        self.release = release
        """What this process runs."""
        self.cluster = expected_cluster
        """Id of the cluster; b"" before it is known."""
        self.is_secured = False
        """The cluster asks who calls, as a manager has said last."""
        self.has_logins = False
        """It knows of users or keys, as a manager has said last."""
        self.takes_proofs = False
        """The primary takes proofs in place of tokens and keys of machines."""
        self.manager_release = UNTOLD_RELEASE
        """What the primary runs."""
        self.channel: Channel | None = None
        """None while the primary is not known."""
        self._found: Address = ()
        """Where the channel leads."""
        self._searching: asyncio.Task[Channel] | None = None

    async def search(self, within_ns: int = 0) -> Channel:
        """The channel to the primary, found by one search that all callers share. Unreachable."""
        if self._searching is None:
            self._searching = asyncio.get_running_loop().create_task(self._find_primary())
            self._searching.add_done_callback(self._search_done)
        searching = self._searching
        try:
            async with asyncio.timeout(within_ns / SECOND if within_ns else None):
                return await asyncio.shield(searching)
        except TimeoutError as failure:
            if isinstance(failure, FS3Error):
                raise
            asked = ", ".join(_text(address) for address in self._addresses)
            raise error(Code.UNAVAILABLE, f"no management service has answered yet at {asked}") from None
        except asyncio.CancelledError:
            if searching.cancelled():
                raise error(Code.SHUTTING_DOWN, "the client is closed") from None
            raise

    def learn(self, managers: Iterable[ManagerInfo]) -> None:
        """Remember where managers are, for the time when the primary is gone."""
        for manager in managers:
            address = manager.endpoints
            if not address or address in self._addresses:
                continue
            if len(self._addresses) - len(self._given) >= 2 * managers_max:
                # Managers that moved leave addresses behind. What the user gave stays.
                self._addresses.remove(next(known for known in self._addresses if known not in self._given))
            self._addresses.append(address)

    def mark_failed(self, channel: Channel) -> bool:
        """A channel failed: the next search begins with the other addresses. False when it had been left already."""
        if self.channel is not channel:
            return False
        self.channel = None
        self._addresses.sort(key=lambda address: address == self._found)
        return True

    def check_cluster(self, cluster: bytes) -> None:
        """The manager that answers must belong to the cluster that is expected, or was found first. WRONG_CLUSTER."""
        if not self.cluster:
            self.cluster = cluster
        elif cluster != self.cluster:
            raise error(Code.WRONG_CLUSTER, f"it belongs to cluster {cluster.hex()}, expected was {self.cluster.hex()}")

    def note_security(self, info: ClusterInfo) -> None:
        """What a manager says of logins and proofs."""
        self.is_secured, self.has_logins = info.is_secured, info.has_logins
        if info.is_primary:
            self.takes_proofs, self.manager_release = info.takes_proofs, info.release

    async def close(self) -> None:
        """End the search; callers that wait for it get SHUTTING_DOWN."""
        if self._searching is not None:
            self._searching.cancel()
            await asyncio.gather(self._searching, return_exceptions=True)

    def _search_done(self, task: asyncio.Task[Channel]) -> None:
        self._searching = None
        if not task.cancelled() and task.exception() is None:
            self.channel = task.result()

    async def _find_primary(self) -> Channel:
        search = _PrimarySearch(self, self._connector, self._clock, self._prng, self._connect_timeout_ns)
        channel, address = await search.run(self._addresses)
        self._found = address
        if address in self._addresses:
            self._addresses.remove(address)
        self._addresses.insert(0, address)
        return channel


class _PrimarySearch:
    """One search: a task for every address, until one of them has the primary."""

    def __init__(self, primary: PrimarySelector, connector: Connector, clock: Clock, prng: Prng, patience_ns: int) -> None:
        self._selector = primary
        self._connector = connector
        self._clock = clock
        self._prng = prng
        self._deadline = clock.now() + patience_ns
        # With less time than this a try could only say that there was no time, instead of what is wrong.
        self._last_try_ns = patience_ns // 10
        self._probe_ns = min(manager_probe_ns, patience_ns // 2)
        self._troubles: dict[Address, FS3Error] = {}
        """What was wrong with each address the last time."""
        self._asked: dict[Address, asyncio.Task[None]] = {}
        self._found: asyncio.Future[tuple[Channel, Address]] = asyncio.get_running_loop().create_future()

    async def run(self, addresses: Sequence[Address]) -> tuple[Channel, Address]:
        """The channel to the primary and where that is. Unreachable, naming every address and what is wrong with it."""
        try:
            for turn, address in enumerate(addresses):
                self._ask(address, turn * manager_probe_stagger_ns)
            while self._asked and not self._found.done():
                waiting: list[asyncio.Future[Any]] = [*self._asked.values(), self._found]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for address, task in list(self._asked.items()):
                    if task.done():
                        del self._asked[address]
                        task.result()
            if self._found.done():
                return self._found.result()
        finally:
            for task in self._asked.values():
                task.cancel()
            await asyncio.gather(*self._asked.values(), return_exceptions=True)
        # An answer that asking again will not change keeps its code, so that the caller does not ask again.
        final = next(iter(self._troubles.values())).code if all(t.code in _FINAL for t in self._troubles.values()) else None
        listed = "; ".join(f"{_text(address)}: {_likely_cause(trouble)}" for address, trouble in self._troubles.items())
        raise Unreachable(final or Code.UNAVAILABLE, f"{MANAGERS_UNUSABLE} ({listed})")

    def _ask(self, address: Address, delay_ns: int = 0) -> None:
        if address not in self._asked and address not in self._troubles:
            self._asked[address] = asyncio.get_running_loop().create_task(self._ask_again(address, delay_ns))

    async def _ask_again(self, address: Address, delay_ns: int) -> None:
        """Ask one address until it is the primary, or another one is, or there is no more time."""
        if delay_ns:
            await asyncio.sleep(delay_ns / SECOND)
        backoff = JitteredBackoff(self._prng, manager_probe_pause_min_ns, manager_probe_pause_max_ns)
        while not self._found.done():
            try:
                channel = await self._probe(address)
            except FS3Error as failure:
                self._troubles[address] = failure
                remaining = self._deadline - self._clock.now()
                if failure.code in _FINAL or remaining <= self._last_try_ns:
                    return
                await backoff.pause(remaining - self._last_try_ns)
                continue
            if not self._found.done():
                self._found.set_result((channel, address))

    async def _probe(self, address: Address) -> Channel:
        """The channel to an address, when the primary is there. FS3Error saying what is there instead."""
        try:
            channel = self._connector.channel(address)
        except FS3Error as failure:
            raise error(Code.INVALID, str(failure)) from failure  # it stays so, however often it is tried
        timeout = max(1, min(self._probe_ns, self._deadline - self._clock.now()))
        cluster = await ask_cluster(channel, timeout, self._selector.release)
        if cluster.protocol < PROTOCOL_VERSION:
            raise error(
                Code.PROTOCOL,
                f"it runs fs3 {cluster.software} and speaks protocol {cluster.protocol}; "
                f"this is fs3 {self._selector.release.software}, which speaks protocol {PROTOCOL_VERSION}",
            )
        if conflict := explain_conflict(self._selector.release, cluster.release):
            raise error(Code.PROTOCOL, f"this process runs {conflict}")
        self._selector.check_cluster(cluster.cluster)
        self._selector.note_security(cluster)
        self._selector.learn(cluster.managers)
        if cluster.is_primary:
            return channel
        for other in (*(manager.endpoints for manager in cluster.managers), cluster.primary):
            if other:
                self._ask(other)
        if not cluster.primary:
            raise error(Code.NOT_PRIMARY, "it is not the primary and knows none")
        named = ", ".join(cluster.primary)
        raise error(Code.NOT_PRIMARY, f"it is not the primary, and {named}, which it names, has not answered")


def _text(address: Address) -> str:
    return ", ".join(address)


def _likely_cause(failure: FS3Error) -> str:
    """What a person should look at when an address cannot be used."""
    text = str(failure)
    match failure.code:
        case Code.UNAVAILABLE:
            return f"nothing listens there ({text})"
        case Code.DEADLINE:
            return f"no answer in time: the process hangs, or the network drops packets ({text})"
        case Code.PROTOCOL | Code.DISCONNECTED:
            return f"another fs3 version, or not the port of an fs3 management service ({text})"
        case Code.WRONG_CLUSTER:
            return f"another cluster ({text})"
        case Code.UNSUPPORTED:
            return f"the port of a metadata or storage service, where that of a management service (mgmtd) is needed ({text})"
        case _:
            return text
