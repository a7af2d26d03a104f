"""Looking for chunks: thousands of keys in one request per node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ChunkId, NodeId
from fs3.base.limits import keys_per_find_max, read_attempt_ns
from fs3.base.status import Code
from fs3.client.chunk_frames import Frame, exchange
from fs3.client.chunk_routes import ChunkRoutes
from fs3.client.chunk_trials import Trials
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import parse_find_reply, split_ids

_FOUND_OR_NOT = (int(Code.OK), int(Code.NOT_FOUND))


class FindOutcome(msgspec.Struct, frozen=True, gc=False):
    """Whether a chunk is there. OK: committed, `length` bytes. NOT_FOUND: it does not exist."""

    code: Code
    length: int = 0
    message: str = ""
    chunk: ChunkId = ChunkId(b"")
    """Of a search for the following chunk: the one that was found."""


_NOT_FOUND = FindOutcome(Code.NOT_FOUND)
_NO_CHUNK = ChunkId(b"")


class _Frame(Frame):
    __slots__ = ("indices", "versions")
    chains: list[int]

    def __init__(self, node: NodeId) -> None:
        super().__init__(node, [])
        self.indices: list[int] = []
        self.versions: list[int] = []


class FindBatch:
    """One call of `StorageClient.find`."""

    def __init__(
        self,
        routes: ChunkRoutes,
        clock: Clock,
        keys: Sequence[tuple[ChunkId, ChainId]],
        deadline: int,
        *,
        following: bool = False,
    ) -> None:
        """`following`: look for the first chunk of the same file that is there from each key on."""
        self._routes = routes
        self._following = following
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
        await exchange(frames, len(frames), self._start, self._answered, self._failed, self._routes.silence.end)

    def _start(self, frame: _Frame) -> None:
        keys = self._keys
        left = self._deadline - self._clock.now()
        if left <= 0:
            raise error(Code.DEADLINE, "no time left to ask")
        self._routes.check_worth_asking(frame)
        request = pb.FindRequest(
            chunks=b"".join([keys[index][0] for index in frame.indices]),
            chains=frame.chains,
            chain_versions=frame.versions,
            following=self._following,
        )
        channel = self._routes.channel(frame.node)
        frame.future = channel.start(STORAGE.Find, request, (), None, min(left, read_attempt_ns))
        self._routes.silence.begin(frame, channel)

    def _answered(self, frame: _Frame, reply: Reply) -> None:
        codes, lengths = parse_find_reply(reply.message, len(frame.indices))
        self._routes.silence.end(frame)
        self._routes.heard(reply.message.routing_version)
        self._routes.choice.succeeded(frame.node)
        outcomes = self._outcomes
        trials = self._trials
        found = split_ids(reply.message.chunks, len(codes), "chunks") if self._following else None
        for at, (index, code, length) in enumerate(zip(frame.indices, codes, lengths, strict=True)):
            if code in _FOUND_OR_NOT:
                chunk = ChunkId(found[at]) if found is not None else _NO_CHUNK
                outcomes[index] = _NOT_FOUND if code else FindOutcome(Code.OK, length, chunk=chunk)
                if trials:
                    trials.settled(index)
            else:
                trials.refused(index, frame.node, Code.from_wire(code))

    def _failed(self, frame: _Frame, failure: FS3Error) -> None:
        self._routes.silence.end(frame)
        self._routes.not_answered(frame.node, failure)
        for index in frame.indices:
            self._trials.refused(index, frame.node, failure.code, failure.strerror or "")
