"""For whom a request of the kernel is asked: the one place that decides it."""

from __future__ import annotations

from fs3.api.client import Client
from fs3.base.units import SECOND
from fs3.client.meta.client import MetaClient
from fs3.drivers.fuse.records import KernelRequest
from fs3.drivers.os.process_groups import groups_of_process, groups_of_user

groups_valid_ns = 1 * SECOND
"""How long the groups of a process are remembered: one that changes them is seen to so much later."""
processes_kept_max = 4096


class Identities:
    """Of one mount. The kernel tells user and group of who asks, and which thread it is; that has the other groups."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[tuple[int, int, int], tuple[int, Client]] = {}
        """(user, group, thread) -> (until when, the client as that user)."""

    def client_for(self, request: KernelRequest) -> Client:
        """The client as the one who asks."""
        if not request.uid:
            return self._client.as_user(0, request.gid)
        who = request.uid, request.gid, request.pid
        now = self._client.meta.clock.now()
        known = self._known.get(who)
        if known is not None and now < known[0]:
            return known[1]
        groups = groups_of_process(request.pid)
        if groups is None:
            groups = groups_of_user(request.uid, request.gid)
        client = self._client.as_user(request.uid, request.gid, groups)
        if len(self._known) >= processes_kept_max:
            self._known.clear()
        self._known[who] = now + groups_valid_ns, client
        return client

    def opener_for(self, request: KernelRequest) -> Client:
        """The client that does what a handle of the one who asks allows, however permissions change while it is open: that of
        the mount where it is root's, which may all, as the kernel has checked what the handle allows."""
        return self._client if not self._client.meta.user.uid else self.client_for(request)

    def meta_for(self, request: KernelRequest) -> MetaClient:
        """The namespace as the one who asks may see it."""
        return self.client_for(request).meta
