"""Keys of the namespace's rows. Integers are big-endian, so rows of one directory, file or client are neighbours in key order.

| key | row |
|---|---|
| INOD inode(8) | the inode |
| DENT parent(8) name(1..255) | a directory entry; names in the order of their bytes |
| CONT content(8) | the inode that has a content of another id than its own |
| SESS content(8) session(8) | a writer's open |
| IDEM client(16) seq(8) | the result of a request; the requests of one client are in the order they were made |
| GARB kind(1) queued_ns(8) inode(8) | something to reclaim; oldest first |
| LIFE client(16) | a client with write sessions: its heartbeats, and whether it is presumed dead |
| PRUN content(8) session(8) | a session that was ended because its client was silent |
| TRIM inode(8) | a truncation that has not cut all chunks yet |
| DATA content(8) | the bytes of a small file, by its content id |
| XATR inode(8) name(1..255) | an extended attribute; names with their namespace |
| LOCK 1(1) inode(8) | all locks of a file, and who waits for one |
| LOCK 2(1) client(16) | a client with locks: their epoch, how many they are, where it waits |
| DUTY | which service does the duties |
| LEAS | which service gives leases on attributes: 16 bytes that name its process |
| CLUS | the format of the rows, and the cluster they belong to |
| CNTR | the counters |
| CNTR service(4) | the tally of one metadata service |
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from fs3.base.ids import CLIENT_ID_BYTES, ClientId, InodeId, NodeId, SessionId
from fs3.base.limits import key_bytes_stored_max, name_bytes_max
from fs3.base.names import to_text

INODE: Final = b"INOD"
DIRENT: Final = b"DENT"
CONTENT: Final = b"CONT"
SESSION: Final = b"SESS"
REQUEST: Final = b"IDEM"
GARBAGE: Final = b"GARB"
COUNTERS: Final = b"CNTR"
CLIENT: Final = b"LIFE"
PRUNED: Final = b"PRUN"
DUTIES: Final = b"DUTY"
LEASES: Final = b"LEAS"
STORE: Final = b"CLUS"
TRIM: Final = b"TRIM"
DATA: Final = b"DATA"
XATTR: Final = b"XATR"
LOCK: Final = b"LOCK"

PREFIX_BYTES = 4
NAME_AT = PREFIX_BYTES + 8
"""Where the name starts in the key of a directory entry, and of an extended attribute."""

_one = Struct(">4sQ").pack
_two = Struct(">4sQQ").pack
_client = Struct(">4s16sQ").pack
_client_only = Struct(">4s16s").pack
_garbage = Struct(">4sBQQ").pack
_inode_locks = Struct(">4sBQ").pack
_tally = Struct(">4sL").pack
_LOCKS_OF_INODE = 1
_LOCKS_OF_CLIENT = 2

assert NAME_AT + name_bytes_max <= key_bytes_stored_max
assert key_bytes_stored_max >= PREFIX_BYTES + CLIENT_ID_BYTES + 8


def inode_key(inode: InodeId) -> bytes:
    """Of an inode's row."""
    return _one(INODE, inode)


def dirent_key(parent: InodeId, name: bytes) -> bytes:
    """Of the entry `name` of a directory."""
    return _one(DIRENT, parent) + name


def dirents_range(parent: InodeId, after: bytes = b"") -> tuple[bytes, bytes]:
    """(begin, end) of the entries of a directory that come after the name `after`."""
    begin = _one(DIRENT, parent)
    # No name contains NUL, so this is the first key that a name beyond `after` can have.
    return begin + after + b"\0" if after else begin, _one(DIRENT, parent + 1)


def content_key(content: InodeId) -> bytes:
    """Of the row that says which inode has a content."""
    return _one(CONTENT, content)


def content_of(key: bytes) -> InodeId:
    """The content in the key of such a row, or of one that has the bytes of a small file."""
    return InodeId(int.from_bytes(key[PREFIX_BYTES:], "big"))


def session_key(content: InodeId, session: SessionId) -> bytes:
    """Of a session's row."""
    return _two(SESSION, content, session)


def sessions_range(content: InodeId) -> tuple[bytes, bytes]:
    """(begin, end) of the sessions on a content."""
    return _one(SESSION, content), _one(SESSION, content + 1)


def trim_key(inode: InodeId) -> bytes:
    """Of the row that says that a file is being truncated."""
    return _one(TRIM, inode)


def data_key(content: InodeId) -> bytes:
    """Of the row with the bytes of a small file. `content`: its content id."""
    return _one(DATA, content)


def inode_locks_key(inode: InodeId) -> bytes:
    """Of the row with all locks of a file."""
    return _inode_locks(LOCK, _LOCKS_OF_INODE, inode)


def inode_locks_range() -> tuple[bytes, bytes]:
    """(begin, end) of those rows of all files."""
    return LOCK + bytes((_LOCKS_OF_INODE,)), LOCK + bytes((_LOCKS_OF_CLIENT,))


def is_inode_locks(key: bytes) -> bool:
    """A key of a row about locks is of those of a file, and not of those of a client."""
    return key[PREFIX_BYTES : PREFIX_BYTES + 1] == bytes((_LOCKS_OF_INODE,))


def inode_of_locks(key: bytes) -> InodeId:
    """The file in the key of such a row."""
    return InodeId(int.from_bytes(key[PREFIX_BYTES + 1 :], "big"))


def client_locks_key(client: ClientId) -> bytes:
    """Of the row about the locks of a client."""
    return LOCK + bytes((_LOCKS_OF_CLIENT,)) + client


def client_of_locks(key: bytes) -> ClientId:
    """The client in the key of such a row."""
    return ClientId(key[PREFIX_BYTES + 1 :])


def inode_of_trim(key: bytes) -> InodeId:
    """The file in the key of such a row."""
    return InodeId(int.from_bytes(key[PREFIX_BYTES:], "big"))


def xattr_key(inode: InodeId, name: bytes) -> bytes:
    """Of an extended attribute."""
    return _one(XATTR, inode) + name


def xattrs_range(inode: InodeId) -> tuple[bytes, bytes]:
    """(begin, end) of the extended attributes of an inode."""
    return _one(XATTR, inode), _one(XATTR, inode + 1)


def inode_of_xattr(key: bytes) -> InodeId:
    """The inode in the key of an extended attribute."""
    return InodeId(int.from_bytes(key[PREFIX_BYTES:NAME_AT], "big"))


def name_of_xattr(key: bytes) -> bytes:
    """The name in the key of an extended attribute."""
    return key[NAME_AT:]


def client_key(client: ClientId) -> bytes:
    """Of the row that counts a client's heartbeats."""
    return _client_only(CLIENT, client)


def pruned_key(content: InodeId, session: SessionId) -> bytes:
    """Of the row that remembers a session of a client that was silent."""
    return _two(PRUNED, content, session)


def pruned_range(content: InodeId) -> tuple[bytes, bytes]:
    """(begin, end) of those rows of a content."""
    return _one(PRUNED, content), _one(PRUNED, content + 1)


def request_key(client: ClientId, seq: int) -> bytes:
    """Of the row that remembers a request. The client id has its 16 bytes."""
    return _client(REQUEST, client, seq)


def after_client(client: ClientId) -> bytes:
    """Where the remembered requests of the next client begin."""
    following = int.from_bytes(client, "big") + 1
    return REQUEST + following.to_bytes(CLIENT_ID_BYTES, "big") if following >> (8 * CLIENT_ID_BYTES) == 0 else end_of(REQUEST)


def client_of(key: bytes) -> ClientId:
    """The client in the key of a remembered request, or of its own row."""
    return ClientId(key[PREFIX_BYTES : PREFIX_BYTES + CLIENT_ID_BYTES])


def garbage_key(kind: int, queued_ns: int, inode: InodeId) -> bytes:
    """Of a garbage row."""
    return _garbage(GARBAGE, kind, queued_ns, inode)


def garbage_range(kind: int) -> tuple[bytes, bytes]:
    """(begin, end) of the garbage of one kind."""
    return GARBAGE + bytes((kind,)), GARBAGE + bytes((kind + 1,))


def describe(key: bytes) -> str:
    """What the row of a key is about, for people."""
    number = int.from_bytes(key[PREFIX_BYTES:NAME_AT], "big")
    match key[:PREFIX_BYTES]:
        case b"INOD":
            return f"the row of inode {number}"
        case b"DENT" if len(key) > NAME_AT:
            return f"the entry {to_text(key[NAME_AT:])!r} of directory {number}"
        case b"DENT":
            return f"an entry of directory {number}"
        case b"SESS" | b"PRUN":
            return f"a session on content {number}"
        case b"CONT":
            return f"the row of content {number}"
        case b"TRIM":
            return f"the truncation of inode {number}"
        case b"DATA":
            return f"the row with the bytes of the small file whose content is {number}"
        case b"XATR":
            return f"extended attribute {key[NAME_AT:].decode(errors='replace')!r} of inode {number}"
        case b"LOCK" if is_inode_locks(key):
            return f"the row of the locks of inode {inode_of_locks(key)}"
        case b"LOCK":
            return f"the row of the locks of client {client_of_locks(key).hex()}"
        case b"CNTR" if len(key) > PREFIX_BYTES:
            return f"the row of the tally of metadata service {int.from_bytes(key[PREFIX_BYTES:], 'big')}"
        case b"CNTR":
            return "the row of the counters"
    return f"row {key!r}"


def tally_key(service: NodeId) -> bytes:
    """Of the row with what one metadata service has counted."""
    return _tally(COUNTERS, service)


def tallies_range() -> tuple[bytes, bytes]:
    """(begin, end) of those rows of all services."""
    return COUNTERS + b"\0", end_of(COUNTERS)


def end_of(prefix: bytes) -> bytes:
    """The first key after all keys with a prefix."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
