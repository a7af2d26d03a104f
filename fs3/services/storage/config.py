"""Configuration of a storage service."""

from __future__ import annotations

import msgspec

from fs3.base.errors import error
from fs3.base.limits import call_timeout_ns
from fs3.base.status import Code
from fs3.base.units import MILLISECOND


class StorageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator may set; keys of the storage role's TOML. All of it is applied while the service runs."""

    enforce_lease: bool = False
    """Refuse reads and writes (code LEASE) while the lease this node holds may have run out."""
    stop_grace_ms: int = 5000
    """How long a clean stop waits for updates under way."""
    read_only: bool = False
    """Refuse updates from clients; what predecessors forward is still taken."""

    def __post_init__(self) -> None:
        if not 0 <= self.stop_grace_ms <= 10 * call_timeout_ns // MILLISECOND:
            raise error(Code.CONFIG, f"stop_grace_ms {self.stop_grace_ms}: 0 to {10 * call_timeout_ns // MILLISECOND}")
