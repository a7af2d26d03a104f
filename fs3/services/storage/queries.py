"""What others may ask about the chunks of a node without reading them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, TargetId
from fs3.base.status import Code
from fs3.core.craq.reads import answer
from fs3.model.chunk import ChunkMeta
from fs3.model.upkeep import ChunkRow, TargetSpace
from fs3.ports.rpc import Call
from fs3.services.storage.find_next import find_next
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_map import TargetMap
from fs3.wire.storage import find_reply_to_pb, find_request_from_pb
from fs3.wire.storage_presence import Presence, contains_reply_to_pb, contains_request_from_pb
from fs3.wire.storage_upkeep import chunk_page_to_pb, list_request_from_pb, space_reply_to_pb

_Gate = tuple[Code, bool, Callable[[Any], ChunkMeta | None]]
"""(OK or why none is served, `reads.pending_is_dirty`, what looks a chunk up)."""


class Queries:
    """Handlers of Find, Contains, ListChunks and GetSpace."""

    def __init__(self, targets: TargetMap, context: NodeContext) -> None:
        self._by_id = targets.by_id
        self._by_chain = targets.by_chain
        self._context = context
        self._clock = context.clock

    def find(self, call: Call) -> None:
        """The handler of Find: a dictionary look-up per key, no disk; with `following` a look into the index instead."""
        try:
            chunks, chains, versions = find_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._context.routing_version)
            return
        if call.request.following:
            following = find_next(chunks, chains, versions, self._by_chain, self._clock)
            call.reply(find_reply_to_pb(*following, routing_version=self._context.routing_version))
            return
        now = self._clock.now()
        asked: list[TargetShell] = []
        gates: dict[tuple[int, int], _Gate] = {}
        ok = Code.OK
        codes = []
        lengths = []
        for chunk, chain, version in zip(chunks, chains, versions, strict=True):
            gate = gates.get((chain, version))
            if gate is None:
                gate = gates[chain, version] = self._gate(chain, version, now, asked)
            code_now, pending_is_dirty, get = gate
            length = 0
            if code_now is ok:
                try:
                    meta = get(chunk)
                except FS3Error as damaged:
                    codes.append(int(damaged.code))
                    lengths.append(0)
                    continue
                code_now = answer(meta, pending_is_dirty)
                if meta is not None and code_now is ok:
                    length = meta.length
            codes.append(code_now)
            lengths.append(length)
        if self._has_lost_lease(asked):
            codes = [int(Code.LEASE)] * len(codes)
            lengths = [0] * len(codes)
        call.reply(find_reply_to_pb(codes, lengths, routing_version=self._context.routing_version))

    def contains(self, call: Call) -> None:
        """The handler of Contains: as `find`, with an answer that is short when the chunks have one length."""
        try:
            chunks, places, chains, versions = contains_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._context.routing_version)
            return
        now = self._clock.now()
        asked: list[TargetShell] = []
        gates = [self._gate(chain, version, now, asked) for chain, version in zip(chains, versions, strict=True)]
        ok = Code.OK
        not_found = Code.NOT_FOUND
        lengths = []
        refused = []
        for index, (chunk, place) in enumerate(zip(chunks, places, strict=True)):
            code, pending_is_dirty, get = gates[place]
            if code is ok:
                try:
                    meta = get(chunk)
                except FS3Error as damaged:
                    code = damaged.code
                else:
                    # Of a chunk at rest `answer` is OK; it is not called a thousand times to say so.
                    code = ok if meta is not None and meta.committed and not meta.pending else answer(meta, pending_is_dirty)
                    if code is ok:
                        lengths.append(meta.length if meta is not None else 0)
                        continue
            lengths.append(0)
            if code is not not_found:
                refused.append((index, int(code)))
        if self._has_lost_lease(asked):
            lengths = [0] * len(chunks)
            refused = [(index, int(Code.LEASE)) for index in range(len(chunks))]
        self._context.cache_statistics.count_lookup(chunks, lengths)
        call.reply(contains_reply_to_pb(Presence(lengths, refused), routing_version=self._context.routing_version))

    def _gate(self, chain: int, version: int, now: int, asked: list[TargetShell]) -> _Gate:
        """What holds for every chunk of a chain that is asked for under a version. The target is added to `asked`."""
        shell = self._by_chain.get(ChainId(chain))
        if shell is None:
            return Code.NO_SUCH_TARGET, False, _nothing
        asked.append(shell)
        return *shell.read_gate(version, now), shell.store.get

    def _has_lost_lease(self, asked: list[TargetShell]) -> bool:
        """As for reads (see `reads`): the lease must still be running once everything has been looked up."""
        now = self._clock.now()
        return any(now >= shell.lease_until() for shell in asked)

    def list_chunks(self, call: Call) -> None:
        """The handler of ListChunks."""
        target = TargetId(call.request.target_id)
        shell = self._by_id.get(target)
        if shell is None:
            call.fail(Code.NO_SUCH_TARGET, f"this node has no target {target}")
            return
        try:
            after, until, limit = list_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        try:
            found = shell.store.list(after, limit + 1, until)
        except FS3Error as damaged:
            call.fail(damaged.code, damaged.strerror or "", self._context.routing_version)
            return
        bad = shell.store.bad_chunks
        rows = [
            ChunkRow(chunk, meta.committed, meta.pending, meta.chain_version, meta.length, meta.checksum, chunk in bad)
            for chunk, meta in found[:limit]
        ]
        call.reply(chunk_page_to_pb(rows, more=len(found) > limit))

    def get_space(self, call: Call) -> None:
        """The handler of GetSpace."""
        targets = []
        for target, shell in sorted(self._by_id.items()):
            space = shell.store.get_space()
            targets.append(TargetSpace(target, space.used, space.free, space.chunks, space.pinned))
        call.reply(space_reply_to_pb(targets, _resident_bytes(), self._context.buffered_bytes))


def _nothing(chunk: Any) -> ChunkMeta | None:
    return None


def _resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
