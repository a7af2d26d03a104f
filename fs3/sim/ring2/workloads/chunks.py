"""Reads and writes of shared chunks through the storage client, every one of them kept for the linearizability checker."""

from __future__ import annotations

import asyncio
from itertools import count

from fs3.api.client import Client
from fs3.base.ids import ChainId, ChunkId, ClientId, InodeId, file_chunk
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import KIB, SECOND
from fs3.core.craq.admission.table import UNTAGGED
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import Tag, UpdateKind
from fs3.sim.checkers.history import Operation
from fs3.sim.ring2.story import Story

FIRST_INODE = 1 << 50
"""Of the chunks used here: no file has such a number, so nobody reclaims them."""
READ_BYTES = 512 * KIB
SHORT_READ_BYTES = 32 * KIB
"""Of reads that clients may do without asking: more than what values have that are not large."""
LARGE_BYTES_MAX = 200 * KIB
TIMEOUT_NS = 30 * SECOND


class ChunkHistory:
    """What every client asked and was told. Times are positions in the order of all these events, so no two are equal."""

    def __init__(self) -> None:
        self.operations: dict[ChunkId, list[Operation]] = {}
        self.acknowledged = 0
        self._moments = count(1)
        self._values = count(1)

    def moment(self) -> int:
        """A position later than all before."""
        return next(self._moments)

    def begin(self, client: int, chunk: ChunkId, kind: UpdateKind | None, offset: int, data: bytes) -> Operation:
        """A client begins an operation. `kind` None: a read."""
        operation = Operation(client, chunk, kind, offset, data, UNTAGGED, self.moment(), attempts=1)
        self.operations.setdefault(chunk, []).append(operation)
        if kind is not None:
            # Not what the client sends: a name of this operation, so that the checker can tell them apart.
            operation.tag = Tag(ClientId(b"operation".ljust(16)), client, operation.invoked)
        return operation

    def end(self, operation: Operation, code: Code) -> None:
        """It was answered, and what it was told counts."""
        operation.returned = self.moment()
        operation.code = code

    def value(self, prng: Prng, large_chance: int) -> bytes:
        """Bytes that nobody has written yet."""
        text = f"<{next(self._values)}>".encode()
        if large_chance and prng.below(1024) < large_chance:
            return text * (prng.between(64 * KIB, LARGE_BYTES_MAX) // len(text))
        return text + b"+" * prng.below(8)


class ChunkWorkload:
    """One client's operations, one after the other."""

    def __init__(
        self,
        number: int,
        client: Client,
        prng: Prng,
        history: ChunkHistory,
        story: Story,
        large_chance: int,
        read_bytes: int = READ_BYTES,
    ) -> None:
        """`large_chance`: of values that are longer than a block of the store, in 1024. `read_bytes`: asked for by each read."""
        self._number = number
        self._client = client
        self._prng = prng
        self._history = history
        self._story = story
        self._large_chance = large_chance
        self._read_bytes = read_bytes

    async def run(self, operations: int, chunks: list[tuple[ChunkId, ChainId]], think_ns: int) -> None:
        """Do so many operations."""
        prng = self._prng
        for _ in range(operations):
            await asyncio.sleep(prng.below(2 * think_ns + 1) / SECOND)
            chunk, chain = prng.pick(chunks)
            draw = prng.below(100)
            if draw < 45:
                await self.read(chunk, chain)
                if self._read_bytes < READ_BYTES:
                    # What was asked for once is read without asking, for as long as it stays as it is.
                    for _ in range(prng.below(6)):
                        await asyncio.sleep(prng.below(think_ns // 4 + 1) / SECOND)
                        await self.read(chunk, chain)
            elif draw < 75:
                await self.update(chunk, chain, UpdateKind.WRITE, 0)
            elif draw < 87:
                await self.update(chunk, chain, UpdateKind.WRITE, prng.below(12))
            elif draw < 93:
                await self.update(chunk, chain, UpdateKind.TRUNCATE, prng.below(12))
            else:
                await self.update(chunk, chain, UpdateKind.REMOVE, 0)

    async def read(self, chunk: ChunkId, chain: ChainId) -> Code:
        """Read a whole chunk. Returns how that went."""
        operation = self._begin(chunk, None, 0, b"")
        buffer = bytearray(self._read_bytes)
        (outcome,) = await self._client.storage.read([ReadIO(chunk, chain, 0, memoryview(buffer))], timeout_ns=TIMEOUT_NS)
        if outcome.code is Code.OK:
            operation.data = bytes(buffer[: outcome.length])
        self._end(operation, outcome.code, outcome.code in (Code.OK, Code.NOT_FOUND), outcome.message)
        return outcome.code

    async def update(self, chunk: ChunkId, chain: ChainId, kind: UpdateKind, offset: int) -> Code:
        """Change a chunk. Returns how that went."""
        data = self._history.value(self._prng, self._large_chance) if kind is UpdateKind.WRITE else b""
        operation = self._begin(chunk, kind, offset, data)
        buffer = memoryview(data) if kind is UpdateKind.WRITE else None
        (result,) = await self._client.storage.update([WriteIO(chunk, chain, kind, offset, buffer)], timeout_ns=TIMEOUT_NS)
        # Anything but OK may have happened, or may yet.
        self._end(operation, result.code, result.code is Code.OK, result.message)
        self._history.acknowledged += result.code is Code.OK
        return result.code

    def _begin(self, chunk: ChunkId, kind: UpdateKind | None, offset: int, data: bytes) -> Operation:
        return self._history.begin(self._number, chunk, kind, offset, data)

    def _end(self, operation: Operation, code: Code, is_known: bool, message: str) -> None:
        if is_known:
            self._history.end(operation, code)
        if self._story.is_verbose:
            what = "read" if operation.kind is None else f"{operation.kind.name.lower()} at {operation.offset}"
            name = operation.chunk[-2:].hex()
            shown = f" {operation.data[:24]!r}" if operation.data else ""
            self._story.say(f"client-{self._number}", f"{what} {name}{shown}: {code.name} {message}".rstrip())


def shared_chunks(count_: int, chains: list[ChainId]) -> list[tuple[ChunkId, ChainId]]:
    """Chunks that all clients use, spread over the chains."""
    return [(file_chunk(InodeId(FIRST_INODE + index), 0), chains[index % len(chains)]) for index in range(count_)]
