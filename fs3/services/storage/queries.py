"""What others may ask about the chunks of a node without reading them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.ids import TargetId
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
from fs3.wire.storage_upkeep import chunk_page_to_pb, list_request_from_pb, space_reply_to_pb


class Queries:
    """Handlers of Find, ListChunks and GetSpace."""

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
        gates: dict[tuple[int, int], tuple[Code, bool, Callable[[Any], ChunkMeta | None]]] = {}
        ok = Code.OK
        codes = []
        lengths = []
        for chunk, chain, version in zip(chunks, chains, versions, strict=True):
            gate = gates.get((chain, version))
            if gate is None:
                shell = self._by_chain.get(chain)
                code, dirty = shell.read_gate(version, now) if shell else (Code.NO_SUCH_TARGET, False)
                if shell is not None:
                    asked.append(shell)
                gate = gates[chain, version] = (code, dirty, shell.store.get if shell else _nothing)
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
        now = self._clock.now()
        if any(now >= shell.lease_until() for shell in asked):
            # As for reads (see `reads`): the lease must still be running once everything has been looked up.
            codes = [int(Code.LEASE)] * len(codes)
            lengths = [0] * len(codes)
        call.reply(find_reply_to_pb(codes, lengths, routing_version=self._context.routing_version))

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
