"""Which cluster a store holds, and whether it is the one that this manager is for."""

from __future__ import annotations

from collections.abc import Callable

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.core.membership.state import State
from fs3.services.mgmtd.store import MgmtdStore

OnClusterFound = Callable[[bytes, BaseException | None], None]
"""Called with the id, b"" while there is none, or with what is wrong with the store."""


class ClusterIdentity:
    """Of one store."""

    def __init__(self, store: MgmtdStore, name: str, expected: bytes) -> None:
        """`name`: as configured. `expected`: the id that the store must hold; b"": any, of that name."""
        self._store = store
        self._name = name
        self.expected = expected
        self.id = b""
        """Known once there is one in the store."""

    def check(self, state: State) -> None:
        """Learn the id from what is stored. Raises FS3Error WRONG_CLUSTER."""
        if self.expected and state.cluster.id != self.expected:
            raise error(
                Code.WRONG_CLUSTER,
                f"the store holds cluster {state.cluster.name!r} ({state.cluster.id.hex()}), "
                f"this machine has joined {self.expected.hex()}",
            )
        if not self.expected and state.cluster.name != self._name:
            raise error(
                Code.WRONG_CLUSTER,
                f"the store holds cluster {state.cluster.name!r} ({state.cluster.id.hex()}), configured is {self._name!r}",
            )
        self.id = state.cluster.id

    def find(self, on_found: OnClusterFound) -> None:
        """Call back with the id: at once when it is known, else as the store has answered."""

        def learn(cluster: bytes | None, problem: BaseException | None) -> None:
            self.id = cluster or b""
            on_found(self.id, problem)

        if self.id:
            on_found(self.id, None)
        else:
            self._store.find_cluster(learn)
