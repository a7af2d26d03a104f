"""Whose each client id is.

A client draws its id at random, and everything that is remembered of it hangs on that: the answers to its requests, its sessions
and locks, the numbers of its updates. Who knows the id of another one could ask in its name. So an id belongs to the principal
that has used it first, and is refused to every other one, for as long as it is remembered.

Intuition: an id is looked up once per connection (`AuthContext.clients`), so that a request costs one look into a set. Each
principal has a share of what a process remembers, so that no other one can have its ids forgotten.
"""

from __future__ import annotations

from typing import Final

from fs3.model.principal import AuthContext, Principal, PrincipalKind

client_ids_per_principal_max: Final = 8192
"""Client ids that one process remembers to be one user's or node's; the one that was bound first goes."""
client_ids_per_connection_max: Final = 64
"""Of those, which a connection needs not ask about; beyond, it begins anew."""
OTHERS_CLIENT: Final = "client id {} belongs to another user"
"""What those are told who use it."""


def owner_of(principal: Principal) -> str:
    """What stands for a principal in rows: a user by its name, whatever else is changed of it; a node is no user of its name."""
    return principal.name if principal.kind is PrincipalKind.USER else f"node {principal.name}"


def note_own(auth: AuthContext, client: bytes) -> None:
    """The id is that of the principal of this connection. It remembers some; beyond, it begins anew."""
    if len(auth.clients) >= client_ids_per_connection_max:
        auth.clients.clear()
    auth.clients.add(client)


class ClientOwners:
    """What one process remembers. Belongs to one loop."""

    def __init__(self, ids_max: int = client_ids_per_principal_max) -> None:
        """`ids_max`: of one principal."""
        self._ids_max = ids_max
        self._owners: dict[bytes, str] = {}
        self._ids: dict[str, dict[bytes, None]] = {}
        """Of each principal, the one that was bound first in front."""

    def find(self, client: bytes) -> str:
        """Whose it is; "": that is not known."""
        return self._owners.get(client, "")

    def bind(self, client: bytes, owner: str) -> bool:
        """From now on the id is this principal's. False: it is another's."""
        known = self._owners.setdefault(client, owner)
        if known != owner:
            return False
        ids = self._ids.setdefault(owner, {})
        ids[client] = None
        if len(ids) > self._ids_max:
            oldest = next(iter(ids))
            del ids[oldest], self._owners[oldest]
        return True
