"""Reads of chunks: planned into one request per node, received into the callers' buffers, verified, tried elsewhere."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain as flatten
from itertools import pairwise, repeat
from typing import Any, NamedTuple

import msgspec
from crc32c import crc32c

from fs3.base.checksum import checksums_in_slices
from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, NodeId
from fs3.base.limits import ios_per_read_max, read_attempt_ns, read_frame_bytes, slow_ns_per_byte
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.base.views import first_bytes
from fs3.client.storage.attempts import Attempts
from fs3.client.storage.node_request import NodeRequest, ReplicaHealth, send_windowed
from fs3.client.storage.router import ReplicaRouter
from fs3.core.craq.block_lease import is_within_block_lease
from fs3.core.files.read_grants import bulk_read_bytes
from fs3.core.files.read_plan import Buffers, ReadIO, buffer_bytes
from fs3.core.files.replica_selector import ReplicaSelector
from fs3.ports.clock import Clock
from fs3.ports.rpc import FlatBuffers, Reply
from fs3.runtime.bulk_work import bulk_slice_bytes, bulk_work_of
from fs3.runtime.tracing import attempting
from fs3.wire.methods import STORAGE
from fs3.wire.storage import (
    ReadReplyColumns,
    ReadRequestColumns,
    block_lease_of,
    read_reply_from_pb,
    read_request_to_pb,
    routing_version_of,
)

read_requests_max = 8
"""Requests one call has under way at once."""

COALESCE_BYTES = 512 * KIB
"""While a request holds less, further chains of the call join it when its node serves them: a request costs more than they do."""

ONE_NODE_BYTES = 1 * MIB
"""A call of many small IOs that asks for no more than this is one node's, if that serves them all."""

OVERLAP_IOS_MIN = 64
"""A call of at least twice as many goes to an idle node as two requests: one is served while the other is made, or verified."""
_OK = Code.OK
_NOT_FOUND = Code.NOT_FOUND


class ReadOutcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one read. NOT_FOUND: the chunk does not exist; `length` below the buffer's: it ends earlier. CHECKSUM: no
    replica that was asked could give the bytes."""

    code: Code
    length: int = 0
    version: int = 0
    message: str = ""
    is_lost: bool = False
    """With CHECKSUM: every replica of the chain, serving or not, has said that its own copy is damaged. Without it a replica that
    could not be asked may have the bytes."""


class ReadRefusal(NamedTuple):
    """What a node answered that is not the end of an IO."""

    node: NodeId
    code: Code
    message: str


class ReadCounters:
    """What a client's reads met, for status pages and tests."""

    def __init__(self) -> None:
        self.ios = 0
        self.bytes = 0
        self.requests = 0
        self.retries = 0
        self.checksum_mismatches = 0
        """Pieces that arrived with other bytes than their checksum says, each then read elsewhere."""
        self.direct = 0
        """Reads of blocking callers that did without the event loop; `ios`, `bytes` and `requests` do not count them."""
        self.late = 0
        """Unverified replies whose bytes came after their block lease had run out, and were read again with checksums."""


def late_message(node: NodeId, lease_ms: int) -> str:
    """Why an unverified reply is not taken."""
    return f"bytes from node {node} came later than the {lease_ms} ms within which they need no checksum"


class _NodeReadRequest(NodeRequest):
    """One request under way."""

    __slots__ = (
        "answer",
        "buffers",
        "bytes",
        "corrupt",
        "indices",
        "ios",
        "lengths",
        "plain",
        "reported_bytes",
        "sent_at",
        "verify",
        "versions",
    )  # fmt: skip
    chains: list[int]

    def __init__(self, node: NodeId, ios: Sequence[ReadIO], verify: bool, health: ReplicaHealth) -> None:
        super().__init__(node, [], health)
        self.ios = ios
        self.verify = verify
        self.indices: list[int] = []
        self.versions: list[int] = []
        self.lengths: list[int] = []
        self.bytes = 0
        self.reported_bytes = 0
        """Of `bytes`, what the choice of targets knows of."""
        self.plain = True
        """Every IO has one buffer."""
        self.answer: ReadReplyColumns | None = None
        self.buffers: tuple[memoryview, ...] = ()
        """Of all IOs, in order, once it was answered in full."""
        self.sent_at = 0
        """Or earlier."""
        self.corrupt: set[int] | None = None
        """Places of the IOs whose bytes are not what the replica says it sent; None: they were not verified yet."""

    @property
    def is_bulk(self) -> bool:
        """See `NodeRequest.is_bulk`."""
        return self.bytes >= bulk_read_bytes

    async def prepare(self) -> None:
        """Verify what arrived, in slices while short reads are under way."""
        work = bulk_work_of(asyncio.get_running_loop())
        if self.verify and self.answer is not None and work.is_sliced:
            for _ in self.verify_in_slices(at_once=False):
                if work.is_sliced:
                    await work.turn()

    def has_room(self, length: int) -> bool:
        """One more IO of `length` bytes may join."""
        return self.bytes + length <= read_frame_bytes and len(self.indices) < ios_per_read_max

    def report_load(self, choice: ReplicaSelector) -> None:
        """Let the next choice know what this node is asked for."""
        if self.bytes > self.reported_bytes:
            choice.on_sent(self.node, self.bytes - self.reported_bytes)
            self.reported_bytes = self.bytes

    def columns(self) -> ReadRequestColumns:
        """What is asked for."""
        ios = self.ios
        indices = self.indices
        chunks = [ios[index].chunk for index in indices]
        return ReadRequestColumns(chunks, self.chains, self.versions, [ios[index].offset for index in indices], self.lengths)

    def into(self, message: Any, payload_length: int) -> Sequence[memoryview]:
        """Where the payload goes: the buffers of the ranges that were found, shortened where a chunk ends earlier."""
        answer = self.answer = read_reply_from_pb(message, self.lengths, payload_length, self.verify)
        ios = self.ios
        if answer.lengths == self.lengths and 0 not in self.lengths:
            mine = [ios[index].buffer for index in self.indices]
            buffers: list[memoryview] = FlatBuffers(mine if self.plain else flatten.from_iterable(map(_parts_of, mine)))  # type: ignore[arg-type]
            self.buffers = tuple(buffers)
            return buffers
        buffers = []
        for index, asked, length in zip(self.indices, self.lengths, answer.lengths, strict=True):
            if length:
                buffer = ios[index].buffer
                if isinstance(buffer, tuple):
                    buffers += first_bytes(buffer, length)
                else:
                    buffers.append(buffer if length == asked else buffer[:length])
        return buffers

    def verify_in_slices(self, *, at_once: bool) -> Iterator[None]:
        """Find what is `corrupt`; yields after each slice of bulk bytes, and goes on when it is asked for the next. `at_once`: no
        slice has to wait."""
        answer = self.answer
        assert answer is not None
        ios = self.ios
        sums = answer.checksums
        corrupt = self.corrupt = set()
        buffers = self.buffers
        # Nearly every batch of small reads: what was asked for is a piece, in one buffer, or in two (a page, and what is in front
        # of it). Equal sums prove that; which piece is bad, if one is, is found out below.
        if len(sums) == len(self.indices) and (at_once or self.bytes < bulk_read_bytes):
            if len(buffers) == len(sums):
                found: Iterable[int] = map(crc32c, buffers)
            else:
                found = map(crc32c, buffers[1::2], map(crc32c, buffers[::2])) if len(buffers) == 2 * len(sums) else ()
            if list(found) == sums:
                return
        at = verified = 0
        for place, (index, length, piece) in enumerate(zip(self.indices, answer.lengths, answer.piece_bytes, strict=True)):
            if not length:
                continue
            if verified >= bulk_slice_bytes:
                verified = 0
                yield
            io = ios[index]
            buffer = io.buffer
            if io.offset % piece + length <= piece and type(buffer) is memoryview:
                if at >= len(sums) or crc32c(buffer if length == len(buffer) else buffer[:length]) != sums[at]:
                    corrupt.add(place)
                at += 1
                verified += length
                continue
            for own in checksums_in_slices(first_bytes(_parts_of(buffer), length), io.offset, piece, bulk_slice_bytes):
                if verified >= bulk_slice_bytes:
                    verified = 0
                    yield
                if own != sums[at : at + len(own)]:
                    corrupt.add(place)
                at += len(own)
                verified += min(len(own) * piece, length)


def _parts_of(buffer: Buffers) -> tuple[memoryview, ...]:
    return buffer if isinstance(buffer, tuple) else (buffer,)


class ReadCall:
    """One call of `StorageClient.read`."""

    def __init__(
        self,
        router: ReplicaRouter,
        clock: Clock,
        counters: ReadCounters,
        ios: Sequence[ReadIO],
        deadline: int,
        verify: bool,
        *,
        is_use: bool = True,
    ) -> None:
        self._router = router
        self._is_use = is_use
        self._clock = clock
        self._counters = counters
        self._ios = ios
        self._deadline = deadline
        self._verify = verify
        self._attempts = Attempts(router, clock, deadline, read=True)
        self._outcomes: list[ReadOutcome | None] = [None] * len(ios)

    async def run(self, refused: ReadRefusal | None = None) -> list[ReadOutcome]:
        """The outcome of each IO, whatever it takes until the deadline. `refused`: the first IO was asked for already."""
        if refused is not None:
            self._attempts.on_refusal(0, self._ios[0].chain, *refused)
        else:
            await self._send_all(self._plan_one() or self._plan(range(len(self._ios))))
        while self._attempts:
            step = await self._attempts.next_round()
            for index, code, message in (*step.refused, *step.expired):
                self._outcomes[index] = ReadOutcome(code, message=message, is_lost=index in step.damaged)
            self._counters.retries += len(step.again)
            if not step.again:
                break
            with attempting(step.attempt):
                await self._send_all(self._plan(step.again))
        return self._outcomes  # type: ignore[return-value]

    def _plan_one(self) -> list[_NodeReadRequest] | None:
        """Requests to one node for everything, when it is little and one node serves it all: `_plan` for the common batch, by
        columns."""
        ios = self._ios
        count = len(ios)
        if not 1 < count <= ios_per_read_max:
            return None
        buffers = [io.buffer for io in ios]
        is_plain = tuple not in set(map(type, buffers))
        lengths = list(map(len if is_plain else buffer_bytes, buffers))
        if sum(lengths) > ONE_NODE_BYTES:
            return None
        chains = [io.chain for io in ios]
        router = self._router
        choice = router.choice
        node = choice.pick(router.candidates(chains[0]), self._clock.now())
        versions = {}
        for chain in dict.fromkeys(chains):
            replicas = router.candidates(chain)
            if node not in replicas.nodes:
                return None
            versions[chain] = replicas.version
        assert node is not None
        cuts = [0, count]
        if count >= 2 * OVERLAP_IOS_MIN and not choice.is_waited_for(node):
            cuts.insert(1, count // 2)
        requests = []
        for begin, end in pairwise(cuts):
            request = _NodeReadRequest(node, ios, self._verify, router)
            request.indices = list(range(begin, end))
            request.chains = chains[begin:end]  # type: ignore[assignment]
            request.versions = [versions[chain] for chain in request.chains]  # type: ignore[index]
            request.lengths = lengths[begin:end]
            request.bytes = sum(request.lengths)
            request.plain = is_plain
            request.report_load(choice)
            requests.append(request)
        return requests

    def _plan(self, indices: Iterable[int]) -> list[_NodeReadRequest]:
        """Requests for these IOs. One whose chain no node serves is refused at once."""
        ios = self._ios
        attempts = self._attempts
        choice = self._router.choice
        requests: list[_NodeReadRequest] = []
        open_requests: dict[NodeId, _NodeReadRequest] = {}
        memo: dict[ChainId, tuple[_NodeReadRequest, int]] = {}
        retry = bool(attempts)
        # What is read again is verified, whatever the caller wants: one cause is bytes that came too late to be taken without.
        verify = self._verify or retry
        for index in indices:
            io = ios[index]
            buffer = io.buffer
            plain = type(buffer) is memoryview
            length = len(buffer) if plain else buffer_bytes(buffer)
            chain = io.chain
            known = memo.get(chain)
            if known is not None and known[0].bytes + length <= read_frame_bytes and len(known[0].indices) < ios_per_read_max:
                request, version = known
            else:
                for request in requests:
                    request.report_load(choice)
                replicas = self._router.candidates(chain)
                version = replicas.version
                small = {node for node, request in open_requests.items() if request.bytes + length <= COALESCE_BYTES}
                node = attempts.choose_node(index, replicas, small)
                if node is None:
                    attempts.on_refusal(index, chain, None, Code.NOT_SERVING, f"nobody serves chain {chain}")
                    continue
                found = open_requests.get(node)
                if found is None or not found.has_room(length):
                    found = open_requests[node] = _NodeReadRequest(node, ios, verify, self._router)
                    requests.append(found)
                request = found
                if not retry:
                    memo[chain] = (request, version)
            request.indices.append(index)
            request.chains.append(chain)
            request.versions.append(version)
            request.lengths.append(length)
            request.bytes += length
            if not plain:
                request.plain = False
        for request in requests:
            request.report_load(choice)
        return requests

    async def _send_all(self, requests: list[_NodeReadRequest]) -> None:
        await send_windowed(requests, read_requests_max, self)

    # --- the requests' handler (`RequestHandler`) ---------------------------------------------------------------------

    def send(self, request: _NodeReadRequest) -> None:
        """Receives into the IOs' buffers; the patience grows with what may be ahead of it on the wire."""
        self._counters.requests += 1
        message = read_request_to_pb(request.columns(), request.verify, is_use=self._is_use)
        patience = read_attempt_ns + read_requests_max * request.bytes * slow_ns_per_byte
        if request.bytes < bulk_read_bytes:
            request.sent_at = self._clock.now()
            self._router.start(request, STORAGE.Read, message, request.into, patience, self._deadline)
            sent_at = request.sent_at
            self._router.hedger.begin(request, request.bytes, message, request.into, sent_at, sent_at + patience)
            return

        def begin(timeout_ns: int) -> asyncio.Future[Reply]:
            request.sent_at = self._clock.now()
            return request.channel.start(STORAGE.Read, message, (), request.into, timeout_ns)

        self._router.start_bulk(request, request.bytes, begin, patience, self._deadline)

    def on_reply(self, request: _NodeReadRequest, reply: Reply) -> None:
        """Each IO has its outcome, or was refused."""
        self._router.note_routing_version(routing_version_of(reply.message))
        self._router.choice.on_succeeded(request.node)
        outcomes = self._outcomes
        counters = self._counters
        attempts = self._attempts
        answer = request.answer
        assert answer is not None
        lease_ms = None if request.verify else block_lease_of(reply.message)
        if lease_ms is not None and not is_within_block_lease(request.sent_at, self._clock.now(), lease_ms):
            counters.late += 1
            for index in request.indices:
                attempts.on_refusal(index, self._ios[index].chain, request.node, Code.BUSY, late_message(request.node, lease_ms))
            return
        if request.verify and request.corrupt is None:
            deque(request.verify_in_slices(at_once=True), 0)
        bad = request.corrupt or ()
        counters.bytes += sum(answer.lengths)
        retry = bool(attempts)
        if not bad and not retry and not any(answer.codes):
            found = list(map(ReadOutcome, repeat(_OK), answer.lengths, answer.versions))
            indices = request.indices
            if indices[-1] - indices[0] == len(indices) - 1:  # they rise
                outcomes[indices[0] : indices[-1] + 1] = found
            else:
                for index, outcome in zip(indices, found, strict=True):
                    outcomes[index] = outcome
            return
        columns = zip(request.indices, answer.codes, answer.lengths, answer.versions, strict=True)
        for place, (index, code, length, version) in enumerate(columns):
            if code == _OK and place not in bad:
                outcomes[index] = ReadOutcome(_OK, length, version)
            elif code == _NOT_FOUND:
                outcomes[index] = ReadOutcome(_NOT_FOUND)
            elif code == _OK:
                counters.checksum_mismatches += 1
                io = self._ios[index]
                self._router.report_bad(request.node, io.chunk, io.chain)
                why = f"bytes from node {request.node} fail verification"
                attempts.on_refusal(index, io.chain, request.node, Code.CHECKSUM, why)
                continue
            else:
                is_damaged = code == Code.CHECKSUM
                attempts.on_refusal(index, self._ios[index].chain, request.node, Code.from_wire(code), is_damaged=is_damaged)
                continue
            if retry:
                attempts.on_answer(index)

    def on_error(self, request: _NodeReadRequest, failure: FS3Error) -> None:
        """All of its IOs were refused."""
        self._router.on_failure(request.node, failure)
        for index in request.indices:
            self._attempts.on_refusal(index, self._ios[index].chain, request.node, failure.code, failure.strerror or "")

    def on_end(self, request: _NodeReadRequest) -> None:
        """Its node is watched no longer, and owes nothing more."""
        self._router.hedger.end(request, is_answered=request.answer is not None)
        self._router.liveness.end(request)
        self._router.choice.on_answered(request.node, request.bytes)
