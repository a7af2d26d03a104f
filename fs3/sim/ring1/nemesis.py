"""The part of a run that breaks things: when, what and for how long is drawn from the seed. After the healing it rests.

It breaks nothing that cannot be made good: a disk is exchanged only while another target has everything, and a byte is changed
only of a chunk that everybody else has intact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from fs3.base.ids import ChunkId, TargetId
from fs3.base.prng import Prng
from fs3.model.chain import PublicState
from fs3.sim.ring1.chunks import SimChunks
from fs3.sim.ring1.cluster import ChainCluster
from fs3.sim.ring1.messages import MANAGER
from fs3.sim.ring1.target_host import DirectoryCopy, TargetHost


class ChainNemesis:
    """Trouble for one cluster."""

    def __init__(self, cluster: ChainCluster, prng: Prng, losses: Prng) -> None:
        """`losses` draws which changes a crash takes; apart, so that it shifts no other draw of a remembered seed."""
        self.cluster = cluster
        self.prng = prng
        self._losses = losses

    def plan(self) -> None:
        """Draw when each trouble begins."""
        swarm = self.cluster.swarm
        kinds: Sequence[tuple[int, Callable[[], None]]] = (
            (swarm.crashes, self._crash),
            (swarm.cuts, self._cut),
            (swarm.isolations, self._isolate),
            (swarm.pauses, self._pause),
            (swarm.leaves, self._leave),
            (swarm.managers, self._kill_manager),
            (swarm.disk_replacements, self._replace_disk),
            (swarm.fillings, self._fill_up),
            (swarm.rots, self._rot),
            (swarm.rollbacks, self._copy_directory),
        )
        for count, begin in kinds:
            for _ in range(count):
                self.cluster.heap.after(self.prng.below(swarm.trouble_ns), self._begin, begin)

    def _begin(self, action: Callable[[], None]) -> None:
        if not self.cluster.is_healed:
            action()

    def _victim(self) -> TargetHost:
        return self.cluster.hosts[TargetId(self.prng.between(1, self.cluster.swarm.targets))]

    def heal(self) -> None:
        """Everything works again."""
        cluster = self.cluster
        cluster.links.heal()
        if not cluster.manager.up:
            cluster.manager.restart()
        for host in cluster.hosts.values():
            host.chunks.is_full = False
            cluster.resume(host)
            self._restart(host, host.process)

    # --- processes ---------------------------------------------------------------------------------------------------

    def _crash(self) -> None:
        host = self._victim()
        if host.up:
            self._kill(host)
            # Half of the restarts are faster than the manager notices: the target comes back into the same chain version.
            swarm = self.cluster.swarm
            patience = swarm.lease_ns // 4 if self.prng.chance(1, 2) else swarm.trouble_ns
            self.restart_within(host, patience)

    def _kill(self, host: TargetHost) -> None:
        lost = self.prng.below(len(host.chunks.unsynced_chunks) + 1)
        loss = host.chunks.draw_loss(self._losses, lost)
        done = self.prng.chance(1, 2)
        self.cluster.say(f"crash {host.target}, {lost} of {len(host.chunks.unsynced_chunks)} unsynced commits lost")
        self.cluster.forget(host)
        host.crash(loss, barrier_done=done)

    def restart_within(self, host: TargetHost, patience_ns: int) -> None:
        """Start a process again after a while."""
        self.cluster.heap.after(self.prng.between(1, patience_ns), self._restart, host, host.process)

    def _restart(self, host: TargetHost, process: int) -> None:
        if not host.up and host.process == process:
            self.cluster.say(f"restart {host.target}")
            self.cluster.start(host)

    def _pause(self) -> None:
        host = self._victim()
        if host.up and self.cluster.pause(host):
            self.cluster.say(f"pause {host.target}")
            self.cluster.heap.after(self.prng.between(1, 2 * self.cluster.swarm.lease_ns), self.cluster.resume, host)

    def _leave(self) -> None:
        host = self._victim()
        if host.up:
            self.cluster.say(f"{host.target} leaves")
            self.cluster.nodes[host.target].leave()

    def _kill_manager(self) -> None:
        cluster = self.cluster
        if cluster.manager.up:
            cluster.say("the manager is killed")
            cluster.manager.crash()
            cluster.heap.after(self.prng.between(1, 2 * cluster.swarm.lease_ns), self._take_over, cluster.manager.incarnation)

    def _take_over(self, incarnation: int) -> None:
        if not self.cluster.manager.up and self.cluster.manager.incarnation == incarnation:
            self.cluster.say("another manager takes over")
            self.cluster.manager.restart()

    # --- links -------------------------------------------------------------------------------------------------------

    def _cut(self) -> None:
        one: int = self._victim().target
        other = self.prng.pick([MANAGER, *self.cluster.hosts, *self.cluster.clients])
        pairs = {(one, other)} if self.prng.chance(1, 3) else {(one, other), (other, one)}
        if self.prng.chance(1, 3):
            pairs = {(other, one)}
        self.cluster.say(f"cut {sorted(pairs)}")
        self.cluster.links.cuts |= pairs
        self.cluster.heap.after(self.prng.between(1, self.cluster.swarm.trouble_ns // 2), self._mend, pairs)

    def _isolate(self) -> None:
        one = self._victim().target
        others: list[int] = [MANAGER]
        if self.prng.chance(1, 2):
            others += [host for host in self.cluster.hosts if host != one]
        pairs = {pair for other in others for pair in ((one, other), (other, one))}
        self.cluster.say(f"isolate {one} from {others}")
        self.cluster.links.cuts |= pairs
        lease = self.cluster.swarm.lease_ns
        self.cluster.heap.after(self.prng.between(lease // 2, 4 * lease), self._mend, pairs)

    def _mend(self, pairs: set[tuple[int, int]]) -> None:
        self.cluster.links.cuts -= pairs

    # --- disks -------------------------------------------------------------------------------------------------------

    def _replace_disk(self) -> None:
        """A disk is lost, and sometimes everything else of the node.

        When nothing else goes wrong in this run, the process is back before anybody has noticed. Otherwise the chain has to go on
        without it first: were the complete targets taken out before, the chain would wait for what was on this disk for ever.
        """
        host = self._victim()
        serving = self.cluster.manager.chain.serving_slots()
        if not any(slot.target != host.target and self._is_complete(TargetId(slot.target)) for slot in serving):
            return
        if host.up:
            self._kill(host)
        self._replace_disk_when_out(host, host.process)

    def _replace_disk_when_out(self, host: TargetHost, process: int) -> None:
        if host.up or host.process != process:
            return
        cluster = self.cluster
        slot = cluster.manager.chain.slot(host.target)
        others = [slot for slot in cluster.manager.chain.serving_slots() if slot.target != host.target]
        is_out = slot is not None and slot.state not in (PublicState.SERVING, PublicState.LASTSRV) and bool(others)
        if is_out or cluster.swarm.has_disk_trouble_only:
            cluster.say(f"the disk of {host.target} is exchanged")
            host.replace_disk(node_too=self.prng.chance(1, 2))
            self.restart_within(host, cluster.swarm.lease_ns * self.prng.between(1, 8) // 4)
        elif not cluster.is_healed:
            cluster.heap.after(cluster.swarm.heartbeat_ns, self._replace_disk_when_out, host, process)

    def _is_complete(self, target: TargetId) -> bool:
        chunks = self.cluster.hosts[target].chunks
        up = self.cluster.hosts[target].up
        return up and target in self.cluster.manager.stored.born and chunks.whole and chunks.is_settled

    def _copy_directory(self) -> None:
        """A node is stopped hard, copied, and started again; later the copy takes the place of what is there then.

        Each step waits until every target serves and holds a lease: were the others taken out meanwhile, the chain would wait for
        what this one has lost for ever.
        """
        host = self._victim()
        if not self._is_everyone_serving():
            self._begin_later(self._copy_directory)
            return
        self._kill(host)
        copy = host.copy_directory()
        self.cluster.say(f"the directory of {host.target} is copied")
        self.restart_within(host, self.cluster.swarm.lease_ns // 4)
        delay = self.prng.between(1, self.cluster.swarm.trouble_ns // 2)
        self.cluster.heap.after(delay, self._begin, partial(self._put_back, host, copy))

    def _put_back(self, host: TargetHost, copy: DirectoryCopy) -> None:
        if not self._is_everyone_serving():
            self._begin_later(partial(self._put_back, host, copy))
            return
        self._kill(host)
        host.put_back(copy)
        self.cluster.say(f"a copy of the directory of {host.target} is put back")
        # The node is back before anybody has noticed, or the chain has gone on without it.
        lease = self.cluster.swarm.lease_ns
        self.restart_within(host, lease // 4 if self.prng.chance(3, 4) else 3 * lease)

    def _begin_later(self, action: Callable[[], None]) -> None:
        self.cluster.heap.after(self.cluster.swarm.heartbeat_ns, self._begin, action)

    def _is_everyone_serving(self) -> bool:
        hosts = self.cluster.hosts.values()
        serving = self.cluster.manager.chain.serving_slots()
        return len(serving) == len(hosts) and all(host.up and host.clock < host.lease_until_ns for host in hosts)

    def _fill_up(self) -> None:
        host = self._victim()
        self.cluster.say(f"the disk of {host.target} is full")
        host.chunks.is_full = True
        self.cluster.heap.after(self.prng.between(1, self.cluster.swarm.trouble_ns // 2), self._empty, host)

    def _empty(self, host: TargetHost) -> None:
        host.chunks.is_full = False

    def _rot(self) -> None:
        """A byte of one copy of a chunk changes, as soon as all targets serve and have it alike."""
        host = self._victim()
        chunk = self._intact()
        if chunk is None:
            self.cluster.heap.after(self.cluster.swarm.heartbeat_ns, self._begin, self._rot)
            return
        self.cluster.say(f"the disk of {host.target} changes chunk {chunk.hex()[-6:]}")
        host.chunks.rot(chunk)

    def _intact(self) -> ChunkId | None:
        """A chunk of which every target has the same good copy.

        A commit that may still be lost counts as no copy: what is pending is dropped when its target is brought up to date.
        """
        one, *others = [host.chunks for host in self.cluster.hosts.values()]
        if not others or len(self.cluster.manager.chain.serving_slots()) <= len(others):
            return None
        for chunk, record in sorted(one.records.items()):
            like = (record.meta.committed, 0, record.meta.checksum)
            if not record.content or not all(_is_good_copy(store, chunk, like) for store in (one, *others)):
                continue
            return chunk
        return None


def _is_good_copy(store: SimChunks, chunk: ChunkId, like: tuple[int, int, int]) -> bool:
    record = store.records.get(chunk)
    if record is None or (record.meta.committed, record.meta.pending, record.meta.checksum) != like:
        return False
    assert record.committed is not None
    return chunk not in store.unsynced_chunks and record.committed.is_sound(0, len(record.content))
