"""Capabilities: what their holder may do to the chunks of one content, or to the pages of one KVCache namespace, until when.

    | kind 1 | rights 1 | lifetime ms 4 | subject 8 | expires ms 8 | name of the holder |

That is the body of a sealed message (`fs3.core.security.seal`), little-endian. The metadata service seals those of files, the
manager those of namespaces; storage nodes have the keys and check them without asking either.

`subject` is a content id or a namespace id. Neither is given out twice (`fs3.core.meta.allocation`, `fs3.core.meta.restore`,
`fs3.core.membership.namespaces`), so a capability never opens what came later. It counts on a connection that has proved to be
its holder's, and on no other. `expires ms` is of the time of the cluster (`fs3.core.security.cluster_time`).
"""

from __future__ import annotations

import struct
import sys
from enum import IntEnum
from typing import Final, NamedTuple

from fs3.base.ids import CHUNK_ID_BYTES, INODE_IDS_END, NAMESPACE_IDS_END, ChunkId, chunk_file, page_namespace
from fs3.base.limits import capability_lifetime_ms
from fs3.core.security.seal import DIGEST_BYTES, HEAD_BYTES, KeyRing, SealError, SealKind, seal, unseal
from fs3.model.principal import Principal, PrincipalKind, Right

holder_bytes_max = 255
"""Of the name of a holder."""

READ: Final = 1
"""To read bytes, to learn which chunks there are and how long they are, to hear of pages."""
WRITE: Final = 2
"""To change chunks, to pin pages."""
TRUSTED: Final = int(Right.ADMIN | Right.MGMTD | Right.META | Right.STORAGE)
"""Who has one of these rights needs no capability. In a cluster without security every connection has them all."""

_BODY: Final = struct.Struct("<BBIQQ")
_BYTEORDER: Final = sys.byteorder
_FIRST_PAGE_BYTE: Final = 0x80


class SubjectKind(IntEnum):
    """What a capability is for."""

    CONTENT = 1
    """The chunks of one content of a file."""
    NAMESPACE = 2
    """The pages of one KVCache namespace."""


_SUBJECTS_END: Final = {SubjectKind.CONTENT: INODE_IDS_END, SubjectKind.NAMESPACE: NAMESPACE_IDS_END}


class Subject(NamedTuple):
    """Names what a capability is for."""

    kind: SubjectKind
    id: int


class Capability(NamedTuple):
    """One, opened."""

    subject: Subject
    rights: int
    """`READ`, `WRITE` or both."""
    expires_ms: int
    """Of the cluster's time: from then on it opens nothing."""
    holder: str
    """The user whose connections it is for; see `holder_of`."""
    lifetime_ms: int = capability_lifetime_ms
    """How long it was to live when it was sealed: what a client renews it by, and no check looks at."""
    key: int = 0
    """Id of the key it was sealed with; 0: not known."""


def subject_of(chunk: ChunkId) -> Subject:
    """What a chunk belongs to."""
    found = chunk_file(chunk)
    if found is not None:
        return Subject(SubjectKind.CONTENT, found[0])
    return Subject(SubjectKind.NAMESPACE, page_namespace(chunk))


def subject_key(subject: Subject) -> int:
    """How `subject_keys` names a subject: the first bytes of the ids of its chunks, as this machine reads them as a number.
    Namespaces are below 0, contents are not."""
    if subject.kind is SubjectKind.CONTENT:
        return int.from_bytes(subject.id.to_bytes(8, "big"), _BYTEORDER)
    return ~int.from_bytes((subject.id | 1 << 31).to_bytes(4, "big"), _BYTEORDER)


def subject_keys(chunks: bytes) -> set[int]:
    """The subjects of chunk ids, 16 bytes each and concatenated, each once, by their `subject_key`. Of a request that names both
    chunks of files and pages, those that are not of the kind of the first one come out as subjects that there are none of.

    Runs for every request; the work per chunk is not Python's. Raises ValueError for a length that is no multiple of 16.
    """
    count, odd = divmod(len(chunks), CHUNK_ID_BYTES)
    if odd:
        raise ValueError(f"{len(chunks)} bytes are no chunk ids")
    if not count:
        return set()
    if chunks[0] < _FIRST_PAGE_BYTE:
        if count == 1:
            return {int.from_bytes(chunks[:8], _BYTEORDER)}
        return set(memoryview(chunks).cast("Q")[::2].tolist())
    return {~word for word in set(memoryview(chunks).cast("I")[::4].tolist())}


def subject_of_key(key: int) -> Subject:
    """The inverse of `subject_key`."""
    if key >= 0:
        return Subject(SubjectKind.CONTENT, int.from_bytes(key.to_bytes(8, _BYTEORDER), "big"))
    return Subject(SubjectKind.NAMESPACE, int.from_bytes((~key).to_bytes(4, _BYTEORDER), "big") & (1 << 31) - 1)


def holder_of(principal: Principal) -> str:
    """What capabilities of a principal are made out to: its name, and since when it is what it is, so that those from before are
    another's. "" for one that gets none: services need none."""
    if principal.kind is not PrincipalKind.USER:
        return ""
    return f"{principal.name} {principal.since}" if principal.since else principal.name


def seal_capability(ring: KeyRing, capability: Capability) -> bytes:
    """Sign one. Raises SealError when the ring has no key to sign with, ValueError for what is no capability."""
    subject, holder = capability.subject, capability.holder.encode()
    if not 0 < subject.id < _SUBJECTS_END[subject.kind]:
        raise ValueError(f"there is no {subject.kind.name.lower()} {subject.id}")
    if not 0 < len(holder) <= holder_bytes_max:
        raise ValueError(f"a name of {len(holder)} bytes is no holder")
    if not 0 < capability.rights <= READ | WRITE:
        raise ValueError(f"{capability.rights} says no rights")
    body = _BODY.pack(subject.kind, capability.rights, capability.lifetime_ms, subject.id, capability.expires_ms)
    return seal(ring, SealKind.CAPABILITY, body + holder)


def open_capability(ring: KeyRing, message: bytes) -> Capability:
    """What a message says that was sealed with a key in use. Whether it has expired, and whose it is, is for the caller to look
    at. Raises SealError."""
    capability = _decode(unseal(ring, SealKind.CAPABILITY, message))
    return capability._replace(key=int.from_bytes(message[2:HEAD_BYTES], "little"))


def peek_capability(message: bytes) -> Capability:
    """What a message says, not whether it counts: for its holder, who has no key. Raises SealError for what is none."""
    if len(message) < HEAD_BYTES + DIGEST_BYTES or message[1] != SealKind.CAPABILITY:
        raise SealError("no capability")
    return _decode(message[HEAD_BYTES:-DIGEST_BYTES])


def _decode(body: bytes) -> Capability:
    if not _BODY.size < len(body) <= _BODY.size + holder_bytes_max:
        raise SealError("no capability")
    kind, rights, lifetime_ms, subject, expires_ms = _BODY.unpack_from(body)
    try:
        return Capability(Subject(SubjectKind(kind), subject), rights, expires_ms, body[_BODY.size :].decode(), lifetime_ms)
    except ValueError as wrong:
        raise SealError("it was made by another version of the software") from wrong
