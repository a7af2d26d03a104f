"""The calls of a manager's client that are about KVCache namespaces."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.limits import call_timeout_ns, manager_read_ns
from fs3.base.status import Code
from fs3.client.mgmtd.calls import ManagerCalls
from fs3.model.cluster import (
    NO_SETTINGS,
    CacheNamespace,
    ClearNamespace,
    DeleteNamespace,
    ListNamespaces,
    NamespaceChanges,
    NamespacePage,
    NamespaceSettings,
    OpenNamespace,
    SetNamespace,
)
from fs3.model.routing import Routing
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_capabilities import capabilities_reply_from_pb, namespace_capabilities_to_pb
from fs3.wire.mgmtd_queries import (
    list_namespace_changes_to_pb,
    list_namespaces_to_pb,
    namespace_changes_from_pb,
    namespace_page_from_pb,
)


class NamespaceCalls(ManagerCalls):
    """A part of `fs3.client.mgmtd.client.MgmtdClient`."""

    async def refresh(self, newer_than: int) -> Routing:
        """See `RoutingSource.refresh`."""
        raise NotImplementedError

    async def open_namespace(
        self, name: str, page_bytes: int, replicas: int = 0, settings: NamespaceSettings = NO_SETTINGS
    ) -> CacheNamespace:
        """A KVCache namespace, made with these settings when absent; `routing` shows its table on return. NAMESPACE_DIFFERS."""
        namespace: CacheNamespace = await self._ask(OpenNamespace(name, page_bytes, replicas, settings))
        return namespace

    async def get_namespace_capabilities(self, namespaces: Sequence[int]) -> list[bytes | Code]:
        """Capabilities of namespaces, by their ids; of each NO_NAMESPACE when it is not for this user, or BUSY."""
        request = namespace_capabilities_to_pb(namespaces)
        reply = await self._call(MGMTD.GetNamespaceCapabilities, request, call_timeout_ns, manager_read_ns)
        return capabilities_reply_from_pb(reply, len(namespaces))

    async def list_namespaces(self, prefix: str = "", after: str = "") -> NamespacePage:
        """A page of the namespaces whose names begin with `prefix` and come after `after`, by name."""
        return await self._list_namespaces(ListNamespaces(prefix, after), call_timeout_ns)

    async def list_namespace_changes(self, since: int) -> NamespaceChanges:
        """What has changed since the list of namespaces had a version."""
        request = list_namespace_changes_to_pb(since)
        return namespace_changes_from_pb(await self._call(MGMTD.ListNamespaceChanges, request, call_timeout_ns, manager_read_ns))

    async def find_namespace(self, name: str, timeout_ns: int = call_timeout_ns) -> CacheNamespace | None:
        """The namespace with this name, None when there is none."""
        page = await self._list_namespaces(ListNamespaces(prefix=name, limit=1), timeout_ns)
        return next((namespace for namespace in page.namespaces if namespace.name == name), None)

    async def set_namespace(self, name: str, settings: NamespaceSettings) -> CacheNamespace:
        """Change the settings of a namespace that are named. NO_NAMESPACE; INVALID for what it cannot have."""
        namespace: CacheNamespace = await self._ask(SetNamespace(name, settings))
        return namespace

    async def clear_namespace(self, name: str, namespace_id: int, timeout_ns: int = call_timeout_ns) -> CacheNamespace:
        """Give the namespace that has this id another one, under which it has no pages; `routing` tells of it on return.
        NO_NAMESPACE."""
        known = self._routing.namespace_deletions
        namespace: CacheNamespace = await self._ask(ClearNamespace(name, namespace_id), timeout_ns)
        await self._wait_deletion(known)
        return namespace

    async def delete_namespace(self, name: str, made_as: int) -> None:
        """Forget the namespace that was made with this id; `routing` tells of it on return. Nothing happens to one that is gone
        already. NO_NAMESPACE for an id that was never given out."""
        known = self._routing.namespace_deletions
        await self._ask(DeleteNamespace(name, made_as))
        await self._wait_deletion(known)

    async def _wait_deletion(self, known: int) -> None:
        """What uses this client is to hear of a deletion before the one who asked for it goes on. The watch has brought it,
        nearly always."""
        if self._routing.namespace_deletions == known:
            await self.refresh(self._routing.version)

    async def _list_namespaces(self, wanted: ListNamespaces, timeout_ns: int) -> NamespacePage:
        request = list_namespaces_to_pb(wanted)
        return namespace_page_from_pb(await self._call(MGMTD.ListNamespaces, request, timeout_ns, manager_read_ns))
