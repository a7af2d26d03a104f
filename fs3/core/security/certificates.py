"""Whom a TLS certificate speaks for, by its subject as RFC 4514 writes it."""

from __future__ import annotations

import re

from fs3.model.principal import AuthContext, Principal, PrincipalKind

_UNESCAPED_COMMA = re.compile(r"(?<!\\),")


def common_name(subject: str) -> str:
    """Of a subject: "h1" of "CN=h1,O=fs3 services"; "" when it has none."""
    return next((part[3:] for part in _UNESCAPED_COMMA.split(subject) if part.startswith("CN=")), "")


def may_act_as(auth: AuthContext, principal: Principal) -> bool:
    """Whether a connection may show this ticket: over TLS, one of a node only with a certificate of the node, or of its machine.

    So a ticket that was taken from a service is of no use to a client that cannot speak for its machine.
    """
    if auth.subject is None or principal.kind is not PrincipalKind.SERVICE:
        return True
    name = common_name(auth.subject)
    return bool(name) and (principal.name == name or principal.name.startswith(f"{name}-"))
