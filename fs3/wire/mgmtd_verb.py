"""How one kind of request that the manager's machine answers is written on the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fs3.model.method import Method
from fs3.wire.mgmtd import EncodedRouting


@dataclass(frozen=True, slots=True)
class MgmtdVerb:
    """How one kind of request that the manager's machine answers, and its answer, are written on the wire."""

    method: Method
    to_pb: Callable[[Any], Any]
    from_pb: Callable[[Any], Any]
    answer_to_pb: Callable[[Any, EncodedRouting | None], Any]
    answer_from_pb: Callable[[Any], Any]
    has_routing: bool = False
    """The request says which routing info the client has, and the reply carries what leads on from there, so that the client has
    what the answer speaks of."""
