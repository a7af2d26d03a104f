"""What must hold: while a run is under way, and when all is healed and quiet."""

from __future__ import annotations

from collections.abc import Mapping

from fs3.base.ids import ChainId, ChunkId, TargetId
from fs3.base.status import Code
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.model.chain import Chain, PublicState
from fs3.model.chunk import Tag
from fs3.model.routing import Routing
from fs3.sim.checkers import register
from fs3.sim.checkers.history import Operation
from fs3.sim.ring2.cluster import Cluster
from fs3.sim.ring2.disk import SimDisks
from fs3.sim.ring2.story import Story


class OnceChecker:
    """A tagged update is committed under one version, on however many targets and however often it is sent."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._versions: dict[Tag, tuple[ChunkId, int]] = {}
        self.commits = 0

    def on_commit(self, target: TargetId, chunk: ChunkId, version: int, tag: Tag) -> None:
        """A store has committed."""
        self.commits += 1
        if not tag.client:
            return
        before = self._versions.setdefault(tag, (chunk, version))
        if before != (chunk, version):
            self._story.fail(
                "once",
                f"target {target} commits update {tag.seq} of client {tag.client.hex()[-4:]}/{tag.channel} as version {version}; "
                f"it was version {before[1]} of chunk {before[0].hex()[-8:]}",
            )


def explain_two_heads(cluster: Cluster) -> str:
    """ "" unless two processes may serve as head of one chain at this moment."""
    heads: dict[int, str] = {}
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
            if shell.read_gate(chain.version, now)[0] is not Code.OK:
                continue
            who = f"target {target} of {name} with version {chain.version}"
            if chain.id in heads:
                return f"chain {chain.id}: {heads[chain.id]} and {who} are heads and may serve"
            heads[chain.id] = who
    return ""


def explain_not_serving(routing: Routing) -> str:
    """ "" when every target of every chain serves."""
    for chain in routing.chains.values():
        for slot in chain.slots:
            if slot.state is not PublicState.SERVING:
                return f"target {slot.target} of chain {chain.id} is {slot.state.name} in version {chain.version}"
    return "" if routing.chains else "there are no chains"


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
    for chain in chains.values():
        serving = [slot.target for slot in chain.serving_slots()]
        contents = {}
        for target in serving:
            if target not in stores:
                return f"target {target} serves and has no store"
            contents[target] = found = stores[target].list_contents()
            for chunk, (_, pending, _) in found.items():
                if pending:
                    return f"target {target} still has version {pending} of chunk {chunk.hex()} pending"
        for target in serving[1:]:
            first, other = contents[serving[0]], contents[target]
            for chunk in sorted(first.keys() | other.keys()):
                if first.get(chunk) != other.get(chunk):
                    mine, theirs = _shown(first.get(chunk)), _shown(other.get(chunk))
                    return f"chunk {chunk.hex()}: target {serving[0]} has {mine}, target {target} has {theirs}"
    return ""


def _shown(found: tuple[int, int, bytes] | None) -> str:
    return "nothing" if found is None else f"version {found[0]}, {len(found[2])} bytes {found[2][:16]!r}"


def explain_namespace(cluster: Cluster) -> str:
    """ "" when the metadata make sense as a whole."""
    problems = cluster.meta_kv.memory_kv.read_now(check_namespace)
    return "; ".join(problems[:3])
