"""KVCache namespaces as the manager keeps them: opened by name, listed, set, cleared and deleted.

An id names the pages of one namespace between two clearings, and none is given out twice. So nothing is kept of what is deleted:
pages of an id below the next one that no namespace has are unreachable, and a storage node may remove them.
Clearing gives a namespace the next id, and deleting forgets it; both are one commit, however many pages there are, and clients
and storage nodes hear of them through the routing info. Every request may be repeated.

A store that was put back from an old copy does give ids out again, and nothing that is sure to be asked in time knows which. So
each id comes with a salt, of random bytes that every term of a manager draws anew, and pages are found by both
(`fs3.core.kvcache.pages`): what was stored under the id before is not found under it now.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b

import msgspec

from fs3.base.ids import NAMESPACE_IDS_END, PAGE_SALT_BYTES
from fs3.base.limits import (
    cache_bytes_max,
    namespaces_max,
    namespaces_per_page_max,
    owner_bytes_max,
    page_bytes_max,
    tenant_bytes_max,
    ttl_ms_max,
)
from fs3.base.status import Code
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.node_admission import RequestRejected
from fs3.model.chain import ChainTable
from fs3.model.cluster import (
    ANY_TENANT,
    CacheNamespace,
    ClearNamespace,
    DeleteNamespace,
    ListNamespaces,
    NamespaceChanges,
    NamespacePage,
    NamespaceSettings,
    OpenNamespace,
    SetNamespace,
)

TERM_ENTROPY_BYTES = 16
"""Random bytes that a term of a manager begins with."""


class Namespaces:
    """Part of the manager's machine; what it changes is in the ledger. Requests that cannot be granted raise RequestRejected."""

    def __init__(self, ledger: Ledger, entropy: bytes) -> None:
        """`entropy`: random bytes that no other term of a manager has."""
        self._ledger = ledger
        self._entropy = entropy
        self._by_id: tuple[int, dict[int, CacheNamespace]] | None = None
        """Those of the list that had been changed so often."""

    @property
    def count(self) -> int:
        """How many there are, stored."""
        return len(self._ledger.durable_namespaces)

    def list(self, wanted: ListNamespaces) -> NamespacePage:
        """A page of the stored ones, by name."""
        limit = min(wanted.limit or namespaces_per_page_max, namespaces_per_page_max)
        found, more = self._ledger.list_namespaces(wanted.prefix, wanted.after, limit)
        if wanted.tenant is not ANY_TENANT:
            page, found = found, []
            while True:
                found += [namespace for namespace in page if namespace.tenant == wanted.tenant]
                if not more or len(found) >= limit:
                    break
                page, more = self._ledger.list_namespaces(wanted.prefix, page[-1].name, limit)
            more = more or len(found) > limit
            found = found[:limit]
        return NamespacePage(tuple(found), more, *self._version_and_next_id())

    def find_by_id(self, number: int, tenant: str | None) -> CacheNamespace | None:
        """The stored one with this id, if the tenant may use it."""
        change = self._ledger.durable_counters.namespace_change
        if self._by_id is None or self._by_id[0] != change:
            self._by_id = change, {namespace.id: namespace for namespace in self._ledger.durable_namespaces.values()}
        found = self._by_id[1].get(number)
        return found if found is not None and _may_use(found, tenant) else None

    def find_ids(self, ids: Collection[int]) -> dict[int, CacheNamespace]:
        """Those of the stored ones that have one of these ids now. May be called from any thread."""
        return {each.id: each for each in list(self._ledger.durable_namespaces.values()) if each.id in ids}

    def list_changes(self, since: int) -> NamespaceChanges:
        """What is stored of the changes since the list had a version."""
        version, next_id = self._version_and_next_id()
        changed = self._ledger.namespace_log.since(since, namespaces_per_page_max)
        if changed is None:
            return NamespaceChanges(False, version, next_id)
        names, gone = changed
        durable = self._ledger.durable_namespaces
        return NamespaceChanges(True, version, next_id, tuple(durable[name] for name in names if name in durable), tuple(gone))

    def _version_and_next_id(self) -> tuple[int, int]:
        """Of the stored list: an id that was given out and is not stored yet must not look like one that no namespace has."""
        counters = self._ledger.durable_counters
        return counters.namespace_change, counters.namespace + 1

    def find(self, wanted: OpenNamespace) -> CacheNamespace | None:
        """The one with this name. None: it may be created."""
        found = self._ledger.state.namespaces.get(wanted.name)
        if found is None:
            self._check_new(wanted)
            return None
        if not _may_use(found, wanted.tenant):
            raise RequestRejected(Code.ACCESS, f"the name {wanted.name!r} is taken by a namespace of another tenant")
        if wanted.page_bytes != found.page_bytes:
            raise RequestRejected(
                Code.NAMESPACE_DIFFERS,
                f"namespace {wanted.name!r} has pages of {found.page_bytes} bytes, not {wanted.page_bytes}",
            )
        if wanted.replicas not in (0, found.replicas):
            raise RequestRejected(
                Code.NAMESPACE_DIFFERS, f"namespace {wanted.name!r} has {found.replicas} replicas, not {wanted.replicas}"
            )
        return found

    def _check_new(self, wanted: OpenNamespace) -> None:
        if not 1 <= wanted.page_bytes <= page_bytes_max:
            raise RequestRejected(Code.INVALID, f"page_bytes is {wanted.page_bytes}, must be 1 to {page_bytes_max}")
        check_settings(wanted.settings, wanted.page_bytes)
        _check_tenant(wanted.settings, wanted.tenant)
        if len(self._ledger.state.namespaces) >= namespaces_max:
            raise RequestRejected(
                Code.TOO_LARGE, f"the cluster has {namespaces_max} namespaces, the most it can have; delete those of no more use"
            )
        self._check_ids()

    def _check_ids(self) -> None:
        if self._ledger.state.counters.namespace + 1 >= NAMESPACE_IDS_END:
            raise RequestRejected(
                Code.TOO_LARGE, f"the cluster has given out {NAMESPACE_IDS_END - 1} ids of namespaces, all there are"
            )

    def create(self, wanted: OpenNamespace, table: ChainTable) -> CacheNamespace:
        """A new one, on the chains of a table."""
        named = wanted.settings.get_named()
        if wanted.tenant is not ANY_TENANT:
            named["tenant"] = wanted.tenant
        number = self._next_id()
        salt = self._make_salt(number)
        made = CacheNamespace(number, wanted.name, wanted.page_bytes, table.replicas, table.id, salt=salt, **named)  # type: ignore[arg-type]
        self._ledger.put_namespace(made)
        return made

    def set(self, wanted: SetNamespace) -> CacheNamespace:
        """Change the settings that are named."""
        found = self._get(wanted.name, wanted.tenant)
        _check_tenant(wanted.settings, wanted.tenant)
        changed = msgspec.structs.replace(found, **wanted.settings.get_named())
        # What is not named has to fit what is.
        whole = NamespaceSettings(changed.budget_bytes, changed.ttl_ms, changed.pin_bytes, changed.owner, changed.tenant)
        check_settings(whole, found.page_bytes)
        if changed != found:
            self._ledger.put_namespace(changed)
        return changed

    def clear(self, wanted: ClearNamespace) -> CacheNamespace:
        """Give it another id, unless it has another one than the client knows of."""
        found = self._get(wanted.name, wanted.tenant)
        if found.id != wanted.id:
            return found
        self._check_ids()
        number = self._next_id()
        fresh = msgspec.structs.replace(found, id=number, first_id=found.made_as, salt=self._make_salt(number))
        self._ledger.forget_namespace(found)
        self._ledger.put_namespace(fresh)
        return fresh

    def delete(self, wanted: DeleteNamespace) -> int:
        """Forget it, also when it was cleared meanwhile. Nothing happens when that was done already. Returns the id it was made
        with."""
        state = self._ledger.state
        found = state.namespaces.get(wanted.name)
        if found is not None and found.made_as == wanted.made_as and _may_use(found, wanted.tenant):
            self._ledger.forget_namespace(found)
        elif not 1 <= wanted.made_as <= state.counters.namespace:
            raise RequestRejected(Code.NO_NAMESPACE, f"there has never been a namespace with id {wanted.made_as}")
        return wanted.made_as

    def _next_id(self) -> int:
        number = self._ledger.state.counters.namespace + 1
        self._ledger.set_counters(namespace=number)
        return number

    def _make_salt(self, number: int) -> bytes:
        return blake2b(number.to_bytes(8, "little"), key=self._entropy, digest_size=PAGE_SALT_BYTES).digest()

    def _get(self, name: str, tenant: str | None) -> CacheNamespace:
        """Raises the same for one of another tenant as for one that there is not."""
        found = self._ledger.state.namespaces.get(name)
        if found is None or not _may_use(found, tenant):
            raise RequestRejected(Code.NO_NAMESPACE, f"there is no such namespace: {name!r}")
        return found


def _may_use(namespace: CacheNamespace, tenant: str | None) -> bool:
    return tenant is ANY_TENANT or namespace.tenant == tenant


def _check_tenant(settings: NamespaceSettings, tenant: str | None) -> None:
    """RequestRejected when a user says whose a namespace is to be, and that is not its own tenant."""
    if settings.tenant is not None and not (tenant is ANY_TENANT or settings.tenant == tenant):
        raise RequestRejected(Code.PERMISSION, "only an administrator says which tenant a namespace belongs to")


def check_settings(settings: NamespaceSettings, page_bytes: int) -> None:
    """RequestRejected for settings that a namespace with pages of this size cannot have."""
    budget, ttl, pins, owner = settings.budget_bytes or 0, settings.ttl_ms or 0, settings.pin_bytes or 0, settings.owner or ""
    if budget and not page_bytes <= budget <= cache_bytes_max:
        raise RequestRejected(
            Code.INVALID,
            f"budget_bytes is {budget}, must be {page_bytes} (one page) to {cache_bytes_max}; 0: none",
        )
    if not 0 <= ttl <= ttl_ms_max:
        raise RequestRejected(Code.INVALID, f"ttl_ms is {ttl}, must be 1 to {ttl_ms_max}; 0: none")
    if not 0 <= pins <= (budget or cache_bytes_max):
        of = f"the budget of {budget}" if budget else str(cache_bytes_max)
        raise RequestRejected(Code.INVALID, f"pin_bytes is {pins}, must be at most {of}")
    if len(owner.encode()) > owner_bytes_max:
        raise RequestRejected(Code.INVALID, f"owner has {len(owner.encode())} bytes, must have at most {owner_bytes_max}")
    if len(tenant := (settings.tenant or "").encode()) > tenant_bytes_max:
        raise RequestRejected(Code.INVALID, f"tenant has {len(tenant)} bytes, must have at most {tenant_bytes_max}")
