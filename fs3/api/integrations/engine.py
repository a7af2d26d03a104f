"""What the adapters of inference engines have in common: their options, the names of their namespaces, and which versions of an
engine they are for.

A namespace is named after everything that makes pages incompatible, so that two engines find each other's pages exactly when they
can use them.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import msgspec

from fs3.api.kvcache import BlockingKVCache
from fs3.api.kvcache.arguments import check_replicas, check_timeout
from fs3.base.errors import error
from fs3.base.limits import namespace_name_bytes_max
from fs3.base.status import Code

TIMEOUT_SECONDS = 10.0
"""Of one call, unless the options say otherwise."""

_DIGEST_DIGITS = 16


class EngineOptions(msgspec.Struct, frozen=True):
    """What a user says in an engine's configuration of fs3."""

    url: str
    replicas: int
    """How many copies; 0: the cluster's number."""
    timeout: float
    """Seconds that a call may take; what is not there by then is a miss."""
    name: str
    """Put before the names of namespaces: what the engine's own facts do not say, such as the revision of a model."""

    @classmethod
    def read(cls, engine: str, given: Mapping[str, Any]) -> Self:
        """Of what is given, the options that all engines have. Raises TypeError or InvalidArgument, naming the option."""
        url = given.get("url") or os.environ.get("FS3_CLUSTER")
        if not url:
            raise error(Code.INVALID, f'fs3 for {engine} wants "url": "fs3://host:port" among its options, or FS3_CLUSTER')
        for option, value in (("url", url), ("name", given.get("name", ""))):
            if not isinstance(value, str):
                raise TypeError(f"{option} is not text but {type(value).__name__}")
        timeout = given.get("timeout", TIMEOUT_SECONDS)
        check_timeout(timeout)
        return cls(url, check_replicas(given.get("replicas", 0)), float(timeout), given.get("name", ""))


OPTIONS = frozenset(EngineOptions.__struct_fields__)
"""The names of the options that all engines have."""


def unknown_options(given: Iterable[str], *known: Iterable[str]) -> list[str]:
    """What is given and no option, in order."""
    return sorted(set(given).difference(OPTIONS, *known))


def namespace_name(*parts: str) -> str:
    """The name of a namespace, of parts that say what its pages are; empty ones are left out.

    Where that is longer than a name may be, its end is a digest of the whole.
    """
    name = "/".join(filter(None, parts))
    data = name.encode()
    if len(data) <= namespace_name_bytes_max:
        return name
    ending = "~" + hashlib.sha256(data).hexdigest()[:_DIGEST_DIGITS]
    return data[: namespace_name_bytes_max - len(ending)].decode(errors="ignore") + ending


def open_namespace(
    options: EngineOptions, name: str, page_bytes: int, log: logging.Logger, *, pages: str = "pages"
) -> BlockingKVCache:
    """Open a namespace and say so in the log, with its name: engines that do not share pages differ in it. `pages`: which, for
    the log. Raises what BlockingKVCache does."""
    cache = BlockingKVCache(
        options.url, namespace=name, page_bytes=page_bytes, replicas=options.replicas, timeout=options.timeout
    )
    log.info("%s: namespace %r, %d bytes each, %d replicas", pages, name, page_bytes, cache.replicas)
    return cache


def check_version(engine: str, found: str, supported: Sequence[str]) -> None:
    """Raises ImportError, naming both, unless the version that was found is, or begins with, one that is supported."""
    if not any(found == each or found.startswith((f"{each}.", f"{each}+")) for each in supported):
        raise ImportError(f"fs3 works with {engine} {' and '.join(supported)}; this is {engine} {found}")
