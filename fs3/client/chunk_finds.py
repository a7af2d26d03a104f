"""Looking for chunks: thousands of keys in one request per node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ChunkId, NodeId
from fs3.base.limits import keys_per_find_max, read_attempt_ns
from fs3.base.status import Code
from fs3.client.chunk_routes import ChunkRoutes
from fs3.client.chunk_trials import Trials
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import parse_find_reply

_FOUND_OR_NOT = (int(Code.OK), int(Code.NOT_FOUND))


class FindOutcome(msgspec.Struct, frozen=True, gc=False):
    """Whether a chunk is there. OK: committed, `length` bytes. NOT_FOUND: it does not exist."""

    code: Code
    length: int = 0
    message: str = ""


_NOT_FOUND = FindOutcome(Code.NOT_FOUND)


class _Frame:
    __slots__ = ("chains", "future", "indices", "node", "versions")

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.indices: list[int] = []
        self.chains: list[int] = []
        self.versions: list[int] = []
        self.future: asyncio.Future[Reply] | None = None


class FindBatch:
    """One call of `StorageClient.find`."""

    def __init__(self, routes: ChunkRoutes, clock: Clock, keys: Sequence[tuple[ChunkId, ChainId]], deadline: int) -> None:
        self._routes = routes
        self._clock = clock
        self._keys = keys
        self._deadline = deadline
        self._trials = Trials(routes, clock, deadline, lambda index: keys[index][1])
        self._outcomes: list[FindOutcome | None] = [None] * len(keys)

    async def run(self) -> list[FindOutcome]:
        """The outcome of each key, whatever it takes until the deadline."""
        left: Iterable[int] = range(len(self._keys))
        while True:
            await self._exchange(self._plan(left))
            if not self._trials:
                return self._outcomes  # type: ignore[return-value]
            left, given_up = await self._trials.next_round()
            for index, code, message in given_up:
                self._outcomes[index] = FindOutcome(code, message=message)
            if not left:
                return self._outcomes  # type: ignore[return-value]

    def _plan(self, indices: Iterable[int]) -> list[_Frame]:
        keys = self._keys
        trials = self._trials
        frames: list[_Frame] = []
        open_frames: dict[NodeId, _Frame] = {}
        memo: dict[ChainId, tuple[_Frame, int]] = {}
        for index in indices:
            chain = keys[index][1]
            known = memo.get(chain) if not trials else None
            if known is None or len(known[0].indices) >= keys_per_find_max:
                who = self._routes.candidates(chain)
                node = trials.node_for(index, who, open_frames)
                if node is None:
                    trials.refused(index, None, Code.NOT_SERVING, f"nobody serves chain {chain}")
                    continue
                frame = open_frames.get(node)
                if frame is None or len(frame.indices) >= keys_per_find_max:
                    frame = open_frames[node] = _Frame(node)
                    frames.append(frame)
                known = memo[chain] = (frame, who.version)
            frame, version = known
            frame.indices.append(index)
            frame.chains.append(chain)
            frame.versions.append(version)
        return frames

    async def _exchange(self, frames: list[_Frame]) -> None:
        for frame in frames:
            self._start(frame)
        try:
            for frame in frames:
                if frame.future is None:
                    continue
                try:
                    reply = await frame.future
                    answer = parse_find_reply(reply.message, len(frame.indices))
                except FS3Error as failure:
                    self._failed(frame, failure)
                else:
                    self._answered(frame, *answer)
                    self._routes.heard(reply.message.routing_version)
        finally:
            for frame in frames:
                if frame.future is not None and not frame.future.cancel() and not frame.future.cancelled():
                    frame.future.exception()

    def _start(self, frame: _Frame) -> None:
        keys = self._keys
        left = self._deadline - self._clock.now()
        try:
            if left <= 0:
                raise error(Code.DEADLINE, "no time left to ask")
            request = pb.FindRequest(
                chunks=b"".join([keys[index][0] for index in frame.indices]), chains=frame.chains, chain_versions=frame.versions
            )
            channel = self._routes.channel(frame.node)
            frame.future = channel.start(STORAGE.Find, request, (), None, min(left, read_attempt_ns))
        except FS3Error as failure:
            self._failed(frame, failure)

    def _answered(self, frame: _Frame, codes: Sequence[int], lengths: Sequence[int]) -> None:
        self._routes.choice.succeeded(frame.node)
        outcomes = self._outcomes
        trials = self._trials
        for index, code, length in zip(frame.indices, codes, lengths, strict=True):
            if code in _FOUND_OR_NOT:
                outcomes[index] = _NOT_FOUND if code else FindOutcome(Code.OK, length)
                if trials:
                    trials.settled(index)
            else:
                trials.refused(index, frame.node, Code.from_wire(code))

    def _failed(self, frame: _Frame, failure: FS3Error) -> None:
        self._routes.not_answered(frame.node, failure)
        for index in frame.indices:
            self._trials.refused(index, frame.node, failure.code, failure.strerror or "")
