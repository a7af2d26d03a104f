"""An update is taken only from the principal whose client its tag names: in front of the handler of Update.

A client's numbers say which of its updates have been applied. Who counts on in the name of another client would have its next
updates taken for repetitions. Whose an id is, is what the first update says that the process hears of.

Ids that are a file's own (`fs3.core.files.file_clients`) belong to no principal: all users that append to the file, and all
metadata services, send updates under the same. They count for the chunks of their file and no others; that the caller may change
those was looked at before, by its capability. What only metadata services do is taken from them alone.
"""

from __future__ import annotations

from typing import Any

from fs3.base.ids import CHUNK_ID_BYTES, CLIENT_ID_BYTES, ChunkId, chunk_file
from fs3.base.status import Code
from fs3.core.files.file_clients import FileClient, FileClientKind, parse_file_client
from fs3.core.security.client_owners import OTHERS_CLIENT, ClientOwners, note_own, owner_of
from fs3.model.principal import AuthContext, Principal, Right
from fs3.ports.rpc import Call, Handler

_NO_CLIENT = bytes(CLIENT_ID_BYTES)
"""Of updates that are remembered for none."""
_SENDERS = {FileClientKind.APPEND: Right.USER, FileClientKind.TRIM: Right.META, FileClientKind.MOVE: Right.META}
"""Who sends updates under the ids of a file: those with this right."""
assert set(_SENDERS) == set(FileClientKind), "it is not said who sends updates of a kind"


class TagGuard:
    """Of one storage node. Limits: see `ClientOwners`."""

    def __init__(self) -> None:
        self._owners = ClientOwners()
        self.refused = 0
        """Requests that named a client of another principal, or of another file."""

    def updates(self, handler: Handler) -> Handler:
        """The handler, for updates with clients that their caller may name. The others fail: PERMISSION. Those that are forwarded
        were looked at by the head of their chain."""

        def guarded(call: Call) -> None:
            principal = call.auth.principal
            if principal is None or call.request.from_target:
                handler(call)
                return
            problem = self._find_problem(call.auth, principal, call.request)
            if not problem:
                handler(call)
            else:
                self.refused += 1
                call.fail(Code.PERMISSION, problem)

        return guarded

    def _find_problem(self, auth: AuthContext, principal: Principal, request: Any) -> str:
        """What is wrong with the first client that the caller may not name; "": it may name all. What is no list of ids is left
        to the handler."""
        ids = request.client_ids
        first, count = ids[:CLIENT_ID_BYTES], len(ids) // CLIENT_ID_BYTES
        own = auth.clients
        if first in own and ids == first * count:
            return ""
        owner = owner_of(principal)
        for place in range(count):
            client = ids[place * CLIENT_ID_BYTES : (place + 1) * CLIENT_ID_BYTES]
            if client in own or client == _NO_CLIENT:
                continue
            of_file = parse_file_client(client)
            if of_file is not None:
                chunk = request.chunks[place * CHUNK_ID_BYTES : (place + 1) * CHUNK_ID_BYTES]
                if problem := _find_misuse(of_file, auth, chunk):
                    return f"client id {client.hex()} {problem}"
            elif self._owners.bind(client, owner):
                note_own(auth, client)
            else:
                return OTHERS_CLIENT.format(client.hex())
        return ""


def _find_misuse(of_file: FileClient, auth: AuthContext, chunk: bytes) -> str:
    """Why this caller may not name a client that is a file's own for this chunk; "": it may."""
    if not auth.rights & _SENDERS[of_file.kind]:
        return "is of metadata services"
    named = chunk_file(ChunkId(chunk)) if chunk else None
    if named is None or named[0] != of_file.content:
        return f"is of content {of_file.content}, and chunk {chunk.hex()} is not"
    return ""
