"""fs3 URLs: fs3://host:port[,host:port…]/path. The addresses are mgmtds'; FS3_CLUSTER supplies them for fs3:///path."""

from __future__ import annotations

import os

from fs3.base.errors import error
from fs3.base.status import Code

SCHEME = "fs3"
ENVIRONMENT = "FS3_CLUSTER"
DEFAULT_PORT = 8000


def split_url(url: str) -> tuple[list[str], str]:
    """(addresses, path) of a URL; the list is empty for fs3:///path. Raises InvalidArgument naming what is wrong.

    A bare "host:port" or "host:port,host:port" counts as a URL without a path.
    """
    rest = url
    if "://" in url:
        scheme, _, rest = url.partition("://")
        if scheme != SCHEME:
            raise error(Code.INVALID, f"{url!r} is not an fs3:// URL")
    elif url.startswith("/"):
        raise error(Code.INVALID, f"{url!r} has no scheme; write fs3://host:port{url}")
    authority, slash, path = rest.partition("/")
    return parse_addresses(authority, url) if authority else [], slash + path


def parse_addresses(text: str, source: str) -> list[str]:
    """["host:port", …] of a comma-separated list; a missing port is 8000. Raises InvalidArgument naming the part."""
    addresses = []
    for part in text.split(","):
        host, colon, port = part.strip().rpartition(":")
        if not colon:
            host, port = part.strip(), str(DEFAULT_PORT)
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise error(Code.INVALID, f"{part!r} in {source!r} is not host:port")
        addresses.append(f"{host}:{port}")
    return addresses


def cluster_addresses(url: str) -> list[str]:
    """The mgmtd addresses of a URL, or of FS3_CLUSTER when it names none. Raises InvalidArgument when neither does."""
    addresses, _ = split_url(url)
    if addresses:
        return addresses
    configured = os.environ.get(ENVIRONMENT, "")
    if not configured:
        raise error(Code.INVALID, f"{url!r} names no cluster and {ENVIRONMENT} is not set; write fs3://host:port/path")
    return split_url(configured if "://" in configured else f"{SCHEME}://{configured}")[0]
