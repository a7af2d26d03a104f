"""How much room the members of an etcd cluster have left, and how many old revisions they keep.

etcd says neither by its API before version 3.6, but beside it, among the figures it gives to whatever watches it.
"""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from typing import NamedTuple

from fs3.base.units import MIB
from fs3.drivers.etcd.access import EtcdAccess

_QUOTA = "etcd_server_quota_backend_bytes"
_COMPACTED = "etcd_debugging_mvcc_compact_revision"
_NEWEST = "etcd_debugging_mvcc_current_revision"
_SECONDS = 2.0
_PAGE_BYTES_MAX = 8 * MIB


class EtcdRoom(NamedTuple):
    """Of one member; 0: it does not say."""

    quota_bytes: int = 0
    """Its files must not be larger."""
    kept_revisions: int = 0
    """Since those up to here were compacted away: each change of a row takes room until it is."""


async def find_room(endpoint: str, access: EtcdAccess) -> EtcdRoom:
    """Ask a member; one that cannot be asked says nothing."""
    try:
        return parse_room(await asyncio.to_thread(_fetch, endpoint, access))
    except (OSError, ValueError):
        return EtcdRoom()


def parse_room(page: str) -> EtcdRoom:
    """What stands on a page of figures."""
    found: dict[str, int] = {}
    for line in page.splitlines():
        name, _, value = line.partition(" ")
        if name in (_QUOTA, _COMPACTED, _NEWEST):
            found[name] = int(float(value))
    kept = found[_NEWEST] - max(found[_COMPACTED], 0) if _NEWEST in found and _COMPACTED in found else 0
    return EtcdRoom(max(found.get(_QUOTA, 0), 0), max(kept, 0))


def _fetch(endpoint: str, access: EtcdAccess) -> str:
    known = None
    if access.is_encrypted:
        known = ssl.create_default_context(cafile=access.ca or None)
        if access.cert:
            known.load_cert_chain(access.cert, access.key)
    scheme = "http" if known is None else "https"
    with urllib.request.urlopen(f"{scheme}://{endpoint}/metrics", timeout=_SECONDS, context=known) as reply:
        page: bytes = reply.read(_PAGE_BYTES_MAX)
    return page.decode(errors="replace")
