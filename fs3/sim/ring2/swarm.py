"""Options of one run of ring 2, drawn from its seed. Each kind of trouble is on or off by itself (see `fs3.sim.ring1.swarm`)."""

from __future__ import annotations

from dataclasses import dataclass, fields

from fs3.base.prng import Prng
from fs3.base.units import KIB, MICROSECOND, MILLISECOND, SECOND
from fs3.model.inode import User
from fs3.sim.ring2.disk import DiskOptions
from fs3.sim.ring2.network import LinkOptions


@dataclass(frozen=True)
class ClusterSwarm:
    """What one run is like. Times in nanoseconds."""

    storages: int
    replicas: int
    targets_per_node: int
    mgmtds: int
    metas: int
    clients: int

    chunk_operations: int
    """Of all clients together; likewise the others."""
    chunks: int
    """That these operations share."""
    large_chance: int
    """Of written values, in 1024: to be larger than a block of the chunk store."""
    file_operations: int
    page_operations: int
    pages: int
    page_bytes: int
    admin_operations: int

    links: LinkOptions
    disk: DiskOptions
    commit_ns_min: int
    commit_ns_max: int
    drift_ppm: int
    heartbeat_ns: int
    lease_ns: int
    reconfigure: bool
    garbage_delay_ms: int
    session_silence_ms: int
    """After which a client with open files is presumed dead."""

    trouble_ns: int
    """Trouble happens this long; operations are spread over it."""
    crashes: int
    stops: int
    """Clean stops, each followed by a start."""
    silent: int
    """Of 1024 crashes, how many are losses of power that the peers are not told of."""
    pauses: int
    partitions: int
    isolations: int
    """Of a storage node, and perhaps of a client, from the managers and the other nodes, for longer than a lease."""
    clogs: int
    swizzles: int
    slow_disks: int
    full_disks: int
    rots: int
    wipes: int
    """Storage nodes that come back with an empty disk."""
    client_crashes: int
    wall_jumps: int
    inline_bytes: int = 0
    """Files up to this size are kept beside their inodes. No seed draws it: scenes of their own are about that."""
    cache_exchange_ms: int = 0
    """How often replicas tell each other which pages were read. Likewise."""
    lock_operations: int = 0
    """Of all clients together; one that comes in the place of another does its share again."""
    users: tuple[User, ...] = ()
    """Whose the first clients are; all others are root's. Likewise."""

    hedge_samples: int = 0
    """Answers after which late reads of clients are hedged; 0: as in production, which is more than most runs have."""
    zones: int = 0
    """Storage nodes stand in so many zones, by turns; 0: they say nothing. Likewise."""
    has_security: bool = False
    """Processes prove who they are, and clients what they may do. Likewise."""

    spares: int = 0
    """Storage nodes that are added while there is trouble."""
    operator_steps: int = 0
    """That the operator takes, about where targets are: see `fs3.sim.ring2.operator`."""
    moves_per_node: int = 2
    forget_after_ns: int = 0
    """As in `MoveSettings`, set at the first step."""
    short_circuit: bool = False
    """Clients share the hosts of storage nodes, and read their files."""
    upgrades: int = 0
    """1: services begin with the last release and are upgraded; 2: and go back; 0: all run this one."""

    def describe(self) -> str:
        """One line, for people."""
        return " ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


def draw_swarm(prng: Prng) -> ClusterSwarm:
    """Draws the options of a run."""

    def maybe(numerator: int, denominator: int, low: int, high: int) -> int:
        return prng.between(low, high) if prng.chance(numerator, denominator) else 0

    reconfigure = prng.chance(7, 8)
    storages = prng.pick((1, 2, 3, 3, 3, 3, 4, 5))
    replicas = min(storages, prng.pick((1, 2, 3, 3, 3)))
    wipes = maybe(1, 4, 1, 1) if reconfigure else 0
    # A lost disk, or a commit that a loss of power undid, and a bad block could be all copies there were.
    crashes = maybe(3, 4, 1, 4)
    rots = 0 if wipes or crashes else maybe(3, 4, 1, 3)
    latency = prng.between(30, 500) * MICROSECOND
    return ClusterSwarm(
        storages=storages,
        replicas=replicas,
        targets_per_node=prng.pick((1, 1, 2)) if storages < 4 else 1,
        mgmtds=prng.pick((1, 1, 2, 2, 3)),
        metas=prng.pick((1, 1, 2)),
        clients=prng.between(1, 3),
        chunk_operations=prng.between(20, 60),
        chunks=prng.pick((1, 1, 2, 3, 5)),
        large_chance=maybe(1, 3, 50, 300),
        file_operations=prng.pick((0, 15, 30)),
        page_operations=prng.pick((0, 10, 20)),
        pages=prng.between(2, 8),
        page_bytes=prng.pick((100, 3000, 70 * KIB)),
        admin_operations=prng.pick((0, 3)),
        links=LinkOptions(
            latency_min_ns=latency,
            latency_max_ns=latency * prng.between(2, 20),
            tail_ns=prng.pick((50 * MILLISECOND, SECOND, 5 * SECOND)),
            tail_chance=maybe(1, 2, 2, 60),
            cut_chance=maybe(1, 2, 20, 600),
        ),
        disk=DiskOptions(
            access_ns_min=prng.between(20, 500) * MICROSECOND,
            access_ns_max=prng.between(1, 10) * MILLISECOND,
            tail_ns=prng.pick((100 * MILLISECOND, 2 * SECOND, 6 * SECOND)),
            tail_chance=maybe(1, 2, 2, 60),
            cold_chance=maybe(1, 2, 100, 1024),
        ),
        commit_ns_min=prng.between(20, 500) * MICROSECOND,
        commit_ns_max=prng.between(1, 12) * MILLISECOND,
        drift_ppm=prng.pick((0, 100, 12_000)),
        heartbeat_ns=prng.pick((500, 1000)) * MILLISECOND,
        lease_ns=3 * SECOND,
        reconfigure=reconfigure,
        garbage_delay_ms=prng.pick((0, 500, 60_000)),
        session_silence_ms=prng.pick((25_000, 60_000)),
        trouble_ns=prng.between(3, 20) * SECOND,
        crashes=crashes,
        stops=maybe(1, 4, 1, 2),
        silent=prng.pick((0, 512, 1024)),
        pauses=maybe(1, 3, 1, 3),
        partitions=maybe(1, 2, 1, 3),
        isolations=maybe(1, 3, 1, 2),
        clogs=maybe(1, 3, 1, 3),
        swizzles=maybe(1, 5, 1, 1),
        slow_disks=maybe(1, 4, 1, 2),
        full_disks=maybe(1, 4, 1, 2),
        rots=rots,
        wipes=wipes,
        client_crashes=maybe(1, 5, 1, 2),
        wall_jumps=maybe(1, 4, 1, 3),
        lock_operations=maybe(1, 3, 10, 40),
        hedge_samples=prng.pick((0, 0, 0, 3)),
        spares=(spares := maybe(2, 5, 1, 2) if reconfigure else 0),
        operator_steps=prng.between(3, 12) if spares else 0,
        moves_per_node=prng.pick((1, 2, 64)),
        forget_after_ns=0 if rots else maybe(1, 3, 1, 10) * SECOND,
        # The last release knows nothing of moves: a cluster that has begun to use them does not go back.
        upgrades=0 if spares else maybe(1, 4, 1, 2),
        short_circuit=prng.chance(1, 4),
    )
