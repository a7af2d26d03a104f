"""Looking for chunks: thousands of keys in one request per node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, NodeId
from fs3.base.limits import keys_per_find_max, read_attempt_ns
from fs3.base.status import Code
from fs3.client.storage.attempts import Attempts
from fs3.client.storage.node_request import NodeRequest, ReplicaHealth, send_windowed
from fs3.client.storage.router import ReplicaRouter
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.runtime.tracing import attempting
from fs3.wire.methods import STORAGE
from fs3.wire.storage import find_reply_from_pb, find_request_to_pb, found_chunks_from_pb, routing_version_of

_FOUND_OR_NOT = (int(Code.OK), int(Code.NOT_FOUND))


class FindOutcome(msgspec.Struct, frozen=True, gc=False):
    """Whether a chunk is there. OK: committed, `length` bytes. NOT_FOUND: it does not exist."""

    code: Code
    length: int = 0
    message: str = ""
    chunk: ChunkId = ChunkId(b"")
    """Of a search for the following chunk: the one that was found."""


Refusal = tuple[NodeId | None, Code, str]
"""(who refused a key, why, message); None: nobody serves its chain."""

_NOT_FOUND = FindOutcome(Code.NOT_FOUND)
_NO_CHUNK = ChunkId(b"")


class _NodeFindRequest(NodeRequest):
    """One request under way."""

    __slots__ = ("indices", "versions")
    chains: list[int]

    def __init__(self, node: NodeId, health: ReplicaHealth) -> None:
        super().__init__(node, [], health)
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
        self._attempts = Attempts(router, clock, deadline, read=True)
        self._outcomes: list[FindOutcome | None] = [None] * len(keys)

    async def run(self, refusals: Sequence[Refusal] = ()) -> list[FindOutcome]:
        """The outcome of each key, whatever it takes until the deadline. `refusals`: every key was asked for already, and how
        that went."""
        for index, refusal in enumerate(refusals):
            self._attempts.on_refusal(index, self._keys[index][1], *refusal)
        if not refusals:
            await self._send_all(self._plan(range(len(self._keys))))
        while self._attempts:
            step = await self._attempts.next_round()
            for index, code, message in (*step.refused, *step.expired):
                self._outcomes[index] = FindOutcome(code, message=message)
            if not step.again:
                break
            with attempting(step.attempt):
                await self._send_all(self._plan(step.again))
        return self._outcomes  # type: ignore[return-value]

    def _plan(self, indices: Iterable[int]) -> list[_NodeFindRequest]:
        keys = self._keys
        attempts = self._attempts
        requests: list[_NodeFindRequest] = []
        open_requests: dict[NodeId, _NodeFindRequest] = {}
        memo: dict[ChainId, tuple[_NodeFindRequest, int]] = {}
        for index in indices:
            chain = keys[index][1]
            known = memo.get(chain) if not attempts else None
            if known is None or len(known[0].indices) >= keys_per_find_max:
                replicas = self._router.candidates(chain)
                node = attempts.choose_node(index, replicas, open_requests)
                if node is None:
                    attempts.on_refusal(index, chain, None, Code.NOT_SERVING, f"nobody serves chain {chain}")
                    continue
                request = open_requests.get(node)
                if request is None or len(request.indices) >= keys_per_find_max:
                    request = open_requests[node] = _NodeFindRequest(node, self._router)
                    requests.append(request)
                known = memo[chain] = (request, replicas.version)
            request, version = known
            request.indices.append(index)
            request.chains.append(chain)
            request.versions.append(version)
        return requests

    async def _send_all(self, requests: list[_NodeFindRequest]) -> None:
        await send_windowed(requests, len(requests), self)

    # --- the requests' handler (`RequestHandler`) ---------------------------------------------------------------------

    def send(self, request: _NodeFindRequest) -> None:
        """All requests of a call are under way at once: they are small."""
        keys = self._keys
        chunks = [keys[index][0] for index in request.indices]
        message = find_request_to_pb(chunks, request.chains, request.versions, self._following)
        self._router.start(request, STORAGE.Find, message, None, read_attempt_ns, self._deadline)

    def on_reply(self, request: _NodeFindRequest, reply: Reply) -> None:
        """Each key has its outcome, or was refused."""
        codes, lengths = find_reply_from_pb(reply.message, len(request.indices))
        self._router.note_routing_version(routing_version_of(reply.message))
        self._router.choice.on_succeeded(request.node)
        outcomes = self._outcomes
        attempts = self._attempts
        found = found_chunks_from_pb(reply.message, len(codes)) if self._following else None
        for at, (index, code, length) in enumerate(zip(request.indices, codes, lengths, strict=True)):
            if code in _FOUND_OR_NOT:
                chunk = ChunkId(found[at]) if found is not None else _NO_CHUNK
                outcomes[index] = _NOT_FOUND if code else FindOutcome(Code.OK, length, chunk=chunk)
                if attempts:
                    attempts.on_answer(index)
            else:
                attempts.on_refusal(index, self._keys[index][1], request.node, Code.from_wire(code))

    def on_error(self, request: _NodeFindRequest, failure: FS3Error) -> None:
        """All of its keys were refused."""
        self._router.on_failure(request.node, failure)
        for index in request.indices:
            self._attempts.on_refusal(index, self._keys[index][1], request.node, failure.code, failure.strerror or "")

    def on_end(self, request: _NodeFindRequest) -> None:
        """Its node is watched no longer."""
        self._router.liveness.end(request)
