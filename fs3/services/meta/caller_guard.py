"""A request is taken only from the principal whose client it names: in front of the handlers of the metadata service.

Whose an id is, is remembered by the process; what it has not heard of is looked up in the rows, once. A process that is started
anew, or another one of the same store, so knows it from the first change that the client has made. The transactions look
at it again (`fs3.core.meta.client_liveness.check_owner`), since two processes may hear of an id at the same time.
"""

from __future__ import annotations

import logging
from functools import partial

from fs3.base.errors import FS3Error
from fs3.base.ids import CLIENT_ID_BYTES, ClientId
from fs3.base.status import Code
from fs3.core.meta.client_liveness import find_owner
from fs3.core.meta.errors import MetaError
from fs3.core.security.client_owners import OTHERS_CLIENT, ClientOwners, note_own, owner_of
from fs3.ports.kv import KV
from fs3.ports.rpc import Call, Handler

log = logging.getLogger("fs3.meta")


class CallerGuard:
    """Of one metadata service. Limits: see `ClientOwners`."""

    def __init__(self, kv: KV) -> None:
        self._kv = kv
        self._owners = ClientOwners()
        self.refused = 0
        """Requests that named a client of another principal."""

    def guard(self, handler: Handler) -> Handler:
        """The handler, for requests with a client of their caller's own. The others fail: PERMISSION."""

        def guarded(call: Call) -> None:
            auth = call.auth
            if auth.principal is None or call.request.caller.client_id in auth.clients:
                handler(call)
            else:
                self._look(call, handler)

        return guarded

    def _look(self, call: Call, handler: Handler) -> None:
        client = ClientId(call.request.caller.client_id)
        if len(client) != CLIENT_ID_BYTES:
            handler(call)  # which says so
        elif self._owners.find(client):
            self._decide(call, handler, client)
        else:
            # Rows say whose it is to a process that does not know.
            self._kv.submit_read(lambda txn: find_owner(txn, client), partial(self._on_found, call, handler, client))

    def _on_found(self, call: Call, handler: Handler, client: ClientId, owner: str | None, why: BaseException | None) -> None:
        if why is not None or owner is None:
            _fail(call, why)
            return
        if owner:
            self._owners.bind(client, owner)
        self._decide(call, handler, client)

    def _decide(self, call: Call, handler: Handler, client: ClientId) -> None:
        principal = call.auth.principal
        if principal is None:
            # It has lost its rights while rows were read: a caller that asks again is admitted anew.
            call.fail(Code.BUSY, "who asks was not known any more when the client had been looked up")
        elif self._owners.bind(client, owner_of(principal)):
            note_own(call.auth, client)
            handler(call)
        else:
            self.refused += 1
            call.fail(Code.PERMISSION, OTHERS_CLIENT.format(client.hex()))


def _fail(call: Call, why: BaseException | None) -> None:
    if isinstance(why, MetaError):
        call.fail(why.code, why.message)
    elif isinstance(why, FS3Error):
        call.fail(why.code, why.strerror or why.code.name)
    else:
        log.error("a client could not be looked up", exc_info=why)
        call.fail(Code.INTERNAL, "whose the client is could not be looked up")
