"""Where a check or a storage node gets the list of KVCache namespaces from."""

from __future__ import annotations

from typing import Protocol

from fs3.model.cluster import NamespacePage


class NamespaceSource(Protocol):
    """The namespaces of the cluster. `MgmtdClient` is the one of production."""

    async def list_namespaces(self, prefix: str = "", after: str = "") -> NamespacePage:
        """A page of the namespaces whose names begin with `prefix` and come after `after`, by name. Raises FS3Error."""
        ...
