"""What a request to the manager claims, and what its connection has proved: where the two differ, it is refused or corrected."""

from __future__ import annotations

from typing import Any

import msgspec

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.core.security.peers import is_node
from fs3.model.cluster import Heartbeat, RegisterNode
from fs3.model.principal import AuthContext, PrincipalKind, Right
from fs3.model.routing import Role, Routing
from fs3.model.settings import SetSettings

_RIGHT_OF = {Role.META: Right.META, Role.STORAGE: Right.STORAGE}


def claim_by(auth: AuthContext, body: Any, routing: Routing) -> Any:
    """The request as its caller may make it. Raises FS3Error PERMISSION.

    A node registers under the name, and for the role, that its key stands for, and sends heartbeats of itself alone: so a
    process that has no such key is no node of the cluster. Who has changed settings is who has authenticated.
    """
    principal = auth.principal
    if principal is None:
        return body
    if isinstance(body, RegisterNode):
        is_own = principal.kind is PrincipalKind.SERVICE and principal.name == body.name
        if not is_own or not auth.rights & _RIGHT_OF.get(body.role, 0):
            raise error(Code.PERMISSION, "a node registers under the name and for the role of its own key")
    elif isinstance(body, Heartbeat) and not is_node(principal, body.node, routing):
        raise error(Code.PERMISSION, "a node sends heartbeats of itself")
    elif isinstance(body, SetSettings):
        return msgspec.structs.replace(body, author=principal.name)
    return body
