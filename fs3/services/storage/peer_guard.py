"""What is said in the name of a target is taken only from the node that has it, by what its connection has proved.

In front of the handlers: what a request claims (`from_target`, the fence of a resync) is compared with the present chain before
anything is parsed. Whether that target is the present predecessor is decided behind it, as ever, under the chain version.
"""

from __future__ import annotations

from collections.abc import Iterable

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.client.routing import RoutingSource
from fs3.core.security.peers import speaks_for
from fs3.ports.rpc import Call, Handler
from fs3.services.storage.target_map import TargetMap

IMPOSTER = "the caller is not the node of the target that it speaks for"


class PeerGuard:
    """Of one node."""

    def __init__(self, targets: TargetMap, routing: RoutingSource) -> None:
        self._by_chain = targets.by_chain
        self._routing = routing

    def updates(self, handler: Handler) -> Handler:
        """In front of Update: those that are forwarded come from a node of each of their chains."""

        def guarded(call: Call) -> None:
            request = call.request
            if (
                not request.from_target
                or call.auth.principal is None
                or self._speaks_for(call, request.from_target, set(request.chains))
            ):
                handler(call)

        return guarded

    def sends(self, handler: Handler) -> Handler:
        """In front of Push and ShareTouches, which name the chain and the target."""

        def guarded(call: Call) -> None:
            if self._speaks_for(call, call.request.from_target, (call.request.chain,)):
                handler(call)

        return guarded

    def resyncs(self, handler: Handler) -> Handler:
        """In front of what has the fence of a resync."""

        def guarded(call: Call) -> None:
            fence = call.request.fence
            if self._speaks_for(call, fence.from_target, (fence.chain,)):
                handler(call)

        return guarded

    def _speaks_for(self, call: Call, target: int, chains: Iterable[int]) -> bool:
        """Whether the call goes on; else it has failed."""
        auth, routing = call.auth, self._routing.routing
        for chain in chains:
            shell = self._by_chain.get(chain)
            if not speaks_for(auth, shell.chain if shell is not None else None, TargetId(target), routing):
                call.fail(Code.PERMISSION, IMPOSTER, routing.version)
                return False
        return True
