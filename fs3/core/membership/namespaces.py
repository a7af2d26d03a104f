"""KVCache namespaces as the manager keeps them: opened by name, listed, and deleted in two steps.

A client that deletes one has it marked first, so that no client opens it any more and those that have it open hear of it through
the routing info; then it removes its pages and has it forgotten. An id names one namespace for ever: both steps may be repeated.
"""

from __future__ import annotations

from fs3.base.ids import NAMESPACE_IDS_END
from fs3.base.limits import namespaces_per_page_max, page_bytes_max
from fs3.base.status import Code
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.node_admission import RequestRejected
from fs3.model.chain import ChainTable
from fs3.model.cluster import CacheNamespace, DeleteNamespace, ListNamespaces, NamespacePage, OpenNamespace

namespaces_max = 1 << 16
"""At one time: the manager has them in memory."""


class Namespaces:
    """Part of the manager's machine; what it changes is in the ledger. Requests that cannot be granted raise RequestRejected."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def count(self) -> int:
        """How many there are, stored."""
        return len(self._ledger.durable_namespaces)

    def list(self, wanted: ListNamespaces) -> NamespacePage:
        """A page of the stored ones, by name."""
        limit = min(wanted.limit or namespaces_per_page_max, namespaces_per_page_max)
        found, more = self._ledger.list_namespaces(wanted.prefix, wanted.after, limit)
        return NamespacePage(tuple(found), more)

    def find(self, wanted: OpenNamespace) -> CacheNamespace | None:
        """The one with this name. None: it may be created."""
        found = self._ledger.state.namespaces.get(wanted.name)
        if found is None:
            self._check_new(wanted)
            return None
        if found.deleting:
            raise RequestRejected(
                Code.NO_NAMESPACE,
                f"namespace {wanted.name!r} is being deleted; when that was interrupted, delete it again to complete it",
            )
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
        state = self._ledger.state
        if not 1 <= wanted.page_bytes <= page_bytes_max:
            raise RequestRejected(Code.INVALID, f"page_bytes is {wanted.page_bytes}, must be 1 to {page_bytes_max}")
        if len(state.namespaces) >= namespaces_max:
            raise RequestRejected(
                Code.TOO_LARGE, f"the cluster has {namespaces_max} namespaces, the most it can have; delete those of no more use"
            )
        if state.counters.namespace + 1 >= NAMESPACE_IDS_END:
            raise RequestRejected(Code.TOO_LARGE, f"the cluster has had {NAMESPACE_IDS_END - 1} namespaces, the most it can")

    def create(self, wanted: OpenNamespace, table: ChainTable) -> CacheNamespace:
        """A new one, on the chains of a table."""
        ledger = self._ledger
        made = CacheNamespace(ledger.state.counters.namespace + 1, wanted.name, wanted.page_bytes, table.replicas, table.id)
        ledger.set_counters(namespace=made.id)
        ledger.put_namespace(made)
        return made

    def delete(self, wanted: DeleteNamespace) -> int:
        """Take one of the two steps. Nothing happens when it was taken already. Returns the id."""
        state = self._ledger.state
        found = next((each for each in state.namespaces.values() if each.id == wanted.id), None)
        if found is None:
            if not 1 <= wanted.id <= state.counters.namespace:
                raise RequestRejected(Code.NO_NAMESPACE, f"there has never been a namespace with id {wanted.id}")
        elif not wanted.emptied:
            if not found.deleting:
                self._ledger.mark_namespace(found)
        elif found.deleting:
            self._ledger.forget_namespace(found)
        else:
            raise RequestRejected(Code.INVALID, f"namespace {found.name!r} may still be in use: it has to be marked first")
        return wanted.id
