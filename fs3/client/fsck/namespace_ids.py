"""Which ids no KVCache namespace has any more."""

from __future__ import annotations

from collections.abc import Iterable

from fs3.client.mgmtd.namespace_source import NamespaceSource


class NamespaceIds:
    """The ids of namespaces, as far as they have been asked for.

    An id is given out once, and a page is stored after that. So an id that no namespace has *after* one of its pages was listed
    is of a namespace that was deleted or cleared, and does not come back: when it is below the next one. Else the manager never
    gave it out: its store is an older copy, and pages of such an id may be of a namespace whose record is to come back.
    """

    def __init__(self, source: NamespaceSource) -> None:
        self._source = source
        self._seen: set[int] = set()
        """Were there when the namespaces were listed last. One may have been deleted since: the next check finds that."""
        self._missing: set[int] = set()
        self.next_id = 0
        """The next one there will be, as the manager said when they were listed last."""

    async def find_missing(self, ids: Iterable[int]) -> set[int]:
        """Those of the ids of pages that no namespace has; `next_id` tells why. Raises FS3Error."""
        wanted = set(ids)
        if not wanted <= self._seen | self._missing:
            self._seen = await self._list()
            self._missing |= wanted - self._seen
        return wanted & self._missing

    async def _list(self) -> set[int]:
        found: set[int] = set()
        after = ""
        while True:
            page = await self._source.list_namespaces(after=after)
            if not after:
                self.next_id = page.next_id
            found.update(namespace.id for namespace in page.namespaces)
            if not page.more or not page.namespaces:
                return found
            after = page.namespaces[-1].name
