"""For whom a request of the kernel is asked: the one place that decides it."""

from __future__ import annotations

import errno

from fs3.client.meta.client import MetaClient
from fs3.drivers.fuse.records import KernelRequest


class Identities:
    """Of one mount. The services check permissions for one user: the one the client connected as."""

    def __init__(self, meta: MetaClient) -> None:
        self._meta = meta

    def meta_for(self, request: KernelRequest) -> MetaClient:
        """The namespace as the one who asks may see it. EACCES for another user than the mount's own."""
        if request.uid != self._meta.user.uid:
            raise OSError(errno.EACCES, f"user {request.uid} uses the mount of user {self._meta.user.uid}")
        return self._meta
