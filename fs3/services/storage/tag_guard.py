"""An update is taken only from the principal whose client its tag names: in front of the handler of Update.

A client's numbers say which of its updates have been applied. Who counts on in the name of another client would have its next
updates taken for repetitions. Whose an id is, is what the first update says that the process hears of.
"""

from __future__ import annotations

from fs3.base.ids import CLIENT_ID_BYTES
from fs3.base.status import Code
from fs3.core.security.client_owners import OTHERS_CLIENT, ClientOwners, note_own, owner_of
from fs3.model.principal import AuthContext, Principal
from fs3.ports.rpc import Call, Handler

_NO_CLIENT = bytes(CLIENT_ID_BYTES)
"""Of updates that are remembered for none."""


class TagGuard:
    """Of one storage node. Limits: see `ClientOwners`."""

    def __init__(self) -> None:
        self._owners = ClientOwners()
        self.refused = 0
        """Requests that named a client of another principal."""

    def updates(self, handler: Handler) -> Handler:
        """The handler, for updates with clients of their caller's own. The others fail: PERMISSION. Those that are forwarded were
        looked at by the head of their chain."""

        def guarded(call: Call) -> None:
            principal = call.auth.principal
            if principal is None or call.request.from_target:
                handler(call)
                return
            other = self._find_other(call.auth, principal, call.request.client_ids)
            if not other:
                handler(call)
            else:
                self.refused += 1
                call.fail(Code.PERMISSION, OTHERS_CLIENT.format(other.hex()))

        return guarded

    def _find_other(self, auth: AuthContext, principal: Principal, ids: bytes) -> bytes:
        """The first of these clients that is another principal's; b"": none is. What is no list of ids is left to the handler."""
        first, count = ids[:CLIENT_ID_BYTES], len(ids) // CLIENT_ID_BYTES
        own = auth.clients
        if first in own and ids == first * count:
            return b""
        owner = owner_of(principal)
        for begin in range(0, count * CLIENT_ID_BYTES, CLIENT_ID_BYTES):
            client = ids[begin : begin + CLIENT_ID_BYTES]
            if client in own or client == _NO_CLIENT:
                continue
            if not self._owners.bind(client, owner):
                return client
            note_own(auth, client)
        return b""
