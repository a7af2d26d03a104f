"""Where a process may listen: on loopback always; elsewhere when the cluster asks who calls, or when it was said in writing that
it need not."""

from __future__ import annotations

import socket

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.wire.endpoints import is_loopback_address


def check_exposure(listen: str, *, is_secured: bool, is_insecure: bool) -> None:
    """FS3Error CONFIG for a "host:port" that other machines reach, in a cluster without security, unless `is_insecure`."""
    host = listen.rpartition(":")[0].strip("[]")
    if is_secured or is_insecure or is_loopback(host):
        return
    told = (
        f"{listen} is reached from other machines, and this cluster has no security: whatever reaches it may read and change "
        "everything. Turn security on (`fs3 security on`), or say that this is meant: insecure = true, or --insecure"
    )
    raise error(Code.CONFIG, told)


def is_loopback(host: str) -> bool:
    """Only this machine reaches it: an address of loopback, or a name of nothing else."""
    if is_loopback_address(host):
        return True
    try:
        found = {str(address[0]) for *_, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return bool(found) and all(is_loopback_address(each.partition("%")[0]) for each in found)
