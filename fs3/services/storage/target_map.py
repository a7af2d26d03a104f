"""The open targets of a node."""

from __future__ import annotations

from collections.abc import Mapping

from fs3.base.ids import TargetId
from fs3.services.storage.target import TargetShell


class TargetMap:
    """The open targets of one node. Not all of them work: see `TargetShell.failure`."""

    def __init__(self) -> None:
        self._by_id: dict[TargetId, TargetShell] = {}
        self._by_chain: dict[int, TargetShell] = {}
        self.by_id: Mapping[TargetId, TargetShell] = self._by_id
        """The same mapping for as long as the node lives, so that a handler may keep it."""
        self.by_chain: Mapping[int, TargetShell] = self._by_chain
        """By the id of the chain each is in; likewise the same one always."""

    def add(self, shell: TargetShell) -> None:
        """A target has been opened."""
        self._by_id[shell.target] = shell
        self.index_chains()

    def remove(self, target: TargetId) -> TargetShell | None:
        """The target will be closed. None when it is not open."""
        shell = self._by_id.pop(target, None)
        if shell is not None:
            self.index_chains()
        return shell

    def index_chains(self) -> None:
        """Targets have learnt of other chains."""
        self._by_chain.clear()
        self._by_chain.update({shell.chain.id: shell for shell in self._by_id.values() if shell.chain is not None})
