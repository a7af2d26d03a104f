"""Short-circuit reads: when may a client on a node's host read a chunk from its block file, without asking the node?

The node has told it once where the chunk's committed version is, and its sums. What it needs to know at each read is whether the
node would still give that answer. The node keeps a *board* for it, in memory that clients of its host can see and not change:

    words of 64 bits    | head: 8 | per target: epoch, serves until | per slot: changes |

- A chunk has the slot that a hash of its id names. Whenever the answer to a read of a chunk may become another one (a version
  becomes pending, is committed or dropped, bytes are repaired, the chunk is marked bad), the node counts that in the chunk's
  slot, before anything else can come of it: in the same step of its loop, and after the change is durable, where it must be.
  Chunks that share a slot only make clients ask more often.
- A target's *epoch* rises whenever `reads.gate` or `reads.pending_is_dirty` could say something else for a reason other than
  time: its chain has another version, it withdraws, it fails, it is closed. *Serves until* is the end of its lease; 0: it does
  not serve.

The rule (`BoardReader`): what the client was told of a chunk still holds at the moment at which it looks at the slot, if the
count there is what it was told with it; and, looked at no earlier than that, the target's epoch is, its lease runs, and no later
process has the target's directory.

Why that is linearizable. Counts and epochs only rise, so one that is what it was has not been another meanwhile. Hence at the
moment of the look at the slot the node, asked then, would have found this very version under a gate that says OK, and what it
answers to that is right by `reads`. A node that is stopped changes nothing on the board, and its lease runs out all the same:
clients read the clock, which is the host's and goes on. A node that dies leaves its board as it was, and has told no other node
or client of a change that is not on it. Its successor, which may change chunks within the lease of the former, writes its mark
into the target's directory before it opens the store; that is why clients look for the mark after the slot, in the file that is
at its path then: an operator may have put another directory in the place of the former's.

The bytes are proved by their sums, which were told with the place: a block that was written again in the meantime, or is torn, or
rotten, has others, and the node is asked. So nothing is pinned, and a client that stands still keeps nothing.

HDFS has the same of its blocks, which never change, with a slot for each (HDFS-347, HDFS-5182: short-circuit local reads).
"""

from __future__ import annotations

from typing import NamedTuple

from fs3.base.checksum import crc32c
from fs3.base.ids import ChunkId

FORMAT = 0x6673_3362_6F61_7201
"""First word of a board of this form."""
SLOTS = 1 << 18
TARGETS_MAX = 1024
"""Targets of one process that a board has room for; readers of others ask."""
_TOKEN = 1
_HEAD_WORDS = 8
_ROW_WORDS = 2
_FIRST_SLOT = _HEAD_WORDS + _ROW_WORDS * TARGETS_MAX
BOARD_WORDS = _FIRST_SLOT + SLOTS
WORD_BYTES = 8
_WRAP = (1 << 64) - 1


class ToldEpoch(NamedTuple):
    """Where the board says of a target whether it serves, and the epoch that goes with what was told."""

    row: int
    epoch: int


class OwnerMark(NamedTuple):
    """What the process that has a target's directory wrote into it before it used it: another one writes something else."""

    path: str
    content: bytes


def slot_of(chunk: ChunkId) -> int:
    """Which word of the board counts the changes of a chunk."""
    return _FIRST_SLOT + crc32c(chunk) % SLOTS


class ChangeBoard:
    """The node's side. Belongs to its loop."""

    def __init__(self, words: memoryview, token: int) -> None:
        """`words`: zeroed, of format Q, `BOARD_WORDS` of them. `token`: random, by which clients know the board."""
        assert words.format == "Q"
        assert len(words) == BOARD_WORDS
        self.token = token
        self._words = words
        self._rows = 0
        self._free: list[int] = []
        words[_TOKEN] = token
        words[0] = FORMAT

    def add_target(self) -> int | None:
        """The row of a target that is joined. It does not serve yet. None: there is no room."""
        if self._free:
            return self._free.pop()
        if self._rows == TARGETS_MAX:
            return None
        self._rows += 1
        return _HEAD_WORDS + _ROW_WORDS * (self._rows - 1)

    def remove_target(self, row: int) -> None:
        """A target is closed: what was told of it is void, for good."""
        self.begin_epoch(row)
        self.extend(row, 0)
        self._free.append(row)

    def begin_epoch(self, row: int) -> None:
        """What was told of this target until now is void."""
        self._words[row] = (self._words[row] + 1) & _WRAP

    def extend(self, row: int, until_ns: int) -> None:
        """The target serves until then, in nanoseconds of the host's steady clock; 0: it does not."""
        self._words[row + 1] = until_ns

    def gate(self, row: int) -> ToldEpoch:
        """What is told with a chunk of this target."""
        return ToldEpoch(row, self._words[row])

    def count_change(self, chunk: ChunkId) -> None:
        """A read of this chunk may be answered otherwise from now on."""
        words = self._words
        slot = _FIRST_SLOT + crc32c(chunk) % SLOTS
        words[slot] = (words[slot] + 1) & _WRAP

    def changes(self, slot: int) -> int:
        """What a slot has counted."""
        return self._words[slot]


class BoardReader:
    """A client's side. May be asked from any thread."""

    def __init__(self, words: memoryview, token: int) -> None:
        """`words`: the board that was told with this token, of format Q. Raises ValueError for what is no such board."""
        if words.format != "Q" or len(words) != BOARD_WORDS or words[0] != FORMAT or words[_TOKEN] != token:
            raise ValueError("this is not the board of changes that was named")
        self.words = words
        """For the hottest loop, which compares `words[slot]` with what was told itself. Before `serves`, never after it."""

    def serves(self, gate: ToldEpoch, now_ns: int) -> bool:
        """The target serves as it did when `gate` was told. `now_ns`: the clock, read after the slots were looked at."""
        words = self.words
        return words[gate.row] == gate.epoch and now_ns < words[gate.row + 1]


def is_row(row: int) -> bool:
    """A node may have told of a target there."""
    return _HEAD_WORDS <= row < _FIRST_SLOT and not (row - _HEAD_WORDS) % _ROW_WORDS


def is_slot(slot: int) -> bool:
    """A node may count changes there."""
    return _FIRST_SLOT <= slot < BOARD_WORDS
