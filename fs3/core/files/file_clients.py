"""Client ids in tags of updates that are one file's own, whichever process sends them.

    | kind 4 | name 4 | content id 8 |

big-endian. An append that takes over from another one, or a service that finishes what another one has begun, sends updates under
the same ids, so these belong to no principal. What they may name are chunks of the content in them.

Every other client id is drawn at random by `draw_client_id`, which never begins like one of these: such a client would have its
updates of every file but one refused, as long as it lives. A draw hits one by chance about once in 10^9 times.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from fs3.base.ids import CLIENT_ID_BYTES, ClientId, InodeId
from fs3.core.security.login import Entropy

_CONTENT_BYTES: Final = 8
_KIND_BYTES: Final = 4
_NAME_BYTES: Final = CLIENT_ID_BYTES - _KIND_BYTES - _CONTENT_BYTES
_NAMES_END: Final = 1 << 8 * _NAME_BYTES


class FileClientKind(Enum):
    """What is done to the file. The value is how the ids begin."""

    APPEND = b"appd"
    """By all users that may write the file."""
    TRIM = b"trim"
    """By metadata services, as a truncation has left it to do."""
    MOVE = b"move"
    """By metadata services: the bytes of an inline file become chunks."""


class FileClient(NamedTuple):
    """What such an id says."""

    kind: FileClientKind
    content: InodeId


_KINDS: Final = {kind.value: kind for kind in FileClientKind}


def make_file_client(kind: FileClientKind, content: InodeId, name: int = 0) -> ClientId:
    """The id for the updates of a content; one of its own for each `name`, of which the lower 32 bits count."""
    return ClientId(kind.value + (name % _NAMES_END).to_bytes(_NAME_BYTES, "big") + content.to_bytes(_CONTENT_BYTES, "big"))


def parse_file_client(client: bytes) -> FileClient | None:
    """The inverse of `make_file_client`; None for a client that was drawn."""
    kind = _KINDS.get(client[:_KIND_BYTES])
    return None if kind is None else FileClient(kind, InodeId(int.from_bytes(client[-_CONTENT_BYTES:], "big")))


def draw_client_id(entropy: Entropy) -> ClientId:
    """A new client's id."""
    drawn = entropy(CLIENT_ID_BYTES)
    while parse_file_client(drawn) is not None:
        drawn = entropy(CLIENT_ID_BYTES)
    return ClientId(drawn)
