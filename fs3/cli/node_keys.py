"""The keys of the nodes of a cluster on this machine: drawn by its owner, and made known to a cluster that asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fs3.cli.directory import ClusterDirectory, Shape
from fs3.cli.operator_keys import use_directory


def admit_nodes(directory: ClusterDirectory, shape: Shape, names: Sequence[str]) -> None:
    """Nodes that are about to be started will be admitted, also new ones and those whose directories were lost: they have other
    keys than the cluster knows. Without security, nodes say so themselves. FS3Error when the manager refuses."""
    if not names or not any(directory.running_pid(name) is not None for name in shape.managers()):
        return
    use_directory(directory.path)
    with ThreadPoolExecutor(1) as thread:  # the caller may be one whose event loop runs
        thread.submit(lambda: asyncio.run(_admit(directory, shape, names))).result()


async def _admit(directory: ClusterDirectory, shape: Shape, names: Sequence[str]) -> None:
    from fs3.cli.manager_client import ask_cluster_of, open_manager_client
    from fs3.client.mgmtd.security_admin import SecurityAdmin
    from fs3.core.security.login import stored_of
    from fs3.model.security import NodeKey
    from fs3.runtime.node_key import ensure_node_key

    addresses = shape.manager_addresses()
    infos = await asyncio.gather(*(ask_cluster_of(address) for address in addresses), return_exceptions=True)
    if not any(not isinstance(info, BaseException) and info.is_secured for info in infos):
        return
    keys = []
    for name in names:
        home = directory.path / name
        home.mkdir(parents=True, exist_ok=True)
        keys.append(NodeKey(name, stored_of(ensure_node_key(home))))
    async with open_manager_client(addresses) as client:
        await SecurityAdmin(client).admit_nodes(keys)
