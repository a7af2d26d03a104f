"""Questions that only the heads of KVCache pages answer: lookups with a lease, pins, touches. One request per node.

A head that has changed is found as for updates: what was refused, or not answered, is asked again of the node that is the head by
then, until the deadline.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, ClientId, NodeId
from fs3.base.limits import read_attempt_ns
from fs3.base.status import Code
from fs3.client.storage.attempts import Attempts
from fs3.client.storage.node_request import ReplicaHealth, send_windowed
from fs3.client.storage.presence import PresenceRequest, split_long
from fs3.client.storage.router import ReplicaRouter
from fs3.model.method import Method
from fs3.model.page_usage import PinKind
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.runtime.tracing import attempting
from fs3.wire.methods import STORAGE
from fs3.wire.storage import routing_version_of
from fs3.wire.storage_pages import (
    codes_from_pb,
    lease_reply_from_pb,
    lease_request_to_pb,
    pin_request_to_pb,
    touch_request_to_pb,
)
from fs3.wire.storage_presence import ContainsColumns


class PageSet(NamedTuple):
    """The pages of one call."""

    chunks: Sequence[ChunkId]
    places: Sequence[int]
    """Of each the index of its chain in `chains`."""
    chains: Sequence[ChainId]

    def select(self, indices: Sequence[int]) -> PageSet:
        """Some of them."""
        return PageSet([self.chunks[index] for index in indices], [self.places[index] for index in indices], self.chains)

    def keys(self) -> Iterator[tuple[ChunkId, ChainId]]:
        """Each with its chain."""
        return ((chunk, self.chains[place]) for chunk, place in zip(self.chunks, self.places, strict=True))


class LeasedAt(NamedTuple):
    """A lease that may be held at a node."""

    node: NodeId
    lease_id: int


class LeaseIds:
    """Numbers for the leases of one client, that no other lease has."""

    def __init__(self, client_id: ClientId) -> None:
        self._client_id = client_id
        self._count = 0

    def next(self) -> int:
        """The next one."""
        self._count += 1
        digest = blake2b(self._count.to_bytes(8, "little"), key=self._client_id, digest_size=8).digest()
        return int.from_bytes(digest, "little")


class LeasedPresence(NamedTuple):
    """What the heads said to a lookup with a lease."""

    lengths: list[int]
    """Per page its length as stored; 0: it is not there, or nothing is known of it."""
    failures: dict[int, Code]
    """Of which nothing is known, by index, and why; usually none."""
    unleased: list[int]
    """Pages that are there and could not be leased, by index."""
    leases: list[LeasedAt]
    """To be released."""


class HeadRequest(PresenceRequest):
    """One request at one node, about pages of chains whose head it is."""

    __slots__ = ("lease_id",)

    def __init__(self, node: NodeId, health: ReplicaHealth) -> None:
        super().__init__(node, health)
        self.lease_id = 0


class HeadCall(ABC):
    """One call about pages; a subclass says what is asked and what an answer means."""

    def __init__(self, router: ReplicaRouter, clock: Clock, pages: PageSet, deadline: int) -> None:
        self._router = router
        self._clock = clock
        self._pages = pages
        self._deadline = deadline
        self._attempts = Attempts(router, clock, deadline, read=False)
        self.failures: dict[int, Code] = {}
        """Of pages of which nothing is known: why."""

    async def run(self) -> None:
        """Ask until every page has its answer, or the deadline has come."""
        await self._send_all(range(len(self._pages.chunks)))
        while self._attempts:
            step = await self._attempts.next_round()
            for index, code, _ in (*step.refused, *step.expired):
                self.failures[index] = code
            if not step.again:
                return
            with attempting(step.attempt):
                await self._send_all(step.again)

    async def _send_all(self, indices: Sequence[int]) -> None:
        requests = self._plan(indices)
        await send_windowed(requests, len(requests), self)

    def _plan(self, indices: Sequence[int]) -> list[HeadRequest]:
        chains = self._pages.chains
        places = self._pages.places
        if len(indices) < len(places):
            places = [places[index] for index in indices]
        by_node: dict[NodeId, HeadRequest] = {}
        by_place: dict[int, list[int]] = {}
        unserved: list[int] = []
        for place in dict.fromkeys(places):
            replicas = self._router.candidates(chains[place])
            if not replicas.nodes:
                by_place[place] = unserved
                continue
            node = replicas.nodes[0]
            request = by_node.get(node)
            if request is None:
                request = by_node[node] = HeadRequest(node, self._router)
            request.add_chain(place, chains[place], replicas.version)
            by_place[place] = request.indices
        add = {place: among.append for place, among in by_place.items()}
        for index, place in zip(indices, places, strict=True):
            add[place](index)
        for index in unserved:
            self._attempts.on_refusal(index, self._chain(index), None, Code.NOT_SERVING)
        return split_long(list(by_node.values()))

    @abstractmethod
    def make_request(self, request: HeadRequest, columns: ContainsColumns) -> tuple[Method, Any]:
        """The method and its message."""

    @abstractmethod
    def take_answer(self, request: HeadRequest, reply: Reply) -> list[tuple[int, Code]]:
        """The node has answered. What it refused: (index, code). Raises FS3Error for an answer that makes no sense."""

    # --- the requests' handler (`RequestHandler`) ---------------------------------------------------------------------

    def send(self, request: HeadRequest) -> None:
        """All requests of a call are under way at once: they are small."""
        columns = request.columns(self._pages.chunks, self._pages.places)
        left = self._router.time_left(self._deadline)
        method, message = self.make_request(request, columns)
        request.future = self._router.channel(request.node).start(method, message, timeout_ns=min(left, read_attempt_ns))

    def on_reply(self, request: HeadRequest, reply: Reply) -> None:
        """Each page has its answer, or was refused."""
        refused = self.take_answer(request, reply)
        self._router.choice.on_succeeded(request.node)
        if self._attempts:
            for index in set(request.indices).difference([index for index, _ in refused]):
                self._attempts.on_answer(index)
        for index, code in refused:
            self._attempts.on_refusal(index, self._chain(index), request.node, code)

    def on_error(self, request: HeadRequest, failure: FS3Error) -> None:
        """All of its pages were refused."""
        self._router.on_failure(request.node, failure)
        for index in request.indices:
            self._attempts.on_refusal(index, self._chain(index), request.node, failure.code, failure.strerror or "")

    def on_end(self, request: HeadRequest) -> None:
        """Nothing was begun for it."""
        request.future = None

    def _chain(self, index: int) -> ChainId:
        return self._pages.chains[self._pages.places[index]]


class LeaseCall(HeadCall):
    """One call of `StorageClient.lease`."""

    def __init__(
        self,
        router: ReplicaRouter,
        clock: Clock,
        pages: PageSet,
        deadline: int,
        lease_ms: int,
        lease_ids: LeaseIds,
    ) -> None:
        super().__init__(router, clock, pages, deadline)
        self._lease_ms = lease_ms
        self._lease_ids = lease_ids
        self.lengths = [0] * len(pages.chunks)
        self.unleased: list[int] = []
        self.leases: list[LeasedAt] = []

    def make_request(self, request: HeadRequest, columns: ContainsColumns) -> tuple[Method, Any]:
        """Under an id of its own: whatever becomes of the answer, that can be released."""
        request.lease_id = self._lease_ids.next()
        self.leases.append(LeasedAt(request.node, request.lease_id))
        return STORAGE.Lease, lease_request_to_pb(columns, request.lease_id, self._lease_ms)

    def take_answer(self, request: HeadRequest, reply: Reply) -> list[tuple[int, Code]]:
        """Lengths, or refusals."""
        indices = request.indices
        (lengths, refused), leased = lease_reply_from_pb(reply.message, len(indices))
        self._router.note_routing_version(routing_version_of(reply.message.pages))
        for index, length in zip(indices, lengths, strict=True):
            self.lengths[index] = length
        if not leased:
            self.unleased += [index for index, length in zip(indices, lengths, strict=True) if length]
        return [(indices[at], Code.from_wire(code)) for at, code in refused]

    def outcome(self) -> LeasedPresence:
        """Of a call that has ended."""
        return LeasedPresence(self.lengths, self.failures, self.unleased, self.leases)


class PinCall(HeadCall):
    """One call of `StorageClient.pin`, and of `touch_pages`."""

    def __init__(
        self, router: ReplicaRouter, clock: Clock, pages: PageSet, deadline: int, pin: tuple[PinKind, int] | None
    ) -> None:
        """`pin`: the kind and for how many milliseconds; None touches the pages."""
        super().__init__(router, clock, pages, deadline)
        self._pin = pin
        self._codes = [Code.OK] * len(pages.chunks)

    def make_request(self, request: HeadRequest, columns: ContainsColumns) -> tuple[Method, Any]:
        """As asked."""
        if self._pin is None:
            return STORAGE.TouchPages, touch_request_to_pb(columns)
        return STORAGE.Pin, pin_request_to_pb(columns, *self._pin)

    def take_answer(self, request: HeadRequest, reply: Reply) -> list[tuple[int, Code]]:
        """Codes, some of which are refusals."""
        codes = codes_from_pb(reply.message, len(request.indices))
        self._router.note_routing_version(routing_version_of(reply.message))
        refused = []
        for index, number in zip(request.indices, codes, strict=True):
            code = Code.from_wire(number)
            self._codes[index] = code
            if code not in _ANSWERS:
                refused.append((index, code))
        return refused

    def outcome(self) -> list[Code]:
        """Of a call that has ended: OK, NOT_FOUND, NO_SPACE, or why it is not known."""
        return [self.failures.get(index, code) for index, code in enumerate(self._codes)]


_ANSWERS = (Code.OK, Code.NOT_FOUND, Code.NO_SPACE)
