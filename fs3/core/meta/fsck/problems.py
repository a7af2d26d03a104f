"""Problems, each said once, and in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fs3.base.ids import CHUNK_ID_BYTES, INODE_IDS_END, ChunkId, chunk_file
from fs3.base.names import to_text
from fs3.model.check import Problem, ProblemKind
from fs3.model.inode import InodeType

check_problems_max = 10_000
"""One run of a check says no more; the rest is found once these are repaired."""


class ProblemCollector:
    """What a check has found: each problem once, however often it is met."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        """At most `check_problems_max`."""
        self.more = False
        """There were more problems than that."""
        self._seen: set[Problem] = set()

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Take these in; those that are too many are not looked at."""
        for problem in problems:
            if problem in self._seen:
                continue
            if len(self.problems) >= check_problems_max:
                self.more = True
                return
            self._seen.add(problem)
            self.problems.append(problem)


def describe(problem: Problem) -> str:
    """One sentence."""
    return _SENTENCES[problem.kind](problem)


def name_of(problem: Problem) -> str:
    """The kind as programs read it: "wrong-nlink"."""
    return problem.kind.name.lower().replace("_", "-")


def chunk_name(chunk: bytes) -> str:
    """A chunk id as people write it: "inode/index" of a file's, 32 hexadecimal digits of a page's."""
    file = chunk_file(ChunkId(chunk)) if len(chunk) == CHUNK_ID_BYTES else None
    return chunk.hex() if file is None else f"{file[0]}/{file[1]}"


def parse_chunk_name(text: str) -> ChunkId:
    """The chunk id of "inode/index" or of 32 hexadecimal digits. Raises ValueError for anything else."""
    inode, slash, index = text.partition("/")
    if slash:
        try:
            number, place = int(inode), int(index)
        except ValueError:
            raise ValueError(f"{text!r} is not a chunk: write inode/index, or 32 hexadecimal digits") from None
        if not (0 < number < INODE_IDS_END and 0 <= place < 1 << 64):
            raise ValueError(f"{text!r} is not a chunk: an inode is below 2**56, an index below 2**64")
        return ChunkId(((number << 64) | place).to_bytes(CHUNK_ID_BYTES, "big"))
    try:
        chunk = bytes.fromhex(text)
    except ValueError:
        chunk = b""
    if len(chunk) != CHUNK_ID_BYTES:
        raise ValueError(f"{text!r} is not a chunk: write inode/index, or 32 hexadecimal digits")
    return ChunkId(chunk)


def _entry(problem: Problem) -> str:
    return f"entry {to_text(problem.name)!r} of directory {problem.parent}"


def _unreadable(problem: Problem) -> str:
    what = "says another key than its own" if problem.expected else "cannot be read"
    if problem.name and problem.inode:
        return f"{_entry(problem)} names {_type(problem.found)} {problem.inode}, whose row {what}"
    return f"row {problem.key!r} {what}"


def _type(number: int) -> str:
    return InodeType(number).name.lower().replace("_", " ") if number in InodeType._value2member_map_ else str(number)


def _miscounted(problem: Problem) -> str:
    counted = f"{problem.expected} entries and {max(problem.expected_too - 2, 0)} subdirectories"
    return f"directory {problem.inode} has {counted}, its length says {problem.found} and its nlink {problem.found_too}"


def _counters(problem: Problem) -> str:
    counted = f"{problem.expected} inodes and {problem.expected_too} garbage rows"
    if problem.change:
        return f"the counters cannot be read; there are {counted}"
    return f"the counters say {problem.found} inodes and {problem.found_too} garbage rows, there are {counted}"


def _in_use(problem: Problem) -> str:
    why = "a session is open on it" if problem.expected else f"it has {problem.found} names"
    return f"inode {problem.inode} is queued for reclaiming, but {why}"


def _misplaced(problem: Problem) -> str:
    where = f"belongs to chain {problem.expected}" if problem.expected else "its file has no chunks"
    return f"chunk {chunk_name(problem.key)} is on chain {problem.parent}, but {where}"


def _from_nowhere(problem: Problem) -> str:
    chunk = f"chunk {chunk_name(problem.key)} on chain {problem.parent}"
    return f"{chunk} is of a content that was never created (the next id is {problem.expected}): is the metadata older than it?"


def _acl(problem: Problem) -> str:
    if problem.expected < 0:
        return f"inode {problem.inode} has an ACL that cannot be read"
    return f"inode {problem.inode} has mode {problem.found:o}, its ACL stands for {problem.expected:o}"


_SENTENCES: dict[ProblemKind, Callable[[Problem], str]] = {
    ProblemKind.UNREADABLE: _unreadable,
    ProblemKind.NO_ROOT: lambda it: "there is no root directory",
    ProblemKind.ENTRY_WITHOUT_INODE: lambda it: f"{_entry(it)} names inode {it.inode}, which does not exist",
    ProblemKind.ENTRY_WITHOUT_DIRECTORY: lambda it: f"{_entry(it)} is in an inode that is no directory",
    ProblemKind.ENTRY_OF_OTHER_TYPE: lambda it: f"{_entry(it)} says {_type(it.found)}, its inode {it.inode} {_type(it.expected)}",
    ProblemKind.ENTRY_MISNAMED: lambda it: f"{_entry(it)} has a name that no entry can have",
    ProblemKind.ENTRY_OF_OTHER_PARENT: lambda it: f"{_entry(it)} names directory {it.inode}, which says that it is in {it.found}",
    ProblemKind.DIRECTORY_MISCOUNTED: _miscounted,
    ProblemKind.DIRECTORY_LOOP: lambda it: f"directory {it.inode} is in a loop of {it.expected} directories, below no root",
    ProblemKind.DIRECTORY_NAMES: lambda it: f"directory {it.inode} has {it.found} names, and should have {it.expected}",
    ProblemKind.WITHOUT_NAME: lambda it: f"inode {it.inode} has no name, its nlink says {it.found}",
    ProblemKind.WRONG_NLINK: lambda it: f"inode {it.inode} has {it.expected} names, its nlink says {it.found}",
    ProblemKind.SYMLINK_LENGTH: lambda it: f"symlink {it.inode} has length {it.found}, its target {it.expected} bytes",
    ProblemKind.NOT_QUEUED: lambda it: f"inode {it.inode} has no name and is neither open nor queued for reclaiming",
    ProblemKind.QUEUED_TWICE: lambda it: f"inode {it.inode} is queued for reclaiming more than once",
    ProblemKind.GARBAGE_OF_NOTHING: lambda it: f"inode {it.inode} is queued for reclaiming, but is not there, or of another type",
    ProblemKind.GARBAGE_IN_USE: _in_use,
    ProblemKind.SESSION_OF_NOTHING: lambda it: f"a session is on content {it.inode}, which no file has",
    ProblemKind.SESSION_OF_NOBODY: lambda it: f"a session on content {it.inode} is of a client that nobody waits for",
    ProblemKind.ID_IN_USE: lambda it: f"id {it.inode} is in use, and the next one to be drawn is {it.found}",
    ProblemKind.MISCOUNTED: _counters,
    ProblemKind.CONTENT_UNLISTED: lambda it: f"file {it.inode} has content {it.expected}, and no row says so of that",
    ProblemKind.CONTENT_OF_NOTHING: lambda it: f"content {it.expected} is said to be of inode {it.inode}, which does not have it",
    ProblemKind.CONTENT_SHARED: lambda it: f"file {it.inode} has content {it.expected}, which is inode {it.found}'s",
    ProblemKind.TOO_SHORT: lambda it: f"file {it.inode} has {it.expected} bytes in storage, its length says {it.found}",
    ProblemKind.INLINE_WITHOUT_DATA: lambda it: f"file {it.inode} is inline, and its {it.expected} bytes are missing",
    ProblemKind.INLINE_LENGTH: lambda it: f"file {it.inode} has {it.expected} bytes inline, its length says {it.found}",
    ProblemKind.DATA_OF_NOTHING: lambda it: f"row {it.key!r} has the bytes of a small file, and no inode says so",
    ProblemKind.LOCKS_OF_NOTHING: lambda it: f"inode {it.inode} has locks, and does not exist",
    ProblemKind.LOCKS_OF_NOBODY: lambda it: (
        f"{f'locks of inode {it.inode} are' if it.inode else 'locks are'} held by a client that no service waits for"
    ),
    ProblemKind.ORPHAN_CHUNK: lambda it: f"chunk {chunk_name(it.key)} on chain {it.parent} is of a content that is gone",
    ProblemKind.MISPLACED_CHUNK: _misplaced,
    ProblemKind.UNREACHABLE_PAGE: lambda it: (
        f"page {chunk_name(it.key)} on chain {it.parent} is of KVCache namespace {it.found}, which was deleted or cleared"
    ),
    ProblemKind.PAGE_FROM_NOWHERE: lambda it: (
        f"page {chunk_name(it.key)} on chain {it.parent} is of KVCache namespace {it.found}, which was never made; "
        f"the next one will be {it.expected}"
    ),
    ProblemKind.CHUNK_FROM_NOWHERE: _from_nowhere,
    ProblemKind.DAMAGED_CHUNK: lambda it: (
        f"chunk {chunk_name(it.key)} of file {it.inode} is damaged on all {it.found} targets that serve chain {it.parent}"
    ),
    ProblemKind.XATTRS_MISCOUNTED: lambda it: (
        f"inode {it.inode} has {it.expected} bytes of extended attributes, and says {it.found}"
    ),
    ProblemKind.XATTR_OF_NOTHING: lambda it: f"row {it.key!r} has an extended attribute of an inode that is not there",
    ProblemKind.MODE_DIFFERS_FROM_ACL: _acl,
    ProblemKind.REPLICA_MISSING: lambda it: (
        f"chunk {chunk_name(it.key)} of chain {it.parent} is missing on target {it.found}, target {it.expected} has it"
    ),
    ProblemKind.REPLICA_DIFFERS: lambda it: (
        f"chunk {chunk_name(it.key)} of chain {it.parent} differs on target {it.found} from target {it.expected}"
    ),
}

assert set(_SENTENCES) == set(ProblemKind), "a kind of problem has no sentence"
