"""KVCache namespaces belong to a tenant: the users of another one learn nothing of them, and change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from fs3.base.status import Code
from fs3.core.membership.events import ManagerRequest, Rejection
from fs3.model.cluster import (
    CacheNamespace,
    ClearNamespace,
    DeleteNamespace,
    ListNamespaces,
    NamespaceSettings,
    OpenNamespace,
    SetNamespace,
)
from tests.unit.core.membership.test_manager import Cluster


@pytest.fixture
def cluster() -> Cluster:
    """With a namespace of tenant "a", and one that is of none."""
    made = Cluster()
    made.form()
    ask(made, OpenNamespace("model", 1000, 0, tenant="a"))
    ask(made, OpenNamespace("open", 1000, 0))
    return made


def ask(cluster: Cluster, body: Any) -> Any:
    return cluster.ask(ManagerRequest(1, body))


def names(cluster: Cluster, tenant: str | None, limit: int = 0, after: str = "") -> tuple[list[str], bool]:
    page = cluster.manager.namespaces.list(ListNamespaces(after=after, limit=limit, tenant=tenant))
    return [namespace.name for namespace in page.namespaces], page.more


def test_what_a_user_makes_is_its_tenants(cluster: Cluster) -> None:
    made: CacheNamespace = ask(cluster, OpenNamespace("model", 1000, 0, tenant="a"))
    assert (made.id, made.tenant) == (1, "a")
    cluster.restart()
    assert ask(cluster, OpenNamespace("model", 1000, 0)).tenant == "a"


def test_another_tenant_is_refused(cluster: Cluster) -> None:
    namespace = ask(cluster, OpenNamespace("model", 1000, 0))
    for tenant in ("b", ""):
        refused = ask(cluster, OpenNamespace("model", 1000, 0, tenant=tenant))
        assert isinstance(refused, Rejection)
        assert refused.code is Code.ACCESS
        # Whatever it names: the size of the pages would be told by a refusal for another reason.
        assert ask(cluster, OpenNamespace("model", 77, 3, tenant=tenant)) == refused
        for body in (SetNamespace("model", NamespaceSettings(ttl_ms=5), tenant), ClearNamespace("model", namespace.id, tenant)):
            refused = ask(cluster, body)
            absent = ask(cluster, type(body)("absent", body.settings if isinstance(body, SetNamespace) else body.id, tenant))
            assert isinstance(refused, Rejection)
            assert (refused.code, refused.message.replace("model", "absent")) == (absent.code, absent.message)
        ask(cluster, DeleteNamespace("model", namespace.made_as, tenant))
    assert ask(cluster, OpenNamespace("model", 1000, 0)) == namespace


def test_lists_have_those_of_the_tenant_only(cluster: Cluster) -> None:
    assert names(cluster, None) == (["model", "open"], False)
    assert names(cluster, "a") == (["model"], False)
    assert names(cluster, "") == (["open"], False)
    assert names(cluster, "b") == ([], False)


def test_a_list_is_paged_past_what_is_left_out(cluster: Cluster) -> None:
    for number in range(9):
        ask(cluster, OpenNamespace(f"n{number}", 1000, 0, tenant="b" if number % 3 else "c"))
    assert names(cluster, "c", limit=2) == (["n0", "n3"], True)
    assert names(cluster, "c", limit=2, after="n3") == (["n6"], False)
    assert names(cluster, "b", limit=6) == (["n1", "n2", "n4", "n5", "n7", "n8"], False)
    assert names(cluster, "b", limit=5) == (["n1", "n2", "n4", "n5", "n7"], True)


def test_one_is_found_by_its_id_by_its_tenant_alone(cluster: Cluster) -> None:
    find = cluster.manager.namespaces.find_by_id
    assert find(1, "a") == find(1, None) == ask(cluster, OpenNamespace("model", 1000, 0))
    assert find(1, "b") is find(1, "") is find(3, None) is None
    cleared = ask(cluster, ClearNamespace("model", 1, "a"))
    assert cluster.manager.namespaces.find_by_id(1, "a") is None
    assert cluster.manager.namespaces.find_by_id(cleared.id, "a") == cleared


def test_only_an_administrator_says_whose_a_namespace_is(cluster: Cluster) -> None:
    to_b = NamespaceSettings(tenant="b")
    for body in (SetNamespace("model", to_b, "a"), OpenNamespace("new", 1000, 0, to_b, tenant="a")):
        refused = ask(cluster, body)
        assert isinstance(refused, Rejection)
        assert refused.code is Code.PERMISSION
    assert ask(cluster, SetNamespace("model", NamespaceSettings(tenant="a", ttl_ms=5), "a")).ttl_ms == 5
    assert ask(cluster, SetNamespace("model", to_b)).tenant == "b"
    assert ask(cluster, OpenNamespace("new", 1000, 0, NamespaceSettings(tenant="c"))).tenant == "c"
    refused = ask(cluster, SetNamespace("model", NamespaceSettings(tenant="x" * 256)))
    assert "tenant has 256 bytes" in refused.message
