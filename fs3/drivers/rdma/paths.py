"""Makes the RDMA paths of a process: `fs3.drivers.framed.bulk_path.BulkPaths`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fs3.drivers.framed.bulk_path import SendMessage
from fs3.drivers.rdma.path import RdmaPath
from fs3.drivers.rdma.settings import VARIABLE, PathSettings, RdmaHost
from fs3.drivers.rdma.verbs import Verbs
from fs3.ports.clock import Clock

log = logging.getLogger("fs3.transport")


class RdmaPaths:
    """See `BulkPaths`."""

    def __init__(self, host: RdmaHost) -> None:
        self._host = host

    def log_devices(self) -> None:
        """Say what this process may use, or why there is nothing."""
        usable, rejected = self._host.addresses()
        if usable:
            log.info("clients may ask for RDMA by %s", ", ".join(map(str, usable)))
        else:
            log.warning("%s is set, and everything travels by TCP: %s", VARIABLE, "; ".join(rejected))

    def client(self, peer: str, send: SendMessage) -> RdmaPath | None:
        """See `BulkPaths.client`."""
        return RdmaPath(self._host, peer, send, is_client=True) if self._host.is_usable else None

    def server(self, peer: str, send: SendMessage) -> RdmaPath:
        """See `BulkPaths.server`."""
        return RdmaPath(self._host, peer, send, is_client=False)


def rdma_paths(clock: Clock, allowed: Sequence[str]) -> RdmaPaths | None:
    """Paths by the devices of this host. `allowed`: names of devices or network interfaces, or "any"; empty: no RDMA at all."""
    if not allowed:
        return None
    return RdmaPaths(RdmaHost(clock, PathSettings(allowed=tuple(allowed)), _load))


def _load() -> Verbs:
    # Imported when the first path is made: without devices nothing of it is needed.
    from fs3.drivers.rdma.pyverbs_binding import load

    return load()
