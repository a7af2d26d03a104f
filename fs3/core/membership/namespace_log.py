"""The last changes of the list of namespaces: a storage node that is a little behind gets these, and not the whole list."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple


class NamespaceChange(NamedTuple):
    """What one commit changed."""

    version: int
    """Of the list, after it."""
    names: tuple[str, ...]
    """Of namespaces that were made, set or cleared."""
    gone: tuple[int, ...]
    """Ids that no namespace has any more."""


class NamespaceLog:
    """Consecutive changes, bounded: the oldest is dropped for the newest."""

    def __init__(self, version: int, kept_max: int) -> None:
        """`version`: of the list as it was loaded; what was changed before that is not known."""
        self._changes: deque[NamespaceChange] = deque()
        self._kept_max = kept_max
        self._first = version
        """The oldest version from which on everything is known."""
        self._newest = version

    def append(self, version: int, names: Iterable[str], gone: Iterable[int]) -> None:
        """The next change; it leads to this version."""
        self._changes.append(NamespaceChange(version, tuple(names), tuple(gone)))
        self._newest = version
        if len(self._changes) > self._kept_max:
            self._first = self._changes.popleft().version

    def since(self, version: int, items_max: int) -> tuple[list[str], list[int]] | None:
        """The names and the ids gone since the list had a version. None when that is not known any more, is a version of the
        future, or is more than `items_max` items."""
        if not self._first <= version <= self._newest:
            return None
        names: dict[str, None] = {}
        gone: list[int] = []
        for change in reversed(self._changes):
            if change.version <= version:
                break
            names.update(dict.fromkeys(change.names))
            gone.extend(change.gone)
            if len(names) + len(gone) > items_max:
                return None
        return list(names), gone
