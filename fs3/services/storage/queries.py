"""What others may ask about the chunks of a node without reading them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.ids import CHUNK_ID_BYTES, ChunkId, TargetId
from fs3.base.limits import list_entries_max
from fs3.base.status import Code
from fs3.model.chunk import ChunkMeta
from fs3.ports.clock import Clock
from fs3.ports.rpc import Call
from fs3.services.storage.find_next import find_next
from fs3.services.storage.target import TargetShell
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import find_request_from_pb

_NOT_FOUND = int(Code.NOT_FOUND)
_DIRTY = int(Code.DIRTY)


class Queries:
    """Handlers of Find, ListChunks and GetSpace."""

    def __init__(
        self,
        shells: Mapping[TargetId, TargetShell],
        by_chain: Mapping[int, TargetShell],
        clock: Clock,
        routing_version: Callable[[], int],
        buffered_bytes: Callable[[], int],
    ) -> None:
        """The mappings are the node's own and change with it."""
        self._shells = shells
        self._by_chain = by_chain
        self._clock = clock
        self._routing_version = routing_version
        self._buffered_bytes = buffered_bytes

    def find(self, call: Call) -> None:
        """The handler of Find: a dictionary look-up per key, no disk; with `following` a look into the index instead."""
        try:
            chunks, chains, versions = find_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._routing_version())
            return
        if call.request.following:
            reply = find_next(chunks, chains, versions, self._by_chain.get, self._clock.now)
            reply.routing_version = self._routing_version()
            call.reply(reply)
            return
        now = self._clock.now()
        asked: list[TargetShell] = []
        gates: dict[tuple[int, int], tuple[int, bool, Callable[[Any], ChunkMeta | None]]] = {}
        codes = []
        lengths = []
        for chunk, chain, version in zip(chunks, chains, versions, strict=True):
            gate = gates.get((chain, version))
            if gate is None:
                shell = self._by_chain.get(chain)
                code, dirty = shell.read_gate(version, now) if shell else (Code.NO_SUCH_TARGET, False)
                if shell is not None:
                    asked.append(shell)
                gate = gates[chain, version] = (int(code), dirty, shell.store.get if shell else _nothing)
            code_now, pending_is_dirty, get = gate
            length = 0
            if not code_now:
                try:
                    meta = get(chunk)
                except FS3Error as damaged:
                    codes.append(int(damaged.code))
                    lengths.append(0)
                    continue
                if meta is None:
                    code_now = _NOT_FOUND
                elif meta.pending and pending_is_dirty:
                    code_now = _DIRTY
                elif meta.committed:
                    length = meta.length
                else:
                    code_now = _NOT_FOUND
            codes.append(code_now)
            lengths.append(length)
        now = self._clock.now()
        if any(now >= shell.lease_until() for shell in asked):
            # As for reads (see `read_path`): the lease must still be running once everything has been looked up.
            codes = [int(Code.LEASE)] * len(codes)
            lengths = [0] * len(codes)
        call.reply(pb.FindReply(codes=codes, lengths=lengths, routing_version=self._routing_version()))

    def list_chunks(self, call: Call) -> None:
        """The handler of ListChunks."""
        request: pb.ListChunksRequest = call.request
        shell = self._shells.get(TargetId(request.target_id))
        if shell is None:
            call.fail(Code.NO_SUCH_TARGET, f"this node has no target {request.target_id}")
            return
        if len(request.after) not in (0, CHUNK_ID_BYTES):
            call.fail(Code.INVALID, f"after: {len(request.after)} bytes are not a chunk id of {CHUNK_ID_BYTES} bytes")
            return
        if len(request.until) not in (0, CHUNK_ID_BYTES):
            call.fail(Code.INVALID, f"until: {len(request.until)} bytes are not a chunk id of {CHUNK_ID_BYTES} bytes")
            return
        limit = min(request.limit or list_entries_max, list_entries_max)
        after, until = (ChunkId(key) if key else None for key in (request.after, request.until))
        try:
            rows = shell.store.list(after, limit + 1, until)
        except FS3Error as damaged:
            call.fail(damaged.code, damaged.strerror or "", self._routing_version())
            return
        infos = [
            pb.ChunkInfo(
                chunk=chunk,
                committed_version=meta.committed,
                pending_version=meta.pending,
                chain_version=meta.chain_version,
                length=meta.length,
                checksum=meta.checksum,
                bad=chunk in shell.store.bad_chunks,
            )
            for chunk, meta in rows[:limit]
        ]
        call.reply(pb.ListChunksReply(chunks=infos, more=len(rows) > limit))

    def get_space(self, call: Call) -> None:
        """The handler of GetSpace."""
        targets = []
        for target, shell in sorted(self._shells.items()):
            space = shell.store.get_space()
            targets.append(
                pb.TargetSpace(
                    target_id=target,
                    used_bytes=space.used,
                    free_bytes=space.free,
                    chunks=space.chunks,
                    pinned_bytes=space.pinned,
                )
            )
        reply = pb.GetSpaceReply(targets=targets, resident_bytes=_resident_bytes(), buffer_bytes=self._buffered_bytes())
        call.reply(reply)


def _nothing(chunk: Any) -> ChunkMeta | None:
    return None


def _resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
