"""Looking for chunks: thousands of keys in one request per node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ChunkId, NodeId
from fs3.base.limits import keys_per_find_max, read_attempt_ns
from fs3.base.status import Code
from fs3.client.storage.attempts import Attempts
from fs3.client.storage.node_request import NodeRequest, send_windowed
from fs3.client.storage.router import ReplicaRouter
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import find_reply_from_pb, split_ids

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


class _NodeFindRequest(NodeRequest):
    __slots__ = ("indices", "versions")
    chains: list[int]

    def __init__(self, node: NodeId) -> None:
        super().__init__(node, [])
        self.indices: list[int] = []
        self.versions: list[int] = []


class FindCall:
    """One call of `StorageClient.find`."""

    def __init__(
        self,
        router: ReplicaRouter,
        clock: Clock,
        keys: Sequence[tuple[ChunkId, ChainId]],
        deadline: int,
        *,
        following: bool = False,
    ) -> None:
        """`following`: look for the first chunk of the same file that is there from each key on."""
        self._router = router
        self._following = following
        self._clock = clock
        self._keys = keys
        self._deadline = deadline
        self._attempts = Attempts(router, clock, deadline, lambda index: keys[index][1])
        self._outcomes: list[FindOutcome | None] = [None] * len(keys)

    async def run(self) -> list[FindOutcome]:
        """The outcome of each key, whatever it takes until the deadline."""
        left: Iterable[int] = range(len(self._keys))
        while True:
            await self._send_all(self._plan(left))
            if not self._attempts:
                return self._outcomes  # type: ignore[return-value]
            left, given_up = await self._attempts.next_round()
            for index, code, message in given_up:
                self._outcomes[index] = FindOutcome(code, message=message)
            if not left:
                return self._outcomes  # type: ignore[return-value]

    def _plan(self, indices: Iterable[int]) -> list[_NodeFindRequest]:
        keys = self._keys
        attempts = self._attempts
        frames: list[_NodeFindRequest] = []
        open_frames: dict[NodeId, _NodeFindRequest] = {}
        memo: dict[ChainId, tuple[_NodeFindRequest, int]] = {}
        for index in indices:
            chain = keys[index][1]
            known = memo.get(chain) if not attempts else None
            if known is None or len(known[0].indices) >= keys_per_find_max:
                who = self._router.candidates(chain)
                node = attempts.choose_node(index, who, open_frames)
                if node is None:
                    attempts.on_refusal(index, None, Code.NOT_SERVING, f"nobody serves chain {chain}")
                    continue
                frame = open_frames.get(node)
                if frame is None or len(frame.indices) >= keys_per_find_max:
                    frame = open_frames[node] = _NodeFindRequest(node)
                    frames.append(frame)
                known = memo[chain] = (frame, who.version)
            frame, version = known
            frame.indices.append(index)
            frame.chains.append(chain)
            frame.versions.append(version)
        return frames

    async def _send_all(self, frames: list[_NodeFindRequest]) -> None:
        await send_windowed(frames, len(frames), self.send, self.on_reply, self.on_error, self._router.liveness.end)

    def send(self, frame: _NodeFindRequest) -> None:
        keys = self._keys
        left = self._deadline - self._clock.now()
        if left <= 0:
            raise error(Code.DEADLINE, "no time left to ask")
        self._router.check_responsive(frame)
        request = pb.FindRequest(
            chunks=b"".join([keys[index][0] for index in frame.indices]),
            chains=frame.chains,
            chain_versions=frame.versions,
            following=self._following,
        )
        channel = self._router.channel(frame.node)
        frame.future = channel.start(STORAGE.Find, request, (), None, min(left, read_attempt_ns))
        self._router.liveness.begin(frame, channel)

    def on_reply(self, frame: _NodeFindRequest, reply: Reply) -> None:
        codes, lengths = find_reply_from_pb(reply.message, len(frame.indices))
        self._router.liveness.end(frame)
        self._router.note_routing_version(reply.message.routing_version)
        self._router.choice.on_succeeded(frame.node)
        outcomes = self._outcomes
        attempts = self._attempts
        found = split_ids(reply.message.chunks, len(codes), "chunks") if self._following else None
        for at, (index, code, length) in enumerate(zip(frame.indices, codes, lengths, strict=True)):
            if code in _FOUND_OR_NOT:
                chunk = ChunkId(found[at]) if found is not None else _NO_CHUNK
                outcomes[index] = _NOT_FOUND if code else FindOutcome(Code.OK, length, chunk=chunk)
                if attempts:
                    attempts.on_answer(index)
            else:
                attempts.on_refusal(index, frame.node, Code.from_wire(code))

    def on_error(self, frame: _NodeFindRequest, failure: FS3Error) -> None:
        self._router.liveness.end(frame)
        self._router.on_failure(frame.node, failure)
        for index in frame.indices:
            self._attempts.on_refusal(index, frame.node, failure.code, failure.strerror or "")
