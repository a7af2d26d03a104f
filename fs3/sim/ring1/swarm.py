"""Options of one simulated run, drawn from its seed.

Wide on purpose: a run with many rare things at once hides most of what a run with one kind of trouble shows. So each trouble is
switched on by itself, and delays may be as long as it takes the manager to give a target up.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from fs3.base.prng import Prng
from fs3.base.units import MICROSECOND, MILLISECOND
from fs3.core.craq.lanes import ReplicaLimits
from fs3.core.craq.resync.plan import ResyncLimits


@dataclass(frozen=True)
class ChainSwarm:
    """What one run is like. Times in nanoseconds; chances in parts of 1024."""

    targets: int
    clients: int
    operations: int
    """Of all clients together."""
    watchers: int
    """Further clients that only read, one chunk, again and again."""
    watcher_reads: int
    """Reads of each watcher."""
    chunks: int
    pages: int
    """Further chunks that are only PUT, removed and read."""
    channels: int
    """Update channels of each client."""
    read_chance: int
    sticky_readers: bool
    """A client reads from one target as long as it can, instead of from any."""
    remove_chance: int
    partial_chance: int
    """Of writes: at an offset, or a truncation."""
    misroute_chance: int
    """Of an update being sent to any target instead of to the head."""
    think_ns: int

    latency_min_ns: int
    latency_max_ns: int
    latency_tail_ns: int
    tail_chance: int
    loss_chance: int
    duplicate_chance: int

    stage_min_ns: int
    stage_max_ns: int
    stage_tail_ns: int
    stage_tail_chance: int

    heartbeat_ns: int
    lease_ns: int
    drift_ns: int
    """What two clocks may disagree by in one lease."""
    limits: ReplicaLimits
    resync_limits: ResyncLimits
    call_timeout_ns: int
    operation_deadline_ns: int
    """After which a client gives up, as long as there is trouble."""

    crashes: int
    cuts: int
    isolations: int
    """Of a target from the manager, and perhaps from its neighbours, but not from the clients."""
    pauses: int
    leaves: int
    """Clean stops."""
    managers: int
    """The manager is killed, and another one takes over."""
    disk_replacements: int
    """Of a disk, while others are complete."""
    fillings: int
    """Disks that are full for a while."""
    rots: int
    """Bytes that a disk changes, of chunks of which others have good copies."""
    rollbacks: int
    """Of a node's directory, to a copy that was made before the node ran again. Only in runs that are asked for."""
    trouble_ns: int
    """Trouble happens this long; then everything is healed."""

    @property
    def has_disk_trouble_only(self) -> bool:
        """Nothing but disks is in trouble, and nobody is taken for dead who is not."""
        other = self.crashes + self.cuts + self.isolations + self.pauses + self.leaves + self.managers
        return not other and not self.tail_chance and not self.loss_chance

    def describe(self) -> str:
        """One line, for people."""
        shown = (f"{field.name}={getattr(self, field.name)}" for field in fields(self) if "limits" not in field.name)
        return " ".join(shown)


def draw_swarm(prng: Prng) -> ChainSwarm:
    """Draws the options of a run."""

    def maybe(numerator: int, denominator: int, low: int, high: int) -> int:
        return prng.between(low, high) if prng.chance(numerator, denominator) else 0

    heartbeat = prng.between(15, 30) * MILLISECOND
    lease = heartbeat * prng.between(3, 5)
    latency = prng.between(50, 400) * MICROSECOND
    timeout = prng.between(10, 60) * MILLISECOND
    clients = prng.between(1, 5)
    operations = prng.between(24, 56)
    exchanges = maybe(1, 4, 1, 3)
    trouble = prng.between(200, 700) * MILLISECOND
    swarm = ChainSwarm(
        targets=prng.pick((1, 2, 3, 3, 3, 3, 4, 5)),
        clients=clients,
        operations=operations,
        watchers=prng.pick((0, 0, 1, 2)),
        watcher_reads=prng.between(20, 40),
        chunks=prng.pick((1, 1, 2, 3, 4)),
        pages=maybe(1, 3, 1, 2),
        channels=prng.between(1, 3),
        read_chance=prng.between(200, 700),
        sticky_readers=prng.chance(1, 2),
        remove_chance=maybe(2, 3, 40, 250),
        partial_chance=maybe(1, 2, 100, 500),
        misroute_chance=maybe(1, 4, 10, 100),
        # From everything at once to spread over all of the trouble.
        think_ns=prng.pick((0, 1, 2, 4)) * trouble * clients // operations // 2,
        latency_min_ns=latency,
        latency_max_ns=latency * prng.between(2, 20),
        latency_tail_ns=lease * prng.between(1, 8) // 4,
        tail_chance=maybe(2, 3, 5, 120),
        loss_chance=maybe(1, 2, 5, 100),
        duplicate_chance=maybe(2, 3, 5, 150),
        stage_min_ns=prng.between(50, 500) * MICROSECOND,
        stage_max_ns=prng.between(1, 8) * MILLISECOND,
        stage_tail_ns=lease * prng.between(1, 6) // 4,
        stage_tail_chance=maybe(1, 2, 5, 80),
        heartbeat_ns=heartbeat,
        lease_ns=lease,
        drift_ns=lease * prng.between(1, 4) // 40,
        limits=ReplicaLimits(
            lane_waiting_max=prng.pick((1, 4, 256)),
            flights_max=prng.pick((2, 1024, 1024)),
            flight_deadline_ns=4 * timeout,
            forward_timeout_min_ns=timeout,
            forward_timeout_max_ns=3 * timeout,
            forward_backoff_min_ns=2 * MILLISECOND,
            forward_backoff_max_ns=10 * MILLISECOND,
        ),
        resync_limits=ResyncLimits(
            range_chunks=prng.pick((1, 2, 16)),
            ranges_max=prng.pick((1, 2, 8)),
            queries_max=prng.pick((1, 4)),
            list_max=prng.pick((1, 2, 16)),
            fills_max=prng.pick((1, 2, 16)),
            bytes_max=prng.pick((1, 1 << 20)),
            bytes_per_second=prng.pick((0, 0, 20_000)),
            burst_ns=MILLISECOND,
            channels_max=prng.pick((1, 16)),
            finish_ns=heartbeat,
            retry_min_ns=2 * MILLISECOND,
            retry_max_ns=10 * MILLISECOND,
        ),
        call_timeout_ns=prng.between(20, 80) * MILLISECOND,
        operation_deadline_ns=prng.between(100, 600) * MILLISECOND,
        crashes=maybe(3, 4, 1, 5),
        cuts=maybe(1, 2, 1, 4),
        isolations=maybe(1, 2, 1, 3),
        pauses=maybe(1, 3, 1, 3),
        leaves=maybe(1, 3, 1, 3),
        managers=maybe(1, 4, 1, 2),
        disk_replacements=exchanges,
        fillings=maybe(1, 4, 1, 3),
        rots=0 if exchanges else maybe(1, 4, 1, 4),
        rollbacks=0,
        trouble_ns=trouble,
    )
    if exchanges and prng.chance(1, 2):
        swarm = _with_disk_trouble_only(swarm)
    return swarm


def with_rollbacks(swarm: ChainSwarm) -> ChainSwarm:
    """The same run with directories put back in place of other trouble. What one target has lost, another one always has."""
    rolled = replace(swarm, targets=max(2, swarm.targets), rollbacks=3, disk_replacements=0, rots=0)
    return _with_disk_trouble_only(rolled)


def _with_disk_trouble_only(swarm: ChainSwarm) -> ChainSwarm:
    return replace(swarm, crashes=0, cuts=0, isolations=0, pauses=0, leaves=0, managers=0, tail_chance=0, loss_chance=0)
