"""For whom a request of the kernel is asked: the one place that decides it.

A mount by root asks for the user, the group and the supplementary groups of the program that made the request. A mount by another
user asks for that user alone: requests of others are refused.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Final

from fs3.api.client import Client
from fs3.base.units import SECOND
from fs3.client.meta.client import MetaClient
from fs3.drivers.fuse.records import KernelRequest
from fs3.drivers.os.process_groups import groups_of_process, groups_of_user
from fs3.wire.meta import groups_max

groups_valid_ns: Final = 1 * SECOND
"""How long the groups of a thread are taken for what they were: it seldom changes them, and to look costs 30 µs."""
threads_kept_max: Final = 4096
"""Threads whose groups are kept for their next request."""

Groups = tuple[int, ...]
ReadGroups = Callable[[KernelRequest], Groups]
Now = Callable[[], int]


class Identities:
    """Of one mount."""

    def __init__(self, client: Client, read_groups: ReadGroups | None = None, now: Now = time.monotonic_ns) -> None:
        self._client = client
        self._is_root = client.meta.user.uid == 0
        self._read_groups = read_groups or groups_of
        self._now = now
        self._threads: dict[tuple[int, int, int], tuple[int, MetaClient]] = {}
        """(thread, uid, gid) -> (until when, the namespace for it)."""

    def meta_for(self, request: KernelRequest) -> MetaClient:
        """The namespace as the one who asks may see it. EACCES for another user than the one who mounted, unless that is root."""
        own = self._client.meta
        if not self._is_root:
            if request.uid != own.user.uid:
                raise OSError(errno.EACCES, f"user {request.uid} uses the mount of user {own.user.uid}")
            return own
        if request.uid == 0 and request.gid == own.user.gid:
            return own  # groups add nothing to what root may do
        key = request.pid, request.uid, request.gid
        now = self._now()
        known = self._threads.get(key)
        if known is not None and now < known[0]:
            return known[1]
        self._threads.pop(key, None)
        if len(self._threads) >= threads_kept_max:
            del self._threads[next(iter(self._threads))]
        groups = self._read_groups(request) if request.uid else ()
        meta = self._client.as_user(request.uid, request.gid, groups[:groups_max]).meta
        self._threads[key] = now + groups_valid_ns, meta
        return meta


def groups_of(request: KernelRequest) -> Groups:
    """Supplementary groups of the thread that asks; those that the group database gives its user, where the thread cannot be
    looked at (it is in another pid namespace, or is gone)."""
    groups = groups_of_process(request.pid)
    return groups_of_user(request.uid, request.gid) if groups is None else groups
