"""What KVCache namespaces are allowed on one target: its chain's shares of their budgets."""

from __future__ import annotations

from fs3.base.ids import ChainId
from fs3.base.units import MILLISECOND
from fs3.client.routing import RoutingSource
from fs3.core.kvcache.budget.seams import NamespaceLimits
from fs3.core.kvcache.budget.shares import share_of
from fs3.services.storage.namespaces import NamespaceTable
from fs3.services.storage.target import TargetShell

_DELETED = NamespaceLimits(is_deleted=True)


class ChainLimits:
    """The `LimitsSource` of one target. What it has worked out is kept until the routing info changes, or `forget`."""

    def __init__(self, namespaces: NamespaceTable, source: RoutingSource, shell: TargetShell) -> None:
        """`shell`: of the target."""
        self._namespaces = namespaces
        self._source = source
        self._shell = shell
        self._known: dict[int, NamespaceLimits] = {}
        self._key: tuple[int, ChainId] | None = None

    @property
    def _chain(self) -> ChainId:
        chain = self._shell.chain
        return chain.id if chain is not None else ChainId(0)

    def limits(self, namespace_id: int) -> NamespaceLimits | None:
        """See `LimitsSource`."""
        key = (self._source.routing.version, self._chain)
        if key != self._key:
            self._key = key
            self._known.clear()
        known = self._known.get(namespace_id)
        if known is None:
            known = self._find(namespace_id)
            if known is not None:
                self._known[namespace_id] = known
        return known

    def accept_unknown(self, namespace_id: int) -> bool:
        """See `LimitsSource`. So are the namespaces of a manager whose store was put back from an old copy: their pages go on."""
        if self._namespaces.version < self._source.routing.namespaces_version:
            return False
        self._known[namespace_id] = NamespaceLimits()
        return True

    def forget(self) -> None:
        """The namespaces have changed."""
        self._known.clear()

    def share_of(self, namespace_id: int, budget_bytes: int) -> int | None:
        """See `LimitsSource`. All of it where the table of the namespace does not have this chain (any more, or not yet)."""
        namespace = self._namespaces.get(namespace_id)
        if namespace is None:
            return None
        table = self._source.routing.tables.get(namespace.table)
        chain = self._chain
        if table is None or chain not in table.chains:
            return budget_bytes
        return share_of(budget_bytes, table.chains.index(chain), len(table.chains))

    def _find(self, namespace_id: int) -> NamespaceLimits | None:
        namespace = self._namespaces.get(namespace_id)
        if namespace is None:
            return _DELETED if self._namespaces.is_deleted(namespace_id) else None
        share = self.share_of(namespace_id, namespace.budget_bytes) if namespace.budget_bytes else None
        return NamespaceLimits(share, namespace.ttl_ms * MILLISECOND)
