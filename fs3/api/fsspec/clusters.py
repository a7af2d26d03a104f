"""Which clusters this process knows, and what a URL without a port means then.

Libraries that speak fsspec take URLs apart and put them together again: "fs3://host:port/a/b" becomes "/a/b", and that "fs3://a/b".
So where a cluster is known, "a" is a directory; where none is, it is a host.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping

import fsspec

from fs3.api.url import DEFAULT_PORT, ENVIRONMENT, SCHEME, cluster_addresses, is_ip_address, split_url
from fs3.base.errors import InvalidType

_HANDED_TO_ALL = frozenset({"encoding", "errors", "newline", "client_kwargs"})
"""Options of one text file, or of HTTP, which Hugging Face datasets hands to the file system of whatever it opens."""

_opened: dict[str, None] = {}
"""Addresses of clusters, and "" for embedded ones, that this process has made instances for."""


def remember_cluster(addresses: list[str]) -> None:
    """An instance for this cluster was made; without addresses, for an embedded one."""
    _opened[",".join(addresses)] = None


def interpret_url(url: str) -> tuple[list[str], str]:
    """(addresses, path) of an fs3:// URL; no addresses when the known cluster is meant. InvalidArgument as `split_url`."""
    authority, slash, path = url.partition("://")[2].partition("/")
    if authority and _is_directory(authority):
        return [], f"/{authority}{slash}{path}"
    return split_url(url)


def default_addresses() -> list[str]:
    """Of the cluster for an instance that names none: FS3_CLUSTER, or the only one this process has opened.

    InvalidArgument when there is neither.
    """
    opened = [cluster for cluster in _opened if cluster]
    if not os.environ.get(ENVIRONMENT) and len(opened) == 1:
        return opened[0].split(",")
    return cluster_addresses(f"{SCHEME}://")


def _is_directory(authority: str) -> bool:
    if ":" in authority or "," in authority or "[" in authority or is_ip_address(authority):
        return False
    configured = os.environ.get(ENVIRONMENT, "")
    if not _opened and not configured:
        return False
    known = {address for cluster in _opened for address in cluster.split(",")}
    if configured:
        known.update(cluster_addresses(configured))
    return f"{authority}:{DEFAULT_PORT}" not in known


def check_options(options: Mapping[str, object], known: Collection[str]) -> None:
    """InvalidType for a storage option that fs3 does not take, with the word it is like.

    Some libraries hand the same ones to all: those are without effect, and so is one that is called as a protocol, which has the
    options of another file system.
    """
    if "target_options" in options or "target_protocol" in options:
        raise InvalidType(
            f'"::" in a URL lays one file system on another, and {SCHEME}:// lies on none; a path with "::" in it is opened by '
            f"fsspec.filesystem({SCHEME!r}, …).open(path)"
        )
    for name in options:
        if name not in known and name not in _HANDED_TO_ALL and name not in fsspec.available_protocols():
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"
            raise InvalidType(f"unknown option {name!r} of the {SCHEME} file system{hint}")
