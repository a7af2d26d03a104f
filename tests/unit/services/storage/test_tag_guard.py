"""Updates in the name of another user's client."""

from __future__ import annotations

from typing import Any

import pytest

from fs3.base.ids import ChunkId, InodeId, file_chunk, page_chunk
from fs3.base.status import Code
from fs3.core.files.file_clients import FileClientKind, make_file_client
from fs3.core.security.client_owners import client_ids_per_principal_max
from fs3.model.principal import AuthContext, Principal, PrincipalKind, Right
from fs3.services.storage.tag_guard import TagGuard
from fs3.wire.pb import storage_pb2 as pb

A, B, C = (letter * 16 for letter in (b"a", b"b", b"c"))
FILE, OTHER = InodeId(7), InodeId(8)
OF_METAS = [FileClientKind.TRIM, FileClientKind.MOVE]


class AskedCall:
    """A call, and what became of it."""

    def __init__(self, auth: AuthContext, request: Any) -> None:
        self.auth = auth
        self.request = request
        self.code: Code | None = None
        self.message = ""

    def fail(self, code: Code, message: str, routing_version: int = 0) -> None:
        """See `Call.fail`."""
        self.code, self.message = code, message


def connection(name: str, kind: PrincipalKind = PrincipalKind.USER, right: Right = Right.USER) -> AuthContext:
    auth = AuthContext()
    auth.prove(Principal(kind, name, int(right)), 1 << 60)
    return auth


def meta(name: str) -> AuthContext:
    return connection(name, PrincipalKind.SERVICE, Right.META)


def ask(guard: TagGuard, auth: AuthContext, ids: bytes, from_target: int = 0, chunks: bytes = b"") -> str:
    """ "": it was served, else why not."""
    served: list[Any] = []
    call: Any = AskedCall(auth, pb.UpdateRequest(client_ids=ids, from_target=from_target, chunks=chunks))
    guard.updates(served.append)(call)
    assert bool(served) == (call.code is None)
    assert call.code in (None, Code.PERMISSION)
    return call.message


def test_each_client_of_a_request_is_looked_at() -> None:
    guard, ann, bob = TagGuard(), connection("ann"), connection("bob")
    assert not ask(guard, ann, A * 3)
    assert not ask(guard, ann, A * 64 + B)
    assert not ask(guard, connection("ann"), A + B)
    assert not ask(guard, bob, C)
    for ids in (A, C + A, C * 9 + B + C):
        assert (A if A in ids else B).hex() in ask(guard, bob, ids)
    assert not ask(guard, bob, C * 2)
    assert guard.refused == 3


def test_what_is_no_client_is_no_ones() -> None:
    guard = TagGuard()
    for auth in (connection("ann"), connection("bob")):
        assert not ask(guard, auth, bytes(16) * 2)
        assert not ask(guard, auth, b"")
        assert not ask(guard, auth, b"short")
        assert not ask(guard, auth, A[:8])


def test_an_open_cluster_and_forwarded_updates_are_not_looked_at() -> None:
    guard = TagGuard()
    assert not ask(guard, connection("ann"), A)
    assert not ask(guard, AuthContext(), A)
    assert not ask(guard, connection("storage-1", PrincipalKind.SERVICE), A, from_target=101)
    assert ask(guard, connection("storage-1", PrincipalKind.SERVICE), A)


def chunks_of(*files: InodeId) -> bytes:
    return b"".join(file_chunk(file, index) for index, file in enumerate(files))


def test_all_who_may_append_to_a_file_do_so_under_one_id() -> None:
    guard, ann, bob = TagGuard(), connection("ann"), connection("bob")
    client = make_file_client(FileClientKind.APPEND, FILE)
    for auth in (ann, bob, ann, connection("eve")):
        assert not ask(guard, auth, client * 3, chunks=chunks_of(FILE, FILE, FILE))
        assert not ask(guard, auth, client, chunks=chunks_of(FILE))
    assert not guard.refused


@pytest.mark.parametrize("kind", OF_METAS)
def test_every_metadata_service_finishes_what_another_one_has_begun(kind: FileClientKind) -> None:
    guard, client = TagGuard(), make_file_client(kind, FILE)
    for auth in (meta("meta-1"), meta("meta-2"), meta("meta-1")):
        assert not ask(guard, auth, client * 2, chunks=chunks_of(FILE, FILE))
    others = [connection("ann"), connection("root", right=Right.USER | Right.ADMIN)]
    others += [connection("node", PrincipalKind.SERVICE, right) for right in (Right.STORAGE, Right.MGMTD)]
    for auth in others:
        assert "is of metadata services" in ask(guard, auth, client, chunks=chunks_of(FILE))
    assert guard.refused == len(others)


@pytest.mark.parametrize("kind", FileClientKind)
def test_the_id_of_a_file_counts_for_its_chunks_alone(kind: FileClientKind) -> None:
    guard, client = TagGuard(), make_file_client(kind, FILE)
    sender = meta("meta-1") if kind in OF_METAS else connection("ann")
    page = page_chunk(FILE, b"a digest of a key")
    like_a_page = make_file_client(kind, InodeId(int.from_bytes(page[:8], "big")))
    for ids, chunks in (
        (client, chunks_of(OTHER)),
        (client * 2, chunks_of(FILE, OTHER)),
        (A + client, chunks_of(FILE, OTHER)),
        (client, page),
        (client, b""),
        (client, chunks_of(FILE)[:9]),
        (like_a_page, page),
    ):
        assert "is of content" in ask(guard, sender, ids, chunks=chunks)
    assert not ask(guard, sender, A + client, chunks=chunks_of(OTHER, FILE))


def test_ids_of_files_take_no_share() -> None:
    guard, ann, bob = TagGuard(), connection("ann"), connection("bob")
    assert not ask(guard, ann, A, chunks=chunks_of(FILE))
    for number in range(1, client_ids_per_principal_max + 2):
        file = InodeId(number)
        assert not ask(guard, ann, make_file_client(FileClientKind.APPEND, file), chunks=chunks_of(file))
    assert A.hex() in ask(guard, bob, A, chunks=chunks_of(FILE))
    assert ann.clients == {A}


def test_a_forwarded_update_of_a_file_is_not_looked_at() -> None:
    client = make_file_client(FileClientKind.TRIM, FILE)
    storage = connection("storage-1", PrincipalKind.SERVICE, Right.STORAGE)
    assert not ask(TagGuard(), storage, client, from_target=101, chunks=ChunkId(bytes(16)))
