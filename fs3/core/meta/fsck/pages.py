"""Looking at the namespace's rows a page at a time, while clients go on working.

A page is read in one transaction, so what it finds wrong *is* wrong: no operation ever leaves such rows behind. What cannot be
seen from a page and the rows it names is left to the check that puts the pages together (`fs3.core.meta.fsck.namespace_check`):
how many names an inode has, whether a removed file is queued, how many entries a directory of several pages has. For that a page
hands out columns with each inode's `change`, which rises with every change of its names and of its entries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fs3.base.ids import ROOT_INODE, ClientId, InodeId
from fs3.base.limits import ancestors_max
from fs3.base.names import to_bytes
from fs3.base.status import Code
from fs3.core.meta import client_liveness as liveness
from fs3.core.meta import keys, locks, rows
from fs3.core.meta.entries import is_entry_name
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.counters import check_ids, counters_row, parse_counters
from fs3.core.meta.fsck.readable import Found, check_readable, find_readable_inode
from fs3.core.meta.fsck.xattrs import check_xattrs, find_xattr_problems
from fs3.core.meta.rows import GarbageKind
from fs3.core.txn import ReadTxn
from fs3.model.check import CheckPage, DirectoryPart, InodeFacts, Inspection, Problem, ProblemKind, RowTable
from fs3.model.inode import Inode, InodeType
from fs3.model.lock import ClientLocks, InodeLocks

_DIRECTORY = InodeType.DIRECTORY
_PREFIX = {
    RowTable.INODES: keys.INODE,
    RowTable.ENTRIES: keys.DIRENT,
    RowTable.SESSIONS: keys.SESSION,
    RowTable.GARBAGE: keys.GARBAGE,
    RowTable.REQUESTS: keys.REQUEST,
    RowTable.CLIENTS: keys.CLIENT,
    RowTable.PRUNED: keys.PRUNED,
    RowTable.DATA: keys.DATA,
    RowTable.XATTRS: keys.XATTR,
    RowTable.CONTENTS: keys.CONTENT,
    RowTable.LOCKS: keys.LOCK,
}
ROW_DECODERS: dict[bytes, Callable[[bytes, bytes], object]] = {
    keys.DIRENT: rows.decode_dirent,
    keys.CONTENT: rows.decode_content_owner,
    keys.SESSION: rows.decode_session,
    keys.GARBAGE: rows.decode_garbage,
    keys.REQUEST: rows.decode_request,
    keys.CLIENT: liveness.decode_client,
    keys.PRUNED: rows.decode_pruned_session,
    keys.DATA: rows.decode_data,
    keys.XATTR: rows.decode_data,
    keys.LOCK: locks.decode_locks,
}
"""Key prefix -> (key, row) -> what the row says, MetaError when it cannot be read. Of the rows that a repair may delete: inodes
are not among them."""

_ENDING = (RowTable.INODES, RowTable.ENTRIES, RowTable.SESSIONS, RowTable.GARBAGE)


def _range(table: RowTable) -> tuple[bytes, bytes]:
    return _PREFIX[table], keys.end_of(_PREFIX[table])


async def check_page(txn: ReadTxn, table: RowTable, begin: bytes, limit: int) -> CheckPage:
    """The rows of a table from the key `begin` on (empty: from the first), at most `limit` of them.

    Raises MetaError INVALID when `begin` is not a key of the table.
    """
    page = CheckPage(b"", 0, [], [], [], [], [], [], [])
    if table is RowTable.COUNTERS:
        files_end = keys.garbage_range(GarbageKind.FILE)[1]
        page.keys.append(await counters_row(txn))
        for begin_of, end_of in (*(_range(each) for each in _ENDING), (keys.GARBAGE, files_end)):
            last = await txn.scan(begin_of, end_of, 1, reverse=True)
            page.keys.append(last[0][0] if last else b"")
        return page
    prefix = _PREFIX[table]
    if begin and not begin.startswith(prefix):
        raise MetaError(Code.INVALID, f"{begin!r} is not a key of the table {table.name.lower()}")
    found = await txn.scan(begin or prefix, _range(table)[1], limit + 1)
    following = found[limit][0] if len(found) > limit else b""
    page.next = following
    del found[limit:]
    page.rows = len(found)
    if table is RowTable.ENTRIES:
        await _check_entries(txn, page, begin, found)
    elif table not in _CHECKS:
        # Nothing is asked of these rows but that they can be read.
        check_readable(page, found, ROW_DECODERS[prefix])
    else:
        await _CHECKS[table](txn, page, found)
        if table is RowTable.INODES and not begin and await txn.get(keys.inode_key(ROOT_INODE)) is None:
            page.problems.append(Problem(ProblemKind.NO_ROOT, ROOT_INODE))
    # A reply has its limits; what is cut off is found once the others are repaired.
    del page.problems[limit:]
    return page


async def inspect_inodes(txn: ReadTxn, ids: Sequence[int], *, contents: bool = False) -> Inspection:
    """The inodes with these ids, or those that have these contents, as they are now. One whose row cannot be read has no chunk
    size."""
    facts = []
    for number in ids:
        look = InodeId(number)
        is_there, inode = await (_look_for_content if contents else _look_for_inode)(txn, look)
        if not is_there:
            continue
        if inode is None:
            # It is there, and nothing is known of it: the check must not take it for gone.
            facts.append(InodeFacts(look, InodeType.FILE, -1, 0, 0, 0, 0, True, 0, (), look if contents else InodeId(0)))
            continue
        is_open = await _is_open(txn, inode)
        names, queued = _expected(inode, is_open)
        layout = inode.layout
        # While a truncation cuts, chunks hold bytes that are no longer the file's: as if somebody wrote it. Where there were
        # appends, what lies behind the end may be of one that was given up.
        changing = is_open or inode.trim is not None or inode.appends > 0
        known = inode.change, inode.nlink, inode.length, names, queued, changing, layout.chunk_size
        chains = layout.chains if inode.type is InodeType.FILE else ()
        facts.append(InodeFacts(inode.id, inode.type, *known, chains, inode.content_id))
    counters = parse_counters(await txn.get(keys.COUNTERS) or b"")
    return Inspection(0 if counters is None else counters.next_id, facts)


async def _check_inodes(txn: ReadTxn, page: CheckPage, found: Found) -> None:
    add = page.problems.append
    hanging: dict[InodeId, bool] = {ROOT_INODE: True}
    for key, row in found:
        try:
            inode = rows.decode_inode(key, row)
        except MetaError:
            add(Problem(ProblemKind.UNREADABLE, _number(key), key=key))
            continue
        if keys.inode_key(inode.id) != key:
            add(Problem(ProblemKind.UNREADABLE, _number(key), key=key, expected=1))
            continue
        names, queued = _expected(inode, inode.nlink == 0 and await _is_open(txn, inode))
        page.inodes.append(inode.id)
        page.changes.append(inode.change)
        page.names.append(names)
        page.queued.append(queued)
        if inode.type is _DIRECTORY:
            if not await txn.scan(*keys.dirents_range(inode.id), 1):
                page.problems += check_directory_counts(inode.id, inode.change, inode.length, inode.nlink, 0, 0)
            if not await _hangs(txn, inode, hanging):
                page.problems += await _loop(txn, inode)
        elif inode.type is InodeType.SYMLINK and inode.length != (size := len(to_bytes(inode.link_target))):
            add(Problem(ProblemKind.SYMLINK_LENGTH, inode.id, change=inode.change, found=inode.length, expected=size))
        elif inode.type is InodeType.FILE:
            if inode.content and (problem := await find_content_problem(txn, inode)) is not None:
                add(problem)
            if inode.inline:
                page.problems += await _check_inline(txn, inode)
        if inode.xattr_bytes or inode.grants is not None:
            page.problems += await find_xattr_problems(txn, inode)
    await check_ids(txn, page, page.inodes)


async def _check_entries(txn: ReadTxn, page: CheckPage, begin: bytes, found: Found) -> None:
    add = page.problems.append
    parent: Inode | None = None
    is_parent_unreadable = False
    current = -1
    entries = subdirectories = 0
    begins = True

    def leave(ends: bool) -> None:
        if parent is not None and parent.type is _DIRECTORY:
            so_far = (parent.id, parent.change, parent.length, parent.nlink, entries, subdirectories)
            if begins and ends:
                page.problems.extend(check_directory_counts(*so_far))
            else:
                page.parts.append(DirectoryPart(*so_far, begins, ends))

    for key, row in found:
        number = _number(key)
        name = key[keys.NAME_AT :]
        if number != current:
            leave(True)
            # Where the page begins behind a directory's first possible key, the directory began in another one.
            begins = current >= 0 or not begin.startswith(key[: keys.NAME_AT]) or begin == key[: keys.NAME_AT]
            parent = await find_readable_inode(txn, InodeId(number))
            is_parent_unreadable = parent is None and await txn.get(keys.inode_key(InodeId(number))) is not None
            current, entries, subdirectories = number, 0, 0
        entries += 1
        try:
            dirent = rows.decode_dirent(key, row)
        except MetaError:
            add(Problem(ProblemKind.UNREADABLE, 0, number, name, key))
            page.inodes.append(0)
            continue
        page.inodes.append(dirent.inode)
        subdirectories += dirent.type is _DIRECTORY
        if (parent is None or parent.type is not _DIRECTORY) and not is_parent_unreadable:
            add(Problem(ProblemKind.ENTRY_WITHOUT_DIRECTORY, dirent.inode, number, name))
        if not is_entry_name(name):
            add(Problem(ProblemKind.ENTRY_MISNAMED, dirent.inode, number, name))
        inode_key = keys.inode_key(dirent.inode)
        inode_row = await txn.get(inode_key)
        if inode_row is None:
            add(Problem(ProblemKind.ENTRY_WITHOUT_INODE, dirent.inode, number, name))
            continue
        try:
            inode = rows.decode_inode(inode_key, inode_row)
        except MetaError:
            # The inode's own row cannot say what it was; a repair must know.
            add(Problem(ProblemKind.UNREADABLE, dirent.inode, number, name, inode_key, found=dirent.type))
            continue
        if inode.type is not dirent.type:
            add(Problem(ProblemKind.ENTRY_OF_OTHER_TYPE, inode.id, number, name, found=dirent.type, expected=inode.type))
        elif inode.type is _DIRECTORY and inode.parent != number and inode.id != ROOT_INODE:
            add(Problem(ProblemKind.ENTRY_OF_OTHER_PARENT, inode.id, number, name, found=inode.parent))
    ends = _number(page.next) != current
    leave(ends)
    if ends:
        # The next page begins with the next directory, not with what is its first entry now.
        page.next = page.next[: keys.NAME_AT]


async def _check_sessions(txn: ReadTxn, page: CheckPage, found: Found) -> None:
    drawn: list[int] = []
    clients: dict[ClientId, bool] = {}
    for key, row in found:
        try:
            session = rows.decode_session(key, row)
        except MetaError:
            page.problems.append(Problem(ProblemKind.UNREADABLE, _number(key), key=key))
            continue
        if keys.session_key(session.content, session.id) != key:
            page.problems.append(Problem(ProblemKind.UNREADABLE, _number(key), key=key, expected=1))
            continue
        page.inodes.append(session.id)
        if not session.reader:
            drawn.append(session.id)
        if not await session_has_file(txn, session.content):
            page.problems.append(Problem(ProblemKind.SESSION_OF_NOTHING, session.content, key=key))
        if session.client not in clients:
            clients[session.client] = await txn.get(keys.client_key(session.client)) is not None
        if not clients[session.client]:
            page.problems.append(Problem(ProblemKind.SESSION_OF_NOBODY, session.content, key=key))
    await check_ids(txn, page, drawn)


async def _check_garbage(txn: ReadTxn, page: CheckPage, found: Found) -> None:
    for key, row in found:
        try:
            garbage = rows.decode_garbage(key, row)
        except MetaError:
            page.problems.append(Problem(ProblemKind.UNREADABLE, 0, key=key))
            continue
        page.inodes.append(garbage.inode)
        page.keys.append(key)
        problem = await find_garbage_problem(txn, garbage)
        if problem is not None:
            page.problems.append(problem)


async def _check_contents(txn: ReadTxn, page: CheckPage, found: Found) -> None:
    for key, row in found:
        content = keys.content_of(key)
        try:
            owner = rows.decode_content_owner(key, row)
        except MetaError:
            page.problems.append(Problem(ProblemKind.UNREADABLE, content, key=key))
            continue
        page.inodes.append(content)
        if not await owns_content(txn, owner, content):
            page.problems.append(Problem(ProblemKind.CONTENT_OF_NOTHING, owner, key=key, expected=content))
            continue
        first = await find_readable_inode(txn, content)
        if first is not None and first.id != owner and first.content_id == content:
            page.problems.append(Problem(ProblemKind.CONTENT_SHARED, owner, expected=content, found=first.id))
    await check_ids(txn, page, page.inodes)


async def _check_inline(txn: ReadTxn, inode: Inode) -> list[Problem]:
    key = keys.data_key(inode.content_id)
    row = await txn.get(key)
    if row is None:
        return [Problem(ProblemKind.INLINE_WITHOUT_DATA, inode.id, change=inode.change, expected=inode.length)]
    try:
        size = len(rows.decode_data(key, row))
    except MetaError:
        return []  # said once, of the row
    if size == inode.length:
        return []
    return [Problem(ProblemKind.INLINE_LENGTH, inode.id, change=inode.change, found=inode.length, expected=size)]


async def _check_data(txn: ReadTxn, page: CheckPage, found: Found) -> None:
    check_readable(page, found, rows.decode_data)
    for key, _ in found:
        if not await data_has_file(txn, key):
            page.problems.append(Problem(ProblemKind.DATA_OF_NOTHING, key=key))


async def _check_locks(txn: ReadTxn, page: CheckPage, found: Found) -> None:
    add = page.problems.append
    for key, row in found:
        inode = keys.inode_of_locks(key) if keys.is_inode_locks(key) else 0
        try:
            known = locks.decode_locks(key, row)
        except MetaError:
            add(Problem(ProblemKind.UNREADABLE, inode, key=key))
            continue
        if inode and await txn.get(keys.inode_key(InodeId(inode))) is None:
            add(Problem(ProblemKind.LOCKS_OF_NOTHING, inode, key=key))
        elif await find_unknown_clients(txn, key, known):
            add(Problem(ProblemKind.LOCKS_OF_NOBODY, inode, key=key))


_CHECKS: dict[RowTable, Callable[[ReadTxn, CheckPage, Found], Awaitable[None]]] = {
    RowTable.INODES: _check_inodes,
    RowTable.SESSIONS: _check_sessions,
    RowTable.GARBAGE: _check_garbage,
    RowTable.DATA: _check_data,
    RowTable.XATTRS: check_xattrs,
    RowTable.CONTENTS: _check_contents,
    RowTable.LOCKS: _check_locks,
}


# --- premises that repairs ask again ---------------------------------------------------------------------------------


def check_directory_counts(
    inode: InodeId, change: int, length: int, nlink: int, entries: int, subdirectories: int
) -> list[Problem]:
    """What is wrong with a directory's own idea of how much is in it. One that is being dismantled keeps its nlink of 0."""
    expected = 2 + subdirectories if nlink else 0
    if (length, nlink) == (entries, expected):
        return []
    kind = ProblemKind.DIRECTORY_MISCOUNTED
    return [Problem(kind, inode, change=change, found=length, expected=entries, found_too=nlink, expected_too=expected)]


async def session_has_file(txn: ReadTxn, content: InodeId) -> bool:
    """The content of a session is a file's, or a row that would tell cannot be read."""
    is_there, found = await _look_for_content(txn, content)
    return is_there and (found is None or found.type is InodeType.FILE)


async def owns_content(txn: ReadTxn, owner: InodeId, content: InodeId) -> bool:
    """An inode has a content of another id than its own, as a row says; or its row cannot be read."""
    is_there, inode = await _look_for_inode(txn, owner)
    return is_there and (inode is None or (inode.type is InodeType.FILE and inode.content == content))


async def find_content_problem(txn: ReadTxn, inode: Inode) -> Problem | None:
    """What is wrong with an inode whose content has another id: no row says that it has it, or another inode has it too."""
    content = inode.content
    try:
        owner = await rows.find_content_owner(txn, content)
    except MetaError:
        owner = None
    if owner == inode.id:
        return None
    if owner is None or not await owns_content(txn, owner, content):
        return Problem(ProblemKind.CONTENT_UNLISTED, inode.id, expected=content)
    return Problem(ProblemKind.CONTENT_SHARED, inode.id, expected=content, found=owner)


async def data_has_file(txn: ReadTxn, key: bytes) -> bool:
    """A file has its bytes in the row of this key, or a row that would tell cannot be read."""
    is_there, found = await _look_for_content(txn, keys.content_of(key))
    return is_there and (found is None or found.inline)


async def find_unknown_clients(txn: ReadTxn, key: bytes, known: InodeLocks | ClientLocks) -> list[ClientId]:
    """The clients of a row about locks for whose heartbeats no service waits, so that nothing ever releases their locks."""
    if isinstance(known, ClientLocks):
        clients = [keys.client_of_locks(key)]
    else:
        clients = sorted({lock.owner.client for lock in (*known.held, *known.waiting)})
    return [client for client in clients if await txn.get(keys.client_key(client)) is None]


async def find_garbage_problem(txn: ReadTxn, garbage: rows.Garbage) -> Problem | None:
    """Why a garbage row must not be there; None when it may."""
    if await txn.get(keys.inode_key(garbage.inode)) is None:
        return Problem(ProblemKind.GARBAGE_OF_NOTHING, garbage.inode, key=garbage.key)
    inode = await find_readable_inode(txn, garbage.inode)
    if inode is None:
        return None
    wanted = InodeType.FILE if garbage.kind is GarbageKind.FILE else _DIRECTORY
    if inode.type is not wanted:
        return Problem(ProblemKind.GARBAGE_OF_NOTHING, garbage.inode, key=garbage.key)
    is_open = wanted is InodeType.FILE and await _is_open(txn, inode)
    if inode.nlink or is_open:
        return Problem(ProblemKind.GARBAGE_IN_USE, inode.id, key=garbage.key, found=inode.nlink, expected=int(is_open))
    return None


async def find_loop(txn: ReadTxn, directory: Inode) -> list[InodeId]:
    """The directories of the loop that one is in or hangs below; empty when it hangs below something else."""
    path: list[InodeId] = []
    seen: set[InodeId] = set()
    current: Inode | None = directory
    while current is not None and current.id not in seen:
        if current.id == ROOT_INODE or current.nlink == 0 or len(path) > ancestors_max:
            return []
        path.append(current.id)
        seen.add(current.id)
        current = await find_readable_inode(txn, current.parent)
    return path[path.index(current.id) :] if current is not None else []


# --- pieces ----------------------------------------------------------------------------------------------------------


def _number(key: bytes) -> int:
    return int.from_bytes(key[keys.PREFIX_BYTES : keys.NAME_AT], "big")


def _expected(inode: Inode, is_open: bool) -> tuple[int, int]:
    """(names, garbage rows) an inode should have."""
    if inode.type is _DIRECTORY:
        return (1 if inode.nlink and inode.id != ROOT_INODE else 0), int(inode.nlink == 0)
    return inode.nlink, int(inode.nlink == 0 and not is_open)


async def _is_open(txn: ReadTxn, inode: Inode) -> bool:
    return inode.type is InodeType.FILE and bool(await txn.scan(*keys.sessions_range(inode.content_id), 1))


async def _look_for_inode(txn: ReadTxn, number: InodeId) -> tuple[bool, Inode | None]:
    """(there is such an inode, the inode if it can be read)."""
    if await txn.get(keys.inode_key(number)) is None:
        return False, None
    return True, await find_readable_inode(txn, number)


async def _look_for_content(txn: ReadTxn, content: InodeId) -> tuple[bool, Inode | None]:
    """(there is an inode with this content, as far as can be told; the inode if it can be read)."""
    is_there, inode = await _look_for_inode(txn, content)
    if is_there and (inode is None or inode.content_id == content):
        return True, inode
    try:
        owner = await rows.find_content_owner(txn, content)
    except MetaError:
        return True, None
    if owner is None:
        return False, None
    is_there, inode = await _look_for_inode(txn, owner)
    return is_there and (inode is None or inode.content_id == content), inode


async def _hangs(txn: ReadTxn, directory: Inode, known: dict[InodeId, bool]) -> bool:
    """A directory hangs below the root, below a detached one, or below nothing (which its entry's check says); not in a loop."""
    path = []
    current: Inode | None = directory
    while current is not None and current.id not in known:
        path.append(current.id)
        known[current.id] = False  # met again on the way up: a loop
        if current.nlink == 0:
            break
        current = await find_readable_inode(txn, current.parent)
    answer = current is None or current.nlink == 0 or known[current.id]
    for inode in path:
        known[inode] = answer
    return answer


async def _loop(txn: ReadTxn, directory: Inode) -> list[Problem]:
    """A loop is said once, of the smallest id in it."""
    members = await find_loop(txn, directory)
    if not members or min(members) != directory.id:
        return []
    return [Problem(ProblemKind.DIRECTORY_LOOP, directory.id, change=directory.change, expected=len(members))]
