"""Which KVCache namespaces are gone for good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from fs3.model.cluster import NamespacePage


class NamespaceSource(Protocol):
    """Who knows the namespaces. `MgmtdClient` is the one of production."""

    async def list_namespaces(self, prefix: str = "", after: str = "") -> NamespacePage:
        """A page of the namespaces whose names begin with `prefix` and come after `after`, by name. Raises FS3Error."""
        ...


class NamespaceIds:
    """The ids of namespaces, as far as they have been asked for.

    An id names one namespace for ever, and a page is stored after its namespace was made. So a namespace that is not there
    *after* one of its pages was listed was deleted, and does not come back.
    """

    def __init__(self, source: NamespaceSource) -> None:
        self._source = source
        self._seen: set[int] = set()
        """Were there when the namespaces were listed last. One may have been deleted since: the next check finds that."""
        self._deleted: set[int] = set()

    async def find_deleted(self, ids: Iterable[int]) -> set[int]:
        """Those of the namespaces, each of which has been there once, that were deleted. Raises FS3Error."""
        wanted = set(ids)
        if not wanted <= self._seen | self._deleted:
            self._seen = await self._list()
            self._deleted |= wanted - self._seen
        return wanted & self._deleted

    async def _list(self) -> set[int]:
        found: set[int] = set()
        after = ""
        while True:
            page = await self._source.list_namespaces(after=after)
            found.update(namespace.id for namespace in page.namespaces)
            if not page.more or not page.namespaces:
                return found
            after = page.namespaces[-1].name
