"""What must hold: while a run is under way, and when all is healed and quiet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fs3.base.ids import ChainId, ChunkId, NodeId
from fs3.base.status import Code
from fs3.core.membership.state import State
from fs3.core.meta import keys, rows
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.core.txn import ReadTxn
from fs3.model.chain import Chain, PublicState
from fs3.model.inode import Inode
from fs3.model.routing import Role, Routing
from fs3.sim.checkers import convergence, file_holes, register
from fs3.sim.checkers.history import Operation
from fs3.sim.checkers.leases import HeadClaim
from fs3.sim.ring2.cluster import Cluster
from fs3.sim.ring2.disk import SimDisks


def list_head_claims(cluster: Cluster) -> Iterator[HeadClaim]:
    """Whichever processes may serve as the head of a chain at this moment."""
    for name, service in cluster.storages.items():
        host = cluster.hosts[name]
        process = host.process
        now = host.clock.now()
        if process is None or not process.is_running or not service.may_serve(now):
            continue
        for target, shell in service.targets.items():
            chain = shell.chain
            head = chain.head() if chain is not None else None
            if chain is None or head is None or head.target != target:
                continue
            if shell.read_gate(chain.version, now)[0] is Code.OK:
                yield HeadClaim(chain.id, target, chain.version)


def explain_not_serving(routing: Routing) -> str:
    """ "" when every target of every chain serves."""
    for chain in routing.chains.values():
        for slot in chain.slots:
            if slot.state is not PublicState.SERVING:
                return f"target {slot.target} of chain {chain.id} is {slot.state.name} in version {chain.version}"
    return "" if routing.chains else "there are no chains"


def explain_not_emptied(state: State, cluster: Cluster) -> str:
    """ "" when disks that are to hold nothing have no target that another node could take."""
    takers = _takers(state)
    for drained in state.drained_disks.values():
        disks = cluster.disks[state.nodes[drained.node].name]
        there = {target for path in drained.paths for target in disks.targets_on(path)}
        for chain in state.chains.values():
            here = {slot.node for slot in chain.slots}
            stays = [slot.target for slot in chain.slots if slot.node == drained.node and slot.target in there]
            if stays and takers - here:
                return f"target {stays[0]} of chain {chain.id} is on {', '.join(drained.paths)} of node {drained.node}"
    return ""


def _takers(state: State) -> set[NodeId]:
    """Nodes that may be given targets."""
    return {
        node.id for node in state.nodes.values() if node.role is Role.STORAGE and node.alive and node.id not in state.departing
    }


def explain_not_moved(state: State, replicas: int) -> str:
    """ "" when nothing moves, every chain has so many targets, and what is to go elsewhere and did not has no other place."""
    takers = _takers(state)
    for move in state.moves.values():
        if move.joiner or takers - {slot.node for slot in state.chains[move.chain].slots}:
            return f"target {move.leaver} of chain {move.chain} is to be on node {move.destination}: joiner {move.joiner}"
    for chain in state.chains.values():
        here = {slot.node for slot in chain.slots}
        if len(chain.slots) != replicas or len(here) != replicas:
            return f"chain {chain.id} version {chain.version} has {len(chain.slots)} targets on {len(here)} nodes"
        if takers - here and (stays := [node for node in here if node in state.departing]):
            return f"chain {chain.id} has a target on node {stays[0]} that is to hold nothing, and {len(takers)} take targets"
    return ""


def explain_leftovers(state: State, cluster: Cluster) -> str:
    """ "" when no node has anything of a target that is in no chain any more."""
    names = {node.name: node.id for node in state.nodes.values()}
    held = {(slot.node, slot.target) for chain in state.chains.values() for slot in chain.slots}
    for name, disks in cluster.disks.items():
        if name in names and cluster.hosts[name].is_up:
            left = [target for target in disks.stores if (names[name], target) not in held]
            if left:
                return f"{name} has data of target {left[0]}, which is in no chain"
    return ""


def explain_histories(operations: Mapping[ChunkId, list[Operation]]) -> str:
    """ "" when the history of every chunk can be explained."""
    for chunk, history in operations.items():
        problem = register.explain(history)
        if problem:
            return f"chunk {chunk.hex()[-8:]}: {problem}"
    return ""


def explain_divergence(chains: Mapping[ChainId, Chain], disks: Mapping[str, SimDisks]) -> str:
    """ "" when the serving targets of every chain hold the same, byte for byte, and nothing is pending."""
    stores = {target: store for each in disks.values() for target, store in each.stores.items()}
    return next(filter(None, (convergence.explain(chain, stores) for chain in chains.values())), "")


def explain_namespace(cluster: Cluster) -> str:
    """ "" when the metadata make sense as a whole."""
    problems = cluster.meta_kv.memory_kv.read_now(check_namespace)
    return "; ".join(problems[:3])


def explain_hidden_holes(chains: Iterable[Chain], cluster: Cluster) -> str:
    """ "" when every file that is said to have no holes has none."""
    stores = {target: store for disks in cluster.disks.values() for target, store in disks.stores.items()}
    serving = {chain.id: [slot.target for slot in chain.serving_slots()] for chain in chains}

    def length_of(chunk: ChunkId, chain: ChainId) -> int:
        found = [stores[target].records.get(chunk) for target in serving[chain]]
        return min((0 if record is None else len(record.content) for record in found), default=0)

    async def list_inodes(txn: ReadTxn) -> list[Inode]:
        found = await txn.scan(keys.INODE, keys.end_of(keys.INODE), 1 << 30)
        return [rows.decode_inode(key, row) for key, row in found]

    return file_holes.explain(cluster.meta_kv.memory_kv.read_now(list_inodes), length_of)
