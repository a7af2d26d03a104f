"""Find with `following`: the first chunk of a file that is there, from a given one on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fs3.base.errors import FS3Error
from fs3.base.ids import CHUNK_ID_BYTES, ChunkId
from fs3.base.status import Code
from fs3.core.craq.reads import answer
from fs3.ports.chunk_store import ChunkStore
from fs3.ports.clock import Clock
from fs3.services.storage.target import TargetShell

_NONE = bytes(CHUNK_ID_BYTES)
_ROWS = 16
"""Rows looked at in one go: nearly always the first one is the answer."""


def find_next(
    chunks: Sequence[bytes],
    chains: Sequence[int],
    versions: Sequence[int],
    by_chain: Mapping[int, TargetShell],
    clock: Clock,
) -> tuple[list[int], list[int], list[bytes]]:
    """(codes, lengths, chunks that were found: zeros unless OK). The gate is that of every read, closed again if the lease ends
    meanwhile."""
    codes, lengths, found = [], [], []
    asked: list[TargetShell] = []
    gates: dict[tuple[int, int], tuple[Code, bool]] = {}
    begun = clock.now()
    for chunk, chain, version in zip(chunks, chains, versions, strict=True):
        shell = by_chain.get(chain)
        gate = gates.get((chain, version))
        if gate is None:
            gate = gates[chain, version] = shell.read_gate(version, begun) if shell else (Code.NO_SUCH_TARGET, False)
            if shell is not None:
                asked.append(shell)
        code, length, there = gate[0], 0, _NONE
        if shell is not None and code is Code.OK:
            try:
                code, there, length = next_chunk_of_file(shell.store, ChunkId(chunk), pending_is_dirty=gate[1])
            except FS3Error as damaged:
                code = damaged.code
        codes.append(int(code))
        lengths.append(length)
        found.append(there)
    ended = clock.now()
    if any(ended >= shell.lease_until() for shell in asked):
        count = len(codes)
        codes, lengths, found = [int(Code.LEASE)] * count, [0] * count, [_NONE] * count
    return codes, lengths, found


def next_chunk_of_file(store: ChunkStore, chunk: ChunkId, *, pending_is_dirty: bool) -> tuple[Code, bytes, int]:
    """(OK, chunk, length), or DIRTY where a pending version may change the answer, or NOT_FOUND. A page follows only itself."""
    number = int.from_bytes(chunk, "big")
    last = number if chunk[0] else number | 0xFFFF_FFFF_FFFF_FFFF
    after = ChunkId((number - 1).to_bytes(CHUNK_ID_BYTES, "big")) if number else None
    until = ChunkId((last + 1).to_bytes(CHUNK_ID_BYTES, "big")) if last + 1 < 1 << 8 * CHUNK_ID_BYTES else None
    while rows := store.list(after, _ROWS, until):
        for found, meta in rows:
            code = answer(meta, pending_is_dirty)
            if code is not Code.NOT_FOUND:  # of a chunk that is only pending, with no target behind: not there yet
                return (code, found, meta.length) if code is Code.OK else (code, _NONE, 0)
        after = rows[-1][0]
    return Code.NOT_FOUND, _NONE, 0
