"""The chunk store of a target on files: blocks by size class, an LMDB index, one barrier at a time.

Who does what
    The loop owns everything that is in memory: rows, free blocks, pins. It plans a barrier, hands it to the disk thread, and
    takes its outcome back; the next one gathers meanwhile. The disk thread writes blocks and the index. Reader threads wait
    for cold reads; they only read blocks that the loop has pinned for them.

Why a crash never finds a wrong byte
    D is the durable index, i.e. what a crash leaves. Every row of D refers to blocks that hold what its sums say, because
    1. a barrier writes blocks, syncs them, and only then commits the rows that refer to them;
    2. a barrier writes to blocks that D does not refer to, or, appending in place, behind every byte D refers to;
    3. LMDB commits whole transactions.
    For 2: a block becomes free when the last reference to it has left D. A row only ever lets go of a block on the loop (commit,
    drop, replacement); the changed row is unsynced from then on, and the block is on the list that the next barrier to *begin*
    takes along with it. A barrier that was under way at that moment may still write an older row that refers to the block, but
    it has not taken the block along. When the barrier that has done so is committed, D has the changed row or a later one,
    none of which refers to the block. If it fails, rows and list go to the one after it.
    Nor can D come to refer to a block later without a stage having written it: commit and drop only remove references.
    Behind the committed length of a block there may be bytes D refers to all the same: those of a pending version appended in
    place, or of a longer version that a TRUNCATE cut without copying. Such a block is guarded: nothing is appended to it in
    place until the version in question has become the committed one, or is gone from D (`fs3.drivers.chunks.holds`). Hence
    replacing an appended pending version goes to a fresh block, and a crash in the middle finds the old one intact.
    An append shares the file system page of the last committed bytes. A page that is torn by power loss has, in either half,
    the same committed bytes; only a sector that becomes unreadable loses them, and then their sum says so.

    A commit is not synced by itself. Until a barrier takes it along, D shows the version as pending, with its tag: nothing is
    lost, and the chain knows what became of it.

Readers see a block as it was: it is not reused while it is pinned, and committed bytes are never written over.

Memory: one byte per block, the pending set, and `row_cache_bytes` of decoded rows; nothing per idle chunk. (LMDB's pages
are file-backed and the system's to drop.) Opening reads all rows once: about 2 s for a million.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import RWF_NOWAIT, preadv
from pathlib import Path

from fs3.base import limits
from fs3.base.checksum import BLOCK_BYTES, PIECE_BYTES, piece_count
from fs3.base.errors import error
from fs3.base.ids import CHUNK_ID_BYTES, ChunkId, ClientId, TargetId
from fs3.base.status import Code
from fs3.base.units import format_size
from fs3.drivers.chunks import reading
from fs3.drivers.chunks.barrier import Barrier
from fs3.drivers.chunks.cache import Rows
from fs3.drivers.chunks.files import BlockFiles, read_all, read_warm, sync_directory
from fs3.drivers.chunks.holds import Holds
from fs3.drivers.chunks.index import ChannelKey, Index
from fs3.drivers.chunks.rows import Row, RowDamaged, Version, places
from fs3.drivers.chunks.sizes import INLINE, NOWHERE, SIZES, block_bytes, class_for, place_of
from fs3.drivers.chunks.slots import Slots
from fs3.drivers.chunks.writing import COPY_BYTES, Damaged, Job
from fs3.drivers.lmdb.lock import DirectoryLock
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ReadBatch, ReadResult, Space, StageResult
from fs3.ports.clock import Clock
from fs3.ports.rpc import FileRange
