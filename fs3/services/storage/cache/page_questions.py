"""What only the head of a page's chain answers: lookups with a lease, pins, touches.

It decides what is evicted, so it alone can promise that a page stays. A page *at rest* is committed here, with nothing pending
and no eviction begun. Any other is a miss to who wants a lease: what is being removed must not be promised, and what is being
stored need not be. All of a request is answered in one turn of the loop, so nothing is decided between the look and the lease.

None of these is a read, and none renews anything of what was there before: a page that is only looked up goes when its time has
come, however often that is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, TargetId, page_namespace
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.core.craq.position import ChainRole
from fs3.model.chunk import ChunkMeta
from fs3.model.page_usage import PinKind
from fs3.ports.rpc import Call
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_map import TargetMap
from fs3.wire.storage_pages import (
    LeaseAnswer,
    lease_reply_to_pb,
    lease_request_from_pb,
    pin_reply_to_pb,
    pin_request_from_pb,
    release_reply_to_pb,
    release_request_from_pb,
    touch_reply_to_pb,
    touch_request_from_pb,
)
from fs3.wire.storage_presence import ContainsColumns, Presence

PageAction: TypeAlias = "Callable[[CacheKeeper, ChunkId, int], Code]"
"""Does something to a page that is here, given its length as stored."""


class _Gate(NamedTuple):
    """What holds for every page of one chain."""

    code: Code
    """OK, or why nothing is said."""
    get: Callable[[Any], ChunkMeta | None]
    leaving: Collection[ChunkId]
    """Pages whose eviction has begun."""


class PageFacts(NamedTuple):
    """What a node can say of the pages of one request."""

    lengths: list[int]
    """Per page, as stored; 0: it is not here at rest, or refused."""
    refused: list[tuple[int, int]]
    """(index, code) of those of which nothing is said."""


class PageQuestions:
    """Handlers of Lease, Release, Pin and TouchPages."""

    def __init__(self, targets: TargetMap, keepers: Mapping[TargetId, CacheKeeper], context: NodeContext) -> None:
        """`keepers`: of the targets that are open."""
        self._by_chain = targets.by_chain
        self._keepers = keepers
        self._context = context
        self._clock = context.clock
        self._leases = context.page_leases
        self._statistics = context.cache_statistics

    def lease(self, call: Call) -> None:
        """The handler of Lease."""
        try:
            columns = lease_request_from_pb(call.request)
        except FS3Error as wrong:
            self._fail(call, wrong)
            return
        lengths, refused = self._look(columns)
        chunks: Any = columns.chunks
        here = chunks if 0 not in lengths else [chunk for chunk, length in zip(chunks, lengths, strict=True) if length]
        now = self._clock.now()
        leased = not here or self._leases.grant(call.request.lease_id, here, call.request.lease_ms * MILLISECOND, now)
        self._statistics.count_lookup(chunks, lengths)
        if here:
            counters = self._statistics.of(page_namespace(here[0]))
            if leased:
                counters.leases += 1
                counters.leased_pages += len(here)
            counters.leases_refused += not leased
        answer = LeaseAnswer(Presence(lengths, refused), leased)
        call.reply(lease_reply_to_pb(answer, routing_version=self._context.routing_version))

    def release(self, call: Call) -> None:
        """The handler of Release."""
        try:
            lease_ids = release_request_from_pb(call.request)
        except FS3Error as wrong:
            self._fail(call, wrong)
            return
        call.reply(release_reply_to_pb(sum(map(self._leases.release, lease_ids))))

    def pin(self, call: Call) -> None:
        """The handler of Pin."""
        try:
            columns, kind = pin_request_from_pb(call.request)
        except FS3Error as wrong:
            self._fail(call, wrong)
            return
        duration_ns = call.request.pin_ms * MILLISECOND
        now = self._clock.now()

        def pin(keeper: CacheKeeper, chunk: ChunkId, length: int) -> Code:
            pins = keeper.records.pins
            if kind is PinKind.NONE:
                pins.unpin(chunk)
                return Code.OK
            budget = self._find_pin_budget(keeper, page_namespace(chunk)) if kind is PinKind.HARD else 0
            if budget is None:
                return Code.BUSY
            code = pins.pin(chunk, length, now, duration_ns=duration_ns, hard=kind is PinKind.HARD, budget_bytes=budget)
            if code is Code.NO_SPACE:
                self._statistics.of(page_namespace(chunk)).pins_refused += 1
            return code

        codes = self._do_each(columns, pin)
        call.reply(pin_reply_to_pb(codes, routing_version=self._context.routing_version))

    def touch(self, call: Call) -> None:
        """The handler of TouchPages."""
        try:
            columns = touch_request_from_pb(call.request)
        except FS3Error as wrong:
            self._fail(call, wrong)
            return

        def touch(keeper: CacheKeeper, chunk: ChunkId, length: int) -> Code:
            keeper.note_reads((chunk,))
            return Code.OK

        codes = self._do_each(columns, touch)
        call.reply(touch_reply_to_pb(codes, routing_version=self._context.routing_version))

    def _find_pin_budget(self, keeper: CacheKeeper, namespace_id: int) -> int | None:
        """What hard pins of a namespace may take on a target. None: not known here yet."""
        namespace = self._context.namespaces.get(namespace_id)
        if namespace is None:
            return 0 if self._context.namespaces.is_deleted(namespace_id) else None
        return keeper.room.source.share_of(namespace_id, namespace.pin_bytes)

    def _do_each(self, columns: ContainsColumns, action: PageAction) -> list[int]:
        """Do something to each page that is here. The codes: its own, NOT_FOUND, or why the page is refused."""
        lengths, refused = self._look(columns)
        codes = [int(Code.NOT_FOUND)] * len(lengths)
        for index, length in enumerate(lengths):
            if length:
                shell = self._by_chain[ChainId(columns.chains[columns.places[index]])]
                codes[index] = int(action(self._keepers[shell.target], ChunkId(columns.chunks[index]), length))
        for index, code in refused:
            codes[index] = code
        return codes

    def _look(self, columns: ContainsColumns) -> PageFacts:
        """What is here at rest."""
        now = self._clock.now()
        asked: list[TargetShell] = []
        pairs = zip(columns.chains, columns.chain_versions, strict=True)
        gates = [self._gate(chain, version, now, asked) for chain, version in pairs]
        facts = _look_all(columns, gates) or _look_each(columns, gates)
        # As for reads (see `services.storage.reads`): the lease must still be running once everything has been looked up.
        now = self._clock.now()
        if any(now >= shell.lease_until() for shell in asked):
            return PageFacts([0] * len(columns.chunks), [(index, int(Code.LEASE)) for index in range(len(columns.chunks))])
        return facts

    def _gate(self, chain: int, version: int, now: int, asked: list[TargetShell]) -> _Gate:
        """What holds for every page of a chain that is asked for under a version. The target is added to `asked`."""
        shell = self._by_chain.get(ChainId(chain))
        if shell is None:
            return _Gate(Code.NO_SUCH_TARGET, _nothing, ())
        asked.append(shell)
        code, _ = shell.read_gate(version, now)
        keeper = self._keepers.get(shell.target)
        if keeper is None:
            return _Gate(Code.NOT_SERVING, _nothing, ())
        if code is Code.OK and shell.replica.position.role is not ChainRole.HEAD:
            code = Code.NOT_HEAD
        return _Gate(code, shell.store.get, keeper.cache.leaving)

    def _fail(self, call: Call, wrong: FS3Error) -> None:
        call.fail(wrong.code, wrong.strerror or "", self._context.routing_version)


def _look_all(columns: ContainsColumns, gates: Sequence[_Gate]) -> PageFacts | None:
    """What is here at rest when every chain may be asked and no page is on its way out, as nearly always. None: the pages are to
    be looked at one by one."""
    if any(gate.code is not Code.OK or gate.leaving for gate in gates):
        return None
    gets = [gate.get for gate in gates]
    try:
        metas = [gets[place](chunk) for chunk, place in zip(columns.chunks, columns.places, strict=True)]
    except FS3Error:
        return None  # some of them are damaged
    return PageFacts([meta.length if meta is not None and meta.committed and not meta.pending else 0 for meta in metas], [])


def _look_each(columns: ContainsColumns, gates: Sequence[_Gate]) -> PageFacts:
    """What is here at rest, and what is refused."""
    ok = Code.OK
    lengths: list[int] = []
    refused: list[tuple[int, int]] = []
    for index, (chunk, place) in enumerate(zip(columns.chunks, columns.places, strict=True)):
        code, get, leaving = gates[place]
        if code is ok:
            try:
                meta = get(chunk)
            except FS3Error as damaged:
                code = damaged.code
            else:
                if meta is not None and meta.committed and not meta.pending and chunk not in leaving:
                    lengths.append(meta.length)
                else:
                    lengths.append(0)
                continue
        lengths.append(0)
        refused.append((index, int(code)))
    return PageFacts(lengths, refused)


def _nothing(chunk: Any) -> ChunkMeta | None:
    return None
