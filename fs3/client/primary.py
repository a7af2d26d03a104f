"""Finding the primary among the addresses of a cluster, and saying clearly why none of them will do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fs3 import __version__
from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error, Unreachable, error
from fs3.base.limits import reconnect_backoff_max_ns, reconnect_backoff_min_ns
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connect import Connector
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel
from fs3.wire.frames import PROTOCOL
from fs3.wire.methods import MGMTD
from fs3.wire.pb import mgmtd_pb2 as pb


class JitteredBackoff:
    """Growing pauses with some jitter, so that a crowd that lost its manager does not come back in step."""

    def __init__(self, prng: Prng) -> None:
        self._prng = prng
        self._waits = Backoff(reconnect_backoff_min_ns, reconnect_backoff_max_ns)

    def reset(self) -> None:
        """It works again."""
        self._waits.reset()

    async def pause(self, at_most_ns: int = reconnect_backoff_max_ns) -> None:
        """Wait; longer the next time."""
        wait = self._waits.next_ns()
        pause = self._prng.between(wait // 2, wait)
        await asyncio.sleep(max(0, min(pause, at_most_ns)) / SECOND)


class Primary:
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
    ) -> None:
        if not addresses:
            raise error(Code.INVALID, "no address of a management service was given")
        self._connector = connector
        self._addresses = tuple(addresses)
        self._clock = clock
        self._prng = prng
        self._connect_timeout_ns = connect_timeout_ns
        self.cluster = expected_cluster
        """Id of the cluster; b"" before it is known."""
        self.channel: Channel | None = None
        """None while the primary is not known."""
        self._first = 0
        """Index of the address to try first."""
        self._searching: asyncio.Task[Channel] | None = None

    async def search(self, within_ns: int = 0) -> Channel:
        """The channel to the primary, found by one search that everybody shares. Unreachable."""
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
            raise error(Code.UNAVAILABLE, f"no management service has answered yet at {', '.join(self._addresses)}") from None
        except asyncio.CancelledError:
            if searching.cancelled():
                raise error(Code.SHUTTING_DOWN, "the client is closed") from None
            raise

    def _search_done(self, task: asyncio.Task[Channel]) -> None:
        self._searching = None
        if not task.cancelled() and task.exception() is None:
            self.channel = task.result()

    async def _find_primary(self) -> Channel:
        deadline = self._clock.now() + self._connect_timeout_ns
        # With less time than this a try could only say that there was no time, instead of what is wrong.
        last_try_ns = self._connect_timeout_ns // 10
        backoff = JitteredBackoff(self._prng)
        troubles: dict[str, str] = {}
        while True:
            hopeless: Code | None = Code.UNAVAILABLE
            for turn in range(len(self._addresses)):
                index = (self._first + turn) % len(self._addresses)
                address = self._addresses[index]
                try:
                    channel = await self._probe(address, deadline)
                except FS3Error as failure:
                    troubles[address] = _likely_cause(failure)
                    final = failure.code in (Code.WRONG_CLUSTER, Code.PROTOCOL, Code.INVALID)
                    hopeless = failure.code if final and hopeless else None
                    continue
                self._first = index
                return channel
            remaining = deadline - self._clock.now()
            if hopeless or remaining <= last_try_ns:
                # An answer that asking again will not change keeps its code, so that nobody does.
                listed = "; ".join(f"{address}: {trouble}" for address, trouble in troubles.items())
                raise Unreachable(hopeless or Code.UNAVAILABLE, f"no fs3 management service can be used ({listed})")
            await backoff.pause(remaining - last_try_ns)

    async def _probe(self, address: str, deadline: int) -> Channel:
        """The channel to use for the cluster that answers at an address: this address, or its primary's."""
        try:
            channel = self._connector.channel([address])
        except FS3Error as failure:
            raise error(Code.INVALID, str(failure)) from failure  # it stays so, however often it is tried
        cluster = await self._get_cluster(address, channel, deadline)
        if cluster.is_primary:
            return channel
        if not cluster.primary:
            raise error(Code.NOT_PRIMARY, "it is not the primary and knows none")
        primary = self._connector.channel(cluster.primary)
        named = await self._get_cluster(", ".join(cluster.primary), primary, deadline)
        if not named.is_primary:
            raise error(Code.NOT_PRIMARY, f"it is not the primary, and {cluster.primary[0]}, which it names, is not either")
        return primary

    async def _get_cluster(self, address: str, channel: Channel, deadline: int) -> pb.GetClusterReply:
        # Several addresses share the connect timeout: one that swallows requests must not use up all of it.
        share = self._connect_timeout_ns // (2 * len(self._addresses))
        timeout = max(1, min(share, deadline - self._clock.now()))
        reply = await channel.call(MGMTD.GetCluster, pb.GetClusterRequest(), timeout_ns=timeout)
        cluster: pb.GetClusterReply = reply.message
        if cluster.protocol < PROTOCOL:
            raise error(
                Code.PROTOCOL,
                f"it runs fs3 {cluster.software} and speaks protocol {cluster.protocol}; "
                f"this is fs3 {__version__}, which speaks protocol {PROTOCOL}",
            )
        self.check_cluster(cluster.cluster_id)
        return cluster

    def check_cluster(self, cluster: bytes) -> None:
        """Whoever answers must belong to the cluster that is expected, or was found first. WRONG_CLUSTER."""
        if not self.cluster:
            self.cluster = cluster
        elif cluster != self.cluster:
            raise error(Code.WRONG_CLUSTER, f"it belongs to cluster {cluster.hex()}, expected was {self.cluster.hex()}")

    def leave(self, channel: Channel) -> bool:
        """A channel failed: the next search begins with another address. False when it had been left already."""
        if self.channel is not channel:
            return False
        self.channel = None
        self._first = (self._first + 1) % len(self._addresses)
        return True

    async def close(self) -> None:
        """End the search; who waits for it gets SHUTTING_DOWN."""
        if self._searching is not None:
            self._searching.cancel()
            await asyncio.gather(self._searching, return_exceptions=True)


def _likely_cause(failure: FS3Error) -> str:
    """What a person should look at when an address cannot be used."""
    text = str(failure)
    match failure.code:
        case Code.UNAVAILABLE:
            return f"nothing listens there ({text})"
        case Code.DEADLINE:
            return f"no answer in time: the process hangs, or the network drops packets ({text})"
        case Code.PROTOCOL | Code.DISCONNECTED:
            return f"probably not the port of an fs3 management service, or of another fs3 version ({text})"
        case Code.WRONG_CLUSTER:
            return f"another cluster ({text})"
        case _:
            return text
