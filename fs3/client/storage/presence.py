"""Which of thousands of chunks are there, and how long they are: one request per node, bits for an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, NodeId
from fs3.base.limits import keys_per_find_max, read_attempt_ns
from fs3.base.status import Code
from fs3.client.storage.finds import FindCall, Refusal
from fs3.client.storage.node_request import NodeRequest, ReplicaHealth, send_windowed
from fs3.client.storage.router import ReplicaRouter
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.wire.methods import STORAGE
from fs3.wire.storage import routing_version_of
from fs3.wire.storage_presence import ContainsColumns, contains_reply_from_pb, contains_request_to_pb


class ChunkPresence(NamedTuple):
    """Which of many chunks are there."""

    lengths: list[int]
    """Per chunk its length; 0: it is not there, or has no bytes, or nothing is known of it."""
    failures: dict[int, Code]
    """Of which nothing is known, by index, and why; usually none."""


class PresenceRequest(NodeRequest):
    """One request at one node: the chunks of some chains, by their index in the call."""

    __slots__ = ("indices", "local_places", "versions")
    chains: list[int]

    def __init__(self, node: NodeId, health: ReplicaHealth) -> None:
        super().__init__(node, [], health)
        self.versions: list[int] = []
        """Of each of `chains`."""
        self.local_places: dict[int, int] = {}
        """Place of a chain in the call -> in `chains`."""
        self.indices: list[int] = []

    def add_chain(self, place: int, chain: ChainId, version: int) -> None:
        """The node is asked about chunks of this chain."""
        self.local_places[place] = len(self.chains)
        self.chains.append(chain)
        self.versions.append(version)

    def columns(self, chunks: Sequence[ChunkId], places: Sequence[int]) -> ContainsColumns:
        """The question, of the chunks of the call and their places in it."""
        indices, local = self.indices, self.local_places
        local_places = [local[places[index]] for index in indices]
        return ContainsColumns([chunks[index] for index in indices], local_places, self.chains, self.versions)


class PresenceCall:
    """One call of `StorageClient.contains`. What the first node asked does not answer is for `FindCall` to go on from."""

    def __init__(
        self,
        router: ReplicaRouter,
        clock: Clock,
        chunks: Sequence[ChunkId],
        places: Sequence[int],
        chains: Sequence[ChainId],
        deadline: int,
    ) -> None:
        self._router = router
        self._clock = clock
        self._chunks = chunks
        self._places = places
        self._chains = chains
        self._deadline = deadline
        self._lengths = [0] * len(chunks)
        self._failures: dict[int, Code] = {}
        self._refusals: dict[int, Refusal] = {}

    async def run(self) -> ChunkPresence:
        """How long each chunk is, or why nothing can be learned of it by the deadline."""
        requests = self._plan()
        await send_windowed(requests, len(requests), self)
        if self._refusals:
            await self._ask_again()
        return ChunkPresence(self._lengths, self._failures)

    def _plan(self) -> list[PresenceRequest]:
        requests: list[PresenceRequest] = []
        by_place: dict[int, PresenceRequest] = {}
        by_node: dict[NodeId, PresenceRequest] = {}
        refused: dict[int, Refusal] = {}
        now = self._clock.now()
        for place in dict.fromkeys(self._places):
            replicas = self._router.candidates(self._chains[place])
            # A node that is asked anyway saves the request to another one.
            node = next((node for node in replicas.nodes if node in by_node), None) or self._router.choice.pick(replicas, now)
            if node is None:
                refused[place] = (None, Code.NOT_SERVING, f"nobody serves chain {self._chains[place]}")
                continue
            request = by_node.get(node)
            if request is None:
                request = by_node[node] = PresenceRequest(node, self._router)
                requests.append(request)
            by_place[place] = request
            request.add_chain(place, self._chains[place], replicas.version)
        if len(requests) == 1 and not refused:
            requests[0].indices = list(range(len(self._places)))
        else:
            add = {place: request.indices.append for place, request in by_place.items()}
            for index, place in enumerate(self._places):
                if place in add:
                    add[place](index)
                else:
                    self._refusals[index] = refused[place]
        return split_long(requests)

    async def _ask_again(self) -> None:
        left = sorted(self._refusals)
        keys = [(self._chunks[index], self._chains[self._places[index]]) for index in left]
        call = FindCall(self._router, self._clock, keys, self._deadline)
        outcomes = await call.run([self._refusals[index] for index in left])
        for index, outcome in zip(left, outcomes, strict=True):
            if outcome.code is Code.OK:
                self._lengths[index] = outcome.length
            elif outcome.code is not Code.NOT_FOUND:
                self._failures[index] = outcome.code

    # --- the requests' handler (`RequestHandler`) ---------------------------------------------------------------------

    def send(self, request: PresenceRequest) -> None:
        """All requests of a call are under way at once: they are small."""
        columns = request.columns(self._chunks, self._places)
        self._router.start(request, STORAGE.Contains, contains_request_to_pb(columns), None, read_attempt_ns, self._deadline)

    def on_reply(self, request: PresenceRequest, reply: Reply) -> None:
        """Each chunk is there or not, or was refused."""
        indices = request.indices
        answer = contains_reply_from_pb(reply.message, len(indices))
        self._router.note_routing_version(routing_version_of(reply.message))
        self._router.choice.on_succeeded(request.node)
        lengths = self._lengths
        if len(indices) == len(lengths):  # all of a call, in order, as usual
            lengths[:] = answer.lengths
        else:
            for index, length in zip(indices, answer.lengths, strict=True):
                lengths[index] = length
        for at, code in answer.refused:
            self._refusals[indices[at]] = (request.node, Code.from_wire(code), "")

    def on_error(self, request: PresenceRequest, failure: FS3Error) -> None:
        """All of its chunks were refused."""
        self._router.on_failure(request.node, failure)
        refusal = (request.node, failure.code, failure.strerror or "")
        for index in request.indices:
            self._refusals[index] = refusal

    def on_end(self, request: PresenceRequest) -> None:
        """Its node is watched no longer."""
        self._router.liveness.end(request)


R = TypeVar("R", bound=PresenceRequest)


def split_long(requests: Sequence[R]) -> list[R]:
    """The same requests, each of at most `keys_per_find_max` chunks: to the same node for the same chains."""
    parts = []
    for request in requests:
        if len(request.indices) <= keys_per_find_max:
            parts.append(request)
            continue
        for begin in range(0, len(request.indices), keys_per_find_max):
            part = type(request)(request.node, request.health)
            part.chains, part.versions, part.local_places = request.chains, request.versions, request.local_places
            part.indices = request.indices[begin : begin + keys_per_find_max]
            parts.append(part)
    return parts
