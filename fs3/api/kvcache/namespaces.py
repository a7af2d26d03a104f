"""Namespaces as a whole: listed, emptied, deleted.

The ids of a namespace's pages are neighbours (`fs3.base.ids.page_prefix`), so its pages are found by listing one range of chunk
ids on each of its chains. Deleting one begins at the manager, which marks it, and ends there, when it has no pages any more. What
is interrupted in between is completed by deleting it again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fs3.api.client import Client
from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ChunkId, page_range
from fs3.base.status import Code
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import UpdateKind
from fs3.model.cluster import CacheNamespace
from fs3.model.upkeep import ChunkPage

Progress = Callable[[int], Any]
"""Called with how many pages were removed since it was called last."""

delete_passes_max = 16
"""How often the chains are gone through for pages that were stored while a namespace was being deleted."""


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


async def delete_namespace(client: Client, name: str, progress: Progress) -> int:
    """Delete a namespace, also one whose deletion was interrupted. Returns how many pages were removed.

    Raises NotFound when there is none with this name, FS3Error when storage or the manager does not answer.
    """
    namespace = await client.manager.find_namespace(name)
    if namespace is None:
        raise error(Code.NO_NAMESPACE, "there is no such namespace", name)
    await client.manager.delete_namespace(namespace.id, emptied=False)
    removed = 0
    for _ in range(delete_passes_max):
        found = await remove_pages(client, namespace, progress)
        removed += found
        if not found:
            await client.manager.delete_namespace(namespace.id, emptied=True)
            return removed
    raise error(Code.BUSY, "somebody goes on storing pages in a namespace that is being deleted", name)


async def clear_namespace(client: Client, name: str, progress: Progress) -> int:
    """Remove the pages of a namespace, which stays. Raises NotFound when there is none with this name."""
    namespace = await client.manager.find_namespace(name)
    if namespace is None:
        raise error(Code.NO_NAMESPACE, "there is no such namespace", name)
    return await remove_pages(client, namespace, progress)


async def remove_pages(client: Client, namespace: CacheNamespace, progress: Progress) -> int:
    """Remove every page that a namespace has now. Returns how many those were. Raises FS3Error when storage does not answer."""
    table = client.manager.routing.tables.get(namespace.table)
    if table is None:
        raise error(Code.NO_TABLE, "the chain table of the namespace is not known here", namespace.name)
    removed = 0
    for chain in table.chains:
        async for chunks in _list_pages(client, chain, namespace.id):
            writes = [WriteIO(chunk, chain, UpdateKind.REMOVE, 0) for chunk in chunks]
            for result in await client.storage.update(writes):
                if result.code is not Code.OK:
                    raise error(result.code, f"a page could not be removed: {result.message}", namespace.name)
            removed += len(chunks)
            progress(len(chunks))
    return removed


async def _list_pages(client: Client, chain: ChainId, namespace_id: int) -> AsyncIterator[list[ChunkId]]:
    """The pages of a namespace on a chain, as many at once as a target tells at once."""
    after, until = page_range(namespace_id)
    while True:
        page = await _list_range(client, chain, after, until)
        if page.rows:
            after = page.rows[-1].chunk
            yield [row.chunk for row in page.rows]
        if not page.more or not page.rows:
            return


async def _list_range(client: Client, chain: ChainId, after: ChunkId, until: ChunkId | None) -> ChunkPage:
    """From the first target that answers: each that serves has all there is."""
    failure = error(Code.NOT_SERVING, f"nobody serves chain {chain}")
    for target in _serving(client, chain):
        try:
            return await client.storage.list_chunks(chain, target, after=after, until=until)
        except FS3Error as why:
            failure = why
    raise failure


def _serving(client: Client, chain: ChainId) -> Iterator[Any]:
    members = client.manager.routing.chains.get(chain)
    return (slot.target for slot in (members.serving_slots() if members is not None else ()))
