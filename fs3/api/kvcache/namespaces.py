"""Namespaces as a whole: made, listed, set, cleared, deleted.

All of it is said to the manager alone, in one request however many pages there are: to clear a namespace is to give it another
id, to delete it is to forget it. Pages of an id that no namespace has are unreachable: storage nodes hear of that, and the heads
of the chains remove them in the background.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fs3.api.client import Client
from fs3.base.errors import error
from fs3.base.limits import call_timeout_ns
from fs3.base.status import Code
from fs3.model.cluster import CacheNamespace, NamespaceSettings


@asynccontextmanager
async def client_of(source: Client | str) -> AsyncIterator[Client]:
    """A client that is connected already, or one of its own for the cluster of a URL."""
    if not isinstance(source, str):
        yield source
        return
    from fs3.api.connect import connect

    client = await connect(source)
    try:
        yield client
    finally:
        await client.aclose()


async def list_namespaces(client: Client, prefix: str) -> list[CacheNamespace]:
    """Every namespace whose name begins with `prefix`, by name."""
    found: list[CacheNamespace] = []
    while True:
        page = await client.manager.list_namespaces(prefix, found[-1].name if found else "")
        found += page.namespaces
        if not page.more:
            return found


async def get_namespace(client: Client, name: str) -> CacheNamespace:
    """The namespace with this name. Raises NotFound when there is none."""
    namespace = await client.manager.find_namespace(name)
    if namespace is None:
        raise error(Code.NO_NAMESPACE, "there is no such namespace", name)
    return namespace


async def create_namespace(
    client: Client, name: str, page_bytes: int, replicas: int, settings: NamespaceSettings
) -> CacheNamespace:
    """Make a namespace. Raises Exists when there is one of this name; two who make it at once may both be told that they did."""
    if await client.manager.find_namespace(name) is not None:
        raise error(Code.EXISTS, "there is such a namespace already", name)
    return await client.manager.open_namespace(name, page_bytes, replicas, settings)


async def clear_namespace(client: Client, namespace: CacheNamespace, timeout_ns: int = call_timeout_ns) -> CacheNamespace:
    """Give a namespace an id under which there are no pages. `namespace`: as it is now; when another client has cleared it since,
    that is enough. Returns it as it is then."""
    return await client.manager.clear_namespace(namespace.name, namespace.id, timeout_ns)


async def delete_namespace(client: Client, namespace: CacheNamespace) -> None:
    """Forget a namespace."""
    await client.manager.delete_namespace(namespace.name, namespace.made_as)
