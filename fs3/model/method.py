"""One method of a service, as the binding table names it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from fs3.model.principal import ALL_RIGHTS


class PayloadSide(IntEnum):
    """Which side of a call carries bulk bytes. Numbers as in the .proto."""

    NONE = 0
    REQUEST = 1
    REPLY = 2


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """What both wires need to know of one method. There is exactly one object per method, so identity is equality."""

    id: int
    service: str
    """Full name, "fs3.v1.Storage"."""
    name: str
    """"Read"."""
    request: type[Any]
    """Protobuf class of the request."""
    reply: type[Any]
    """Protobuf class of the reply."""
    payload: PayloadSide
    streaming: bool
    """The server answers with a stream of replies."""
    repeatable: bool
    """May be sent again without being asked to."""
    rights: int = ALL_RIGHTS
    """`Right` bits: who may call it."""
    is_forwardable: bool = False
    """Its request may come from a storage target, which it names then (`from_target`)."""
    is_sized: bool = False
    """Its request says how long the pieces of the reply may be (`lengths`)."""

    def is_forward(self, request: Any) -> bool:
        """The request comes from the storage target before, and not from a client."""
        return self.is_forwardable and bool(request.from_target)

    @property
    def full_name(self) -> str:
        """ "Storage.Read"."""
        return f"{self.service.rpartition('.')[2]}.{self.name}"

    def __repr__(self) -> str:
        return f"<{self.full_name}>"
