"""Settings of a metadata service."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fs3.base.limits import (
    chunk_bytes_default,
    chunk_bytes_max,
    chunk_bytes_min,
    client_presumed_dead_ns,
    garbage_delay_ns,
    inline_bytes_default,
    inline_bytes_max,
    last_seen_flush_ns,
    sessions_check_ns,
    stripe_default,
    stripe_max,
)
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.files.layout import CHUNK_SIZES, is_chunk_size
from fs3.model.inode import MODE_BITS

duty_lease_ns = 5 * SECOND
"""Of the service that does the duties for all on one store; if it dies, they rest for so long."""


class MetaConfig(msgspec.Struct, frozen=True):
    """What a TOML file may say; every key has a default that suits a cluster of any size."""

    table: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Chain table of files whose directory names none. 0: the first table of the cluster, which it makes when it is formed."""
    chunk_size: Annotated[int, msgspec.Meta(ge=chunk_bytes_min, le=chunk_bytes_max)] = chunk_bytes_default
    """Bytes per chunk of files whose directory does not say; a power of two."""
    stripe: Annotated[int, msgspec.Meta(ge=1, le=stripe_max)] = stripe_default
    """Chains per file where the directory does not say."""
    inline_bytes: Annotated[int, msgspec.Meta(ge=0, le=inline_bytes_max)] = inline_bytes_default
    """Files up to this size are kept in the metadata store, and are written and read with one request; 0: none are. Their bytes
    are as redundant as that store is."""
    root_mode: Annotated[int, msgspec.Meta(ge=0, le=MODE_BITS)] = 0o755
    """Permissions of the root directory when it is created, once. 0o755: the cluster's owner decides who gets a place in it,
    and makes directories for the others, as on any Unix file system. A world-writable root would let every user rename every
    other user's top directories, and is hard to take back; `chmod 1777` on it is easy."""
    garbage_delay_ms: Annotated[int, msgspec.Meta(ge=0)] = garbage_delay_ns // MILLISECOND
    """The chunks of a removed file stay for so long, in which other clients that read it can say so; see docs/posix.md. With less
    than 40 000 those that do may come too late."""
    garbage_interval_ms: Annotated[int, msgspec.Meta(ge=1)] = 1_000
    """Pause of the reclaiming duty when nothing is due."""
    requests_interval_ms: Annotated[int, msgspec.Meta(ge=1)] = 60_000
    """Pause between sweeps of remembered requests."""
    contacts_interval_ms: Annotated[int, msgspec.Meta(ge=1)] = last_seen_flush_ns // MILLISECOND
    """Pause between two notes of which clients were heard of."""
    sessions_interval_ms: Annotated[int, msgspec.Meta(ge=1)] = sessions_check_ns // MILLISECOND
    """Pause between two looks for clients that are silent."""
    session_silence_ms: Annotated[int, msgspec.Meta(ge=1)] = client_presumed_dead_ns // MILLISECOND
    """A client with open write sessions that is silent for so long is presumed dead, and its sessions are ended."""
    trims_interval_ms: Annotated[int, msgspec.Meta(ge=1)] = 5_000
    """Pause between two looks for truncations that a service has left half done."""
    duty_lease_ms: Annotated[int, msgspec.Meta(ge=100)] = duty_lease_ns // MILLISECOND
    """Of several services on one store one reclaims and repairs; if it dies, another one begins after so long."""
    space_age_ms: Annotated[int, msgspec.Meta(ge=0)] = 1_000
    """Storage is asked for its free space at most so often."""

    def __post_init__(self) -> None:
        if not is_chunk_size(self.chunk_size):
            raise ValueError(f"chunk_size {self.chunk_size} is not {CHUNK_SIZES}")
