"""fs3 URLs: fs3://host:port[,host:port…]/path. The addresses are mgmtds'; FS3_CLUSTER supplies them for fs3:///path."""

from __future__ import annotations

import ipaddress
import os
import re

from fs3.base.errors import error
from fs3.base.status import Code

SCHEME = "fs3"
ENVIRONMENT = "FS3_CLUSTER"
DEFAULT_PORT = 8000

_ADDRESS = re.compile(r"(?P<host>\[[^][]+\]|[\w.-]+)(:(?P<port>[0-9]{1,5}))?")


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
    """["host:port", …] of a comma-separated list; a missing port is 8000. Raises InvalidArgument naming the part.

    A host is a name, an IPv4 address, or an IPv6 address in brackets: [::1]:8000.
    """
    return [_parse_address(part.strip(), source) for part in text.split(",")]


def _parse_address(text: str, source: str) -> str:
    found = _ADDRESS.fullmatch(text)
    if found is None:
        host, _, rest = text.rpartition(":")
        written = f"[{text}]:{DEFAULT_PORT}" if _is_ipv6(text) else f"[{host}]:{rest}" if _is_ipv6(host) else ""
        hint = f"; an IPv6 address is written in brackets, {written}" if written else ""
        raise error(Code.INVALID, f"{text!r} in {source!r} is not host:port{hint}")
    host, port = found["host"], found["port"] or str(DEFAULT_PORT)
    if host.startswith("[") and not _is_ipv6(host[1:-1]):
        raise error(Code.INVALID, f"{host} in {source!r} is no IPv6 address, so {text!r} is not host:port")
    if not 0 < int(port) < 65536:
        raise error(Code.INVALID, f"{text!r} in {source!r} is not host:port: ports are 1 to 65535")
    return f"{host}:{port}"


def _is_ipv6(text: str) -> bool:
    return ":" in text and is_ip_address(text)


def is_ip_address(text: str) -> bool:
    """An IPv4 or IPv6 address, without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def cluster_addresses(url: str) -> list[str]:
    """The mgmtd addresses of a URL, or of FS3_CLUSTER when it names none. Raises InvalidArgument when neither does."""
    addresses, _ = split_url(url)
    if addresses:
        return addresses
    configured = os.environ.get(ENVIRONMENT, "")
    if not configured:
        raise error(Code.INVALID, f"{url!r} names no cluster and {ENVIRONMENT} is not set; write fs3://host:port/path")
    return split_url(configured if "://" in configured else f"{SCHEME}://{configured}")[0]
