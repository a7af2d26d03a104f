"""What a check of the namespace and its chunks says: pages of rows that were looked at, facts about inodes, problems."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from fs3.base.ids import ChainId, InodeId
from fs3.model.inode import InodeType


class RowTable(IntEnum):
    """The kinds of rows a check reads, page by page. Numbers as on the wire."""

    INODES = 1
    ENTRIES = 2
    SESSIONS = 3
    GARBAGE = 4
    REQUESTS = 5
    COUNTERS = 6
    CLIENTS = 7
    PRUNED = 8
    CONTENTS = 9
    DATA = 10
    XATTRS = 12
    LOCKS = 14


class ProblemKind(IntEnum):
    """What is wrong. Numbers as on the wire; the comments say which fields of `Problem` are set besides `inode`."""

    UNREADABLE = 1  # key; expected: 1 when the row says another key than its own; parent, name, found: of an inode's row, an
    # entry that names it and the type that it has there
    NO_ROOT = 2
    ENTRY_WITHOUT_INODE = 3  # parent, name
    ENTRY_WITHOUT_DIRECTORY = 4  # parent, name
    ENTRY_OF_OTHER_TYPE = 5  # parent, name; found: the entry's type, expected: the inode's
    ENTRY_MISNAMED = 6  # parent, name
    ENTRY_OF_OTHER_PARENT = 7  # parent, name; found: the directory's own parent
    DIRECTORY_MISCOUNTED = 8  # change; found, found_too: length and nlink; expected, expected_too: what they should be
    DIRECTORY_LOOP = 9  # change; expected: how many directories are in the loop
    DIRECTORY_NAMES = 10  # change; found: names it has, expected: names it should have, 0 or 1
    WITHOUT_NAME = 11  # change; found: nlink
    WRONG_NLINK = 12  # change; found: nlink, expected: names
    SYMLINK_LENGTH = 13  # change; found: length, expected: bytes of the target
    NOT_QUEUED = 14  # change
    QUEUED_TWICE = 15  # key: of the row that is too many
    GARBAGE_OF_NOTHING = 16  # key
    GARBAGE_IN_USE = 17  # key; found: names, expected: 1 when a session is open
    SESSION_OF_NOTHING = 18  # key
    ID_IN_USE = 19  # found: the next id that would be drawn
    MISCOUNTED = 20  # key: the counters row as found; found, found_too: inodes, garbage; expected, expected_too: as counted;
    # change: 0, or the next id when the row cannot be read
    TOO_SHORT = 21  # change; found: length recorded, expected: length in storage
    ORPHAN_CHUNK = 22  # key: chunk id, parent: chain
    MISPLACED_CHUNK = 23  # key: chunk id, parent: the chain it is on; expected: the chain it belongs to, 0 none
    CHUNK_FROM_NOWHERE = 24  # key: chunk id, parent: chain; expected: the next id that would be drawn
    REPLICA_MISSING = 25  # key: chunk id, parent: chain; found: target; expected: another target that has it
    REPLICA_DIFFERS = 26  # key: chunk id, parent: chain; found: target; expected: another target
    SESSION_OF_NOBODY = 27  # key
    CONTENT_UNLISTED = 28  # expected: the content that it has, and no row says so
    CONTENT_OF_NOTHING = 29  # key: of the row; expected: the content
    CONTENT_SHARED = 30  # expected: the content; found: the inode that has it too, and keeps it
    INLINE_WITHOUT_DATA = 31  # change; expected: the length recorded
    INLINE_LENGTH = 32  # change; found: length recorded, expected: bytes in the row
    DATA_OF_NOTHING = 33  # key
    UNREACHABLE_PAGE = 34  # key: chunk id, parent: chain; found: the id of its namespace
    PAGE_FROM_NOWHERE = 35  # key: chunk id, parent: chain; found: the id of its namespace, expected: the next id there will be
    LOCKS_OF_NOTHING = 45  # key
    LOCKS_OF_NOBODY = 46  # key; inode: 0 when the row is a client's
    DAMAGED_CHUNK = 36  # key: chunk id, parent: chain; found: how many targets serve it
    XATTRS_MISCOUNTED = 40  # change; found: bytes recorded, expected: bytes there are
    XATTR_OF_NOTHING = 41  # key
    MODE_DIFFERS_FROM_ACL = 42  # change; found: mode, expected: the mode that the ACL stands for; -1: the ACL cannot be read


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong, with what has to be so still when it is repaired."""

    kind: ProblemKind
    inode: int = 0
    """Of sessions, and of chunks that no file has: the content they name."""
    parent: int = 0
    name: bytes = b""
    key: bytes = b""
    change: int = 0
    """The inode's `change` when the problem was seen: a repair that finds another one does nothing."""
    found: int = 0
    expected: int = 0
    found_too: int = 0
    expected_too: int = 0


class DirectoryPart(msgspec.Struct, frozen=True, array_like=True):
    """What one page holds of a directory whose entries are spread over several."""

    inode: InodeId
    change: int
    length: int
    """Entries as its inode says."""
    nlink: int
    entries: int
    """In this page."""
    subdirectories: int
    """In this page."""
    begins: bool
    ends: bool


class CheckPage(msgspec.Struct):
    """Some rows of a table, looked at in one transaction. Columns: element i of each list that is filled belongs to row i."""

    next: bytes
    """Where the next page begins; empty: this was the last one."""
    rows: int
    problems: list[Problem]
    """What is wrong for certain, whatever happens elsewhere meanwhile."""
    inodes: list[int]
    """INODES, SESSIONS, CONTENTS: their ids. ENTRIES, GARBAGE: the inode each row names."""
    changes: list[int]
    """INODES: their `change`."""
    names: list[int]
    """INODES: how many names each should have."""
    queued: list[int]
    """INODES: 1 for what has neither name nor session and waits to be reclaimed, else 0."""
    keys: list[bytes]
    """GARBAGE: of the rows. COUNTERS: the row itself; then the last keys of INODES, ENTRIES, SESSIONS, GARBAGE, and of the
    files in GARBAGE, empty where there is none."""
    parts: list[DirectoryPart]
    """ENTRIES: directories that may go on in the next page, or went on from the one before."""


class InodeFacts(msgspec.Struct, frozen=True, array_like=True):
    """An inode as it is now."""

    inode: InodeId
    type: InodeType
    change: int
    nlink: int
    length: int
    names: int
    """How many it should have."""
    queued: int
    """How many garbage rows it should have."""
    open: bool
    """A write session is open on it."""
    chunk_size: int
    """Files: bytes per chunk. 0 of a file: its row cannot be read, and nothing else is known of it either."""
    chains: tuple[ChainId, ...]
    """Files: of the layout."""
    content: InodeId = InodeId(0)
    """Files: `Inode.content_id`. 0: not known."""


class Inspection(msgspec.Struct, frozen=True, array_like=True):
    """Some inodes at one moment; those that do not exist are left out."""

    next_id: int
    """No inode has this id or a larger one."""
    facts: list[InodeFacts]


class RepairResult(msgspec.Struct, frozen=True, array_like=True):
    """What came of a repair."""

    done: bool
    """False: nothing was changed."""
    what: str
    """One sentence: what was done, or why nothing was."""
