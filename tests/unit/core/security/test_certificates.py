"""Whom a certificate speaks for."""

from __future__ import annotations

import pytest

from fs3.core.security.certificates import common_name, may_act_as
from fs3.model.principal import AuthContext, Principal, PrincipalKind


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("CN=h1,O=fs3 services", "h1"),
        ("O=fs3 services,CN=h1", "h1"),
        ("O=x\\,CN=h1", ""),
        ("O=research", ""),
        ("", ""),
    ],
)
def test_common_names(subject: str, name: str) -> None:
    assert common_name(subject) == name


@pytest.mark.parametrize(
    ("subject", "node", "may"),
    [
        (None, "h1-storage", True),
        ("CN=h1,O=fs3 services", "h1-storage-2", True),
        ("CN=storage-1", "storage-1", True),
        ("CN=h1", "h11-storage", False),
        ("CN=h11", "h1-storage", False),
        ("CN=h1", "h2-storage", False),
        ("CN=alice,O=research", "h1-storage", False),
        ("", "h1-storage", False),
        ("O=fs3 services", "-storage", False),
    ],
)
def test_a_ticket_of_a_node_goes_with_a_certificate_of_its_machine(subject: str | None, node: str, may: bool) -> None:
    auth = AuthContext()
    auth.subject = subject
    assert may_act_as(auth, Principal(PrincipalKind.SERVICE, node, 0)) == may
    assert may_act_as(auth, Principal(PrincipalKind.USER, node, 0))
