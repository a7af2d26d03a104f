"""Updates of chunks: sent to the heads, many small ones in a request, repeated under the same tag until they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ClientId, NodeId
from fs3.base.limits import (
    slow_ns_per_byte,
    update_attempt_ns,
    update_bytes_per_request_max,
    update_single_bytes,
    updates_per_request_max,
)
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.client.storage.attempts import Attempts, RetryRound
from fs3.client.storage.node_request import NodeRequest, ReplicaHealth, send_windowed
from fs3.client.storage.router import ReplicaRouter
from fs3.core.files.channel_pool import ChannelPool
from fs3.core.files.read_plan import buffer_bytes
from fs3.core.files.write_plan import WriteIO, sums_of
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.runtime.tracing import attempting
from fs3.wire.methods import STORAGE
from fs3.wire.storage import (
    NO_CLIENT,
    UpdateRequestColumns,
    routing_version_of,
    update_columns_to_pb,
    update_reply_from_pb,
)

update_requests_max = 8
"""Requests one call has under way at once."""

_DONE = (Code.OK, Code.EXISTS)


class UpdateCounters:
    """What a client's updates met."""

    def __init__(self) -> None:
        self.updates = 0
        self.bytes = 0
        self.requests = 0
        self.retries = 0


class ChannelAllocator:
    """The client's update channels, and the calls that wait for one."""

    def __init__(self, pool: ChannelPool) -> None:
        self._pool = pool
        self._waiting: list[asyncio.Future[None]] = []

    async def take(self, count: int, patience_ns: int) -> list[tuple[int, int]]:
        """Between 1 and `count` tags (channel, seq); waits while there are none, and gives up (no tag) after `patience_ns`."""
        taken = self._take(count)
        if taken or not count:
            return taken
        try:
            async with asyncio.timeout(patience_ns / SECOND):
                while not taken:
                    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.append(turn)
                    await turn
                    taken = self._take(count)
        except TimeoutError:
            pass
        return taken

    def _take(self, count: int) -> list[tuple[int, int]]:
        taken: list[tuple[int, int]] = []
        while len(taken) < count and (tag := self._pool.acquire()) is not None:
            taken.append(tag)
        return taken

    def give_back(self, channel: int) -> None:
        """Its update has been answered."""
        self._pool.release(channel)
        self._wake()

    def retire(self, channel: int) -> None:
        """Its update may still happen."""
        self._pool.retire(channel)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


class _UpdateState:
    """One update until it is answered for good."""

    __slots__ = ("attempt", "channel", "checksums", "client", "drawn", "length", "seq", "write")

    def __init__(self, write: WriteIO) -> None:
        self.write = write
        self.length = buffer_bytes(write.data) if write.data is not None else 0
        self.checksums = write.checksums
        tag = write.tag
        self.client = tag.client if tag else NO_CLIENT
        self.channel = tag.channel if tag else 0
        self.seq = tag.seq if tag else 0
        self.drawn = False
        """Its tag is of a channel of this client, which gets it back."""
        self.attempt = 0
        """How often it was sent."""


class _NodeUpdateRequest(NodeRequest):
    """One request under way."""

    __slots__ = ("bytes", "indices", "versions")
    chains: list[int]

    def __init__(self, node: NodeId, health: ReplicaHealth) -> None:
        super().__init__(node, [], health)
        self.indices: list[int] = []
        self.versions: list[int] = []
        self.bytes = 0


class UpdateCall:
    """One call of `StorageClient.update`."""

    def __init__(
        self,
        router: ReplicaRouter,
        clock: Clock,
        counters: UpdateCounters,
        channels: ChannelAllocator,
        client_id: ClientId,
        writes: Sequence[WriteIO],
        deadline: int,
        *,
        of_lost_pages: bool = False,
    ) -> None:
        """`of_lost_pages`: see `StorageClient.update`."""
        self._router = router
        self._clock = clock
        self._counters = counters
        self._channels = channels
        self._client_id = client_id
        self._deadline = deadline
        self._of_lost_pages = of_lost_pages
        self._updates = [_UpdateState(write) for write in writes]
        self._attempts = Attempts(router, clock, deadline, read=False)
        self._results: list[UpdateResult | None] = [None] * len(writes)
        self._requests: list[_NodeUpdateRequest] = []

    async def run(self) -> list[UpdateResult]:
        """The result of each update, whatever it takes until the deadline."""
        updates = self._updates
        done = 0
        while done < len(updates):
            # As many at once as there are channels; usually all.
            tagged = sum(_draws_tag(state.write) for state in updates[done:])
            tags = await self._channels.take(tagged, max(0, self._deadline - self._clock.now())) if tagged else []
            if tagged and not tags:
                for index in range(done, len(updates)):
                    self._results[index] = UpdateResult(Code.DEADLINE, message="all update channels of this client are taken")
                break
            wave: list[int] = []
            for index in range(done, len(updates)):
                state = updates[index]
                if _draws_tag(state.write):
                    if not tags:
                        break
                    state.channel, state.seq = tags.pop()
                    state.client, state.drawn = self._client_id, True
                wave.append(index)
            done += len(wave)
            await self._send_wave(wave)
        return self._results  # type: ignore[return-value]

    def on_routing_changed(self) -> None:
        """Routing has changed: a request to a node which is not the head of all its chains any more is given up, and its updates
        are sent again under their tags: whatever became of them there, each happens once.

        A head that stays one is waited for although its chain has changed: it sends what is under way along the new chain.
        """
        for request in self._requests:
            if not self._is_head(request):
                request.abort(error(Code.DISCONNECTED, f"node {request.node} is no head any more"))

    async def _send_wave(self, wave: list[int]) -> None:
        try:
            await self._send_round(wave)
            while self._attempts:
                step = await self._next_round()
                if not step.again:
                    break
                with attempting(step.attempt):
                    await self._send_round(step.again)
        finally:
            for index in wave:
                self._finish(index)

    async def _send_round(self, left: list[int]) -> None:
        self._requests = self._plan(left)
        await send_windowed(self._requests, update_requests_max, self)

    def _head_of(self, chain: ChainId) -> tuple[NodeId | None, int]:
        """(node, chain version) an update of a chain goes to."""
        replicas = self._router.candidates(chain)
        return (replicas.nodes[0] if replicas.nodes else None), replicas.version

    def _is_head(self, request: _NodeUpdateRequest) -> bool:
        """The node of a request is the head of all its chains still."""
        return all(self._head_of(chain)[0] == request.node for chain in request.chain_ids())

    def _plan(self, indices: Iterable[int]) -> list[_NodeUpdateRequest]:
        requests: list[_NodeUpdateRequest] = []
        open_requests: dict[NodeId, _NodeUpdateRequest] = {}
        for index in indices:
            state = self._updates[index]
            state.attempt += 1
            chain = state.write.chain
            node, version = self._head_of(chain)
            if node is None:
                self._refuse(index, None, UpdateResult(Code.NOT_SERVING, message=f"nobody serves chain {chain}"))
                continue
            if state.checksums is None:
                data = state.write.data
                state.checksums = sums_of(data, state.write.offset) if data is not None else ()
            request = open_requests.get(node)
            if (
                request is None
                or len(request.indices) >= updates_per_request_max
                or request.bytes + state.length > update_bytes_per_request_max
                or state.length >= update_single_bytes
            ):
                request = _NodeUpdateRequest(node, self._router)
                requests.append(request)
                if state.length < update_single_bytes:
                    open_requests[node] = request
            request.indices.append(index)
            request.chains.append(chain)
            request.versions.append(version)
            request.bytes += state.length
        return requests

    def _columns(self, request: _NodeUpdateRequest) -> tuple[UpdateRequestColumns, list[memoryview]]:
        """(columns, payload) of a request."""
        updates = [self._updates[index] for index in request.indices]
        writes = [state.write for state in updates]
        checksums: list[int] = []
        parts: list[memoryview] = []
        for state, write in zip(updates, writes, strict=True):
            checksums += state.checksums or ()
            if isinstance(write.data, tuple):
                parts += write.data
            elif write.data is not None:
                parts.append(write.data)
        columns = UpdateRequestColumns(
            chunks=[write.chunk for write in writes],
            kinds=[write.kind for write in writes],
            chains=request.chains,
            chain_versions=request.versions,
            offsets=[write.offset for write in writes],
            lengths=[state.length for state in updates],
            versions=[0] * len(updates),
            checksums=checksums,
            clients=[state.client for state in updates],
            channels=[state.channel for state in updates],
            seqs=[state.seq for state in updates],
            reserves=[write.reserve for write in writes],
        )
        return columns, parts

    async def _next_round(self) -> RetryRound:
        """Which updates to send again. What was refused for good keeps the result it has."""
        step = await self._attempts.next_round()
        for index, code, message in step.expired:
            self._results[index] = UpdateResult(code, message=message)
        self._counters.retries += len(step.again)
        return step

    def _refuse(self, index: int, node: NodeId | None, result: UpdateResult) -> None:
        """An update has this result, unless it is sent again."""
        self._results[index] = result
        write = self._updates[index].write
        # Sent twice, it still happens once; or nothing is left that removing it again could remove.
        repeatable = write.tagged or write.kind is UpdateKind.REMOVE
        self._attempts.on_refusal(index, write.chain, node, result.code, result.message, repeatable=repeatable)

    # --- the requests' handler (`RequestHandler`) ---------------------------------------------------------------------

    def send(self, request: _NodeUpdateRequest) -> None:
        """No other node could answer it, so its node is not watched: `on_routing_changed` tells when to stop waiting."""
        self._counters.requests += 1
        left = self._router.time_left(self._deadline)
        if not self._is_head(request):
            raise error(Code.UNAVAILABLE, f"node {request.node} is no head any more")
        columns, parts = self._columns(request)
        patience = min(left, update_attempt_ns + update_requests_max * request.bytes * slow_ns_per_byte)
        channel = self._router.channel(request.node)
        message = update_columns_to_pb(columns, of_lost_pages=self._of_lost_pages)
        request.future = channel.start(STORAGE.Update, message, parts, None, patience)

    def on_reply(self, request: _NodeUpdateRequest, reply: Reply) -> None:
        """Each update has its result, or was refused."""
        results = update_reply_from_pb(reply.message, len(request.indices))
        self._router.choice.on_succeeded(request.node)
        self._router.note_routing_version(routing_version_of(reply.message))
        retry = bool(self._attempts)
        for index, result in zip(request.indices, results, strict=True):
            if result.code not in _DONE:
                self._refuse(index, request.node, result)
                continue
            self._results[index] = result
            if retry:
                self._attempts.on_answer(index)

    def on_error(self, request: _NodeUpdateRequest, failure: FS3Error) -> None:
        """All of its updates were refused."""
        self._router.on_failure(request.node, failure)
        result = UpdateResult(failure.code, message=failure.strerror or "")
        for index in request.indices:
            self._refuse(index, request.node, result)

    def on_end(self, request: _NodeUpdateRequest) -> None:
        """Nothing was begun for it."""

    # --- the end ------------------------------------------------------------------------------------------------------

    def _finish(self, index: int) -> None:
        """Its channel is free again, unless the update may still happen."""
        state = self._updates[index]
        result = self._results[index]
        if result is not None and result.code is Code.OK:
            self._counters.updates += 1
            self._counters.bytes += state.length
        if not state.drawn:
            return
        answered = result is not None and (
            result.code in _DONE
            # A refusal that stands, of an update that was sent once, leaves nothing behind; anything less certain may.
            or (state.attempt == 1 and result.code.retry is Retry.NEVER)
        )
        if answered:
            self._channels.give_back(state.channel)
        else:
            self._channels.retire(state.channel)


def _draws_tag(write: WriteIO) -> bool:
    return write.tagged and write.tag is None
