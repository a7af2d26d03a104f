"""What a process has for RDMA: its settings, its devices, its memory, the library; and the paths made of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import KIB, MILLISECOND, SECOND
from fs3.drivers.framed import forks
from fs3.drivers.rdma.devices import SYSFS, RdmaAddresses, list_addresses
from fs3.drivers.rdma.pool import RegisteredPool
from fs3.drivers.rdma.verbs import Verbs, VerbsError
from fs3.ports.clock import Clock

VARIABLE = "FS3_RDMA"
"""Of the environment: the devices or network interfaces that may be used, with commas between them, or "any". Not set: none."""

LoadVerbs = Callable[[], Verbs]
"""Imports the library. Raises VerbsError."""

addresses_fresh_ns = 5 * SECOND
"""For so long the addresses of this host are not looked for again."""


def allowed_devices(setting: str | None = None) -> tuple[str, ...]:
    """What may be used, as a setting says it; None: as the environment does. Raises FS3Error INVALID for an empty name."""
    text = os.environ.get(VARIABLE, "") if setting is None else setting
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    if "" in names:
        raise error(Code.INVALID, f"{VARIABLE} {text!r}: a name is empty; name devices or network interfaces, or any")
    return names


@dataclass(frozen=True, slots=True)
class PathSettings:
    """How paths are chosen and left."""

    allowed: tuple[str, ...] = ("any",)
    """Devices, or network interfaces, that may be used; "any": all."""
    bytes_min: int = 128 * KIB
    """Shorter payloads travel on the socket."""
    stall_ns: int = 500 * MILLISECOND
    """When no read completes for so long, the path is left. A device gives up by itself in about the same time."""
    retry_ns: int = 30 * SECOND
    """After so long a path is asked for again."""
    pairs_max: int = 8
    """Pairs of addresses that are tried before that."""
    poll_ns: int = 1 * MILLISECOND
    """How often completions are looked for where the library has no descriptor that tells of them."""


class RdmaHost:
    """One process. Belongs to one event loop; a forked child makes its own."""

    def __init__(
        self,
        clock: Clock,
        settings: PathSettings,
        load: LoadVerbs,
        *,
        sysfs: Path = SYSFS,
        pool: RegisteredPool | None = None,
    ) -> None:
        """`load`: asked when the first path is made."""
        self.clock = clock
        self.settings = settings
        self.pool = pool or RegisteredPool()
        self.fetched_bytes = 0
        """Payloads that have arrived by paths."""
        self._load = load
        self._sysfs = sysfs
        self._verbs: Verbs | None = None
        self._listed: RdmaAddresses | None = None
        self._listed_at = 0
        self._pid = os.getpid()
        forks.register(self)

    @property
    def is_usable(self) -> bool:
        """It is this process's."""
        return self._pid == os.getpid()

    def addresses(self) -> RdmaAddresses:
        """What there is, or why there is nothing."""
        now = self.clock.now()
        if self._listed is None or now - self._listed_at >= addresses_fresh_ns:
            self._listed_at = now
            self._listed = list_addresses(self.settings.allowed, self._sysfs)
            if self._listed.usable:
                try:
                    self.verbs()
                except VerbsError as problem:
                    self._listed = RdmaAddresses((), (str(problem),))
        return self._listed

    def verbs(self) -> Verbs:
        """The library. Raises VerbsError."""
        if self._verbs is None:
            self._verbs = self._load()
        return self._verbs

    def close_in_child(self) -> None:
        """See `forks`: devices and registered memory are the parent's."""
        if self._verbs is not None:
            self._verbs.forget()
