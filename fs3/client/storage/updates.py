"""Updates of chunks: sent to the heads, many small ones in a frame, repeated under the same tag until they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

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
from fs3.client.storage.node_request import NodeRequest, send_windowed
from fs3.client.storage.router import ReplicaRouter
from fs3.core.files.channel_pool import ChannelPool
from fs3.core.files.read_plan import buffer_bytes
from fs3.core.files.retry import RetryAction
from fs3.core.files.write_plan import WriteIO, sums_of
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import update_reply_from_pb

update_frames_max = 8
"""Requests one call has under way at once."""

_NO_CLIENT = bytes(16)
_DONE = (Code.OK, Code.EXISTS)


class UpdateCounters:
    """What a client's updates met."""

    def __init__(self) -> None:
        self.updates = 0
        self.bytes = 0
        self.frames = 0
        self.retries = 0


class ChannelAllocator:
    """The client's update channels, and who waits for one."""

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

    __slots__ = ("attempt", "channel", "checksums", "length", "seq", "write")

    def __init__(self, write: WriteIO) -> None:
        self.write = write
        self.length = buffer_bytes(write.data) if write.data is not None else 0
        self.checksums = write.checksums
        self.channel = 0
        self.seq = 0
        self.attempt = 0


class _NodeUpdateRequest(NodeRequest):
    __slots__ = ("bytes", "indices", "versions")
    chains: list[int]

    def __init__(self, node: NodeId) -> None:
        super().__init__(node, [])
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
    ) -> None:
        self._router = router
        self._clock = clock
        self._counters = counters
        self._channels = channels
        self._client_id = client_id
        self._deadline = deadline
        self._attempts = [_UpdateState(write) for write in writes]
        self._results: list[UpdateResult | None] = [None] * len(writes)
        self._frames: list[_NodeUpdateRequest] = []

    async def run(self) -> list[UpdateResult]:
        """The result of each update, whatever it takes until the deadline."""
        attempts = self._attempts
        done = 0
        while done < len(attempts):
            # As many at once as there are channels; usually all.
            tagged = sum(state.write.tagged for state in attempts[done:])
            tags = await self._channels.take(tagged, max(0, self._deadline - self._clock.now())) if tagged else []
            if tagged and not tags:
                for index in range(done, len(attempts)):
                    self._results[index] = UpdateResult(Code.DEADLINE, message="all update channels of this client are taken")
                break
            wave: list[int] = []
            for index in range(done, len(attempts)):
                state = attempts[index]
                if state.write.tagged:
                    if not tags:
                        break
                    state.channel, state.seq = tags.pop()
                wave.append(index)
            done += len(wave)
            await self._send_wave(wave)
        return self._results  # type: ignore[return-value]

    def on_routing_changed(self) -> None:
        """Routing has changed: a frame that waits for a node which is not the head of all its chains any more is given up, and
        its updates are sent again under their tags: whatever became of them there, each happens once.

        A head that stays one is waited for although its chain has changed: it sends what is under way along the new chain.
        """
        for frame in self._frames:
            if any(self._head_of(chain)[0] != frame.node for chain in frame.chain_ids()):
                frame.abort(error(Code.DISCONNECTED, f"node {frame.node} is no head any more"))

    async def _send_wave(self, wave: list[int]) -> None:
        left = wave
        try:
            while left:
                self._frames = self._plan(left)
                await self._send_all(self._frames)
                left = await self._next_round(left)
        finally:
            for index in wave:
                self._finish(index)

    def _head(self, index: int) -> tuple[NodeId | None, int]:
        """(node, chain version) an update goes to."""
        return self._head_of(self._attempts[index].write.chain)

    def _head_of(self, chain: ChainId) -> tuple[NodeId | None, int]:
        who = self._router.candidates(chain)
        return (who.nodes[0] if who.nodes else None), who.version

    def _plan(self, indices: Iterable[int]) -> list[_NodeUpdateRequest]:
        frames: list[_NodeUpdateRequest] = []
        open_frames: dict[NodeId, _NodeUpdateRequest] = {}
        for index in indices:
            state = self._attempts[index]
            state.attempt += 1
            node, version = self._head(index)
            if node is None:
                message = f"nobody serves chain {state.write.chain}"
                self._results[index] = UpdateResult(Code.NOT_SERVING, message=message)
                continue
            if state.checksums is None:
                data = state.write.data
                state.checksums = sums_of(data, state.write.offset) if data is not None else ()
            frame = open_frames.get(node)
            if (
                frame is None
                or len(frame.indices) >= updates_per_request_max
                or frame.bytes + state.length > update_bytes_per_request_max
                or state.length >= update_single_bytes
            ):
                frame = _NodeUpdateRequest(node)
                frames.append(frame)
                if state.length < update_single_bytes:
                    open_frames[node] = frame
            frame.indices.append(index)
            frame.chains.append(state.write.chain)
            frame.versions.append(version)
            frame.bytes += state.length
        return frames

    def _request(self, frame: _NodeUpdateRequest) -> tuple[pb.UpdateRequest, list[memoryview]]:
        attempts = [self._attempts[index] for index in frame.indices]
        writes = [state.write for state in attempts]
        checksums: list[int] = []
        parts: list[memoryview] = []
        for state, write in zip(attempts, writes, strict=True):
            checksums += state.checksums or ()
            if isinstance(write.data, tuple):
                parts += write.data
            elif write.data is not None:
                parts.append(write.data)
        kinds: list[Any] = [write.kind for write in writes]
        client = self._client_id
        request = pb.UpdateRequest(
            chunks=b"".join([write.chunk for write in writes]),
            kinds=kinds,
            chains=frame.chains,
            chain_versions=frame.versions,
            offsets=[write.offset for write in writes],
            lengths=[state.length for state in attempts],
            versions=[0] * len(attempts),
            checksums=checksums,
            client_ids=b"".join([client if state.seq else _NO_CLIENT for state in attempts]),
            channels=[state.channel for state in attempts],
            seqs=[state.seq for state in attempts],
            reserves=[write.reserve for write in writes],
        )
        return request, parts

    async def _send_all(self, frames: list[_NodeUpdateRequest]) -> None:
        await send_windowed(frames, update_frames_max, self.send, self.on_reply, self.on_error, lambda frame: None)

    def send(self, frame: _NodeUpdateRequest) -> None:
        left = self._deadline - self._clock.now()
        self._counters.frames += 1
        if left <= 0:
            raise error(Code.DEADLINE, "no time left to ask")
        if any(self._head_of(chain)[0] != frame.node for chain in frame.chain_ids()):
            raise error(Code.UNAVAILABLE, f"node {frame.node} is no head any more")
        request, parts = self._request(frame)
        patience = min(left, update_attempt_ns + update_frames_max * frame.bytes * slow_ns_per_byte)
        frame.future = self._router.channel(frame.node).start(STORAGE.Update, request, parts, None, patience)

    def on_reply(self, frame: _NodeUpdateRequest, reply: Reply) -> None:
        results = update_reply_from_pb(reply.message, len(frame.indices))
        self._router.choice.on_succeeded(frame.node)
        self._router.note_routing_version(reply.message.routing_version)
        for index, result in zip(frame.indices, results, strict=True):
            self._results[index] = result

    def on_error(self, frame: _NodeUpdateRequest, failure: FS3Error) -> None:
        self._router.on_failure(frame.node, failure)
        result = UpdateResult(failure.code, message=failure.strerror or "")
        for index in frame.indices:
            self._results[index] = result

    async def _next_round(self, left: Sequence[int]) -> list[int]:
        again = []
        todo: set[RetryAction] = set()
        attempt = 1
        for index in left:
            state = self._attempts[index]
            result = self._results[index]
            assert result is not None
            if result.code in _DONE:
                continue
            repeatable = state.write.tagged or state.write.kind in (UpdateKind.PUT, UpdateKind.REMOVE)
            step = self._router.decide_retry(
                result.code, state.attempt, read=False, repeatable=repeatable, others=False, asked_tail=False
            )
            if step is RetryAction.FAIL:
                continue
            again.append(index)
            todo.add(step)
            attempt = max(attempt, state.attempt)
        if again and self._clock.now() < self._deadline:
            self._counters.retries += len(again)
            await self._router.prepare_retry(todo, attempt, self._deadline)
        if self._clock.now() >= self._deadline:
            for index in again:
                result = self._results[index]
                assert result is not None
                message = f"no answer in time; the last one was {result.code.name} {result.message}".rstrip()
                self._results[index] = UpdateResult(Code.DEADLINE, message=message)
            return []
        return again

    def _finish(self, index: int) -> None:
        """Its channel is free again, unless the update may still happen."""
        state = self._attempts[index]
        result = self._results[index]
        if result is not None and result.code is Code.OK:
            self._counters.updates += 1
            self._counters.bytes += state.length
        if not state.seq:
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
