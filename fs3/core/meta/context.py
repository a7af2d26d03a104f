"""What an operation knows of the world besides its transaction and its arguments.

Everything comes in here, so a recorded list of requests replays to the same rows, byte for byte.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fs3.base.ids import ClientId, InodeId, NodeId, TableId
from fs3.base.limits import chunk_bytes_default, inline_bytes_default, inline_bytes_max, stripe_default, stripe_max
from fs3.core.files.layout import CHUNK_SIZES, is_chunk_size, is_stripe
from fs3.model.inode import User
from fs3.model.routing import Routing
from fs3.model.trace import CallSpan

NO_TALLY: Final = NodeId(0)
"""Of no metadata service: ids are drawn from the counters of the whole namespace."""


class LayoutDefaults(msgspec.Struct, frozen=True):
    """What a new file gets where neither its creator nor its directory says otherwise."""

    table: TableId = TableId(0)
    """0: there is none, and creating a file without naming a table fails with NO_TABLE."""
    chunk_size: int = chunk_bytes_default
    stripe: int = stripe_default
    inline_bytes: int = inline_bytes_default
    """Files up to this size have their bytes beside the inode; 0: none has, but those that have them already."""

    def __post_init__(self) -> None:
        if not 0 <= self.inline_bytes <= inline_bytes_max:
            raise ValueError(f"default inline_bytes {self.inline_bytes} is not from 0 to {inline_bytes_max}")
        if not is_chunk_size(self.chunk_size):
            raise ValueError(f"default chunk_size {self.chunk_size} is not {CHUNK_SIZES}")
        if not is_stripe(self.stripe):
            raise ValueError(f"default stripe {self.stripe} is not from 1 to {stripe_max}")


class OpContext(msgspec.Struct):
    """Who sends one request, when, and what the cluster looks like. Made by the service per request; operations only read it."""

    user: User
    """Whom permissions are checked for; uid 0 may do everything."""
    wall_ns: int
    """Nanoseconds since the epoch, written into times; decides about nothing else."""
    client: ClientId
    """Who sends the request: owner of the sessions it opens."""
    request_seq: int
    """With `client` it names a mutating request for ever: a repetition returns the first result. 0: do not remember it."""
    routing: Routing
    """Chain tables for new files."""
    defaults: LayoutDefaults
    repeated: bool = False
    """The request was sent before, and that sending may still arrive somewhere: a refusal has to be remembered."""
    open_contents: frozenset[InodeId] = frozenset()
    """What the client has open for reading, as far as this request might give it up."""
    tally: NodeId = NO_TALLY
    """The metadata service whose tally ids are drawn from."""
    span: CallSpan | None = None
    """What the request does elsewhere, and later, is a part of this; None, nearly always: it belongs to no trace."""
    owner: str = ""
    """Whose `client` is, as `fs3.core.security.client_owners.owner_of` says it; "" in a cluster without security."""
