"""What processes say of their directories: generations of targets and room on disks, to and from protobuf.

What arrives is not trusted: every `*_from_pb` raises InvalidArgument naming the malformed field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fs3.base.ids import TargetId
from fs3.base.limits import generations_kept_max, tables_max, targets_per_node_max
from fs3.model.cluster import DiskSpace
from fs3.model.generation import GENERATION_TOKEN_BYTES, Generation, TargetClaim, TargetGeneration
from fs3.wire.malformed import malformed
from fs3.wire.pb import mgmtd_pb2 as pb

path_shown_bytes_max = 1024
"""Of a path that is reported for people to read."""

disks_per_process_max = 64
"""Of one process, those whose free space is reported."""
targets_per_disk_max = targets_per_node_max * tables_max
"""As many as a node can have."""


def generation_to_pb(generation: Generation) -> pb.Generation:
    """One generation."""
    return pb.Generation(number=generation.number, token=generation.token)


def generation_from_pb(message: pb.Generation, field: str) -> Generation:
    """One generation."""
    if len(message.token) != GENERATION_TOKEN_BYTES:
        raise malformed(f"{field}.token", f"{len(message.token)} bytes, must be {GENERATION_TOKEN_BYTES}")
    return Generation(message.number, message.token)


def claim_to_pb(claim: TargetClaim) -> pb.TargetClaim:
    """How far the directory of a target is."""
    return pb.TargetClaim(target_id=claim.target, generations=[generation_to_pb(each) for each in claim.generations])


def claim_from_pb(message: pb.TargetClaim, field: str) -> TargetClaim:
    """How far the directory of a target is."""
    if len(message.generations) > generations_kept_max:
        raise malformed(f"{field}.generations", f"{len(message.generations)}, at most {generations_kept_max} are allowed")
    written = (generation_from_pb(each, f"{field}.generations[{index}]") for index, each in enumerate(message.generations))
    return TargetClaim(TargetId(message.target_id), tuple(written))


def target_generation_to_pb(remembered: TargetGeneration) -> pb.TargetGeneration:
    """What the manager remembers of a target."""
    return pb.TargetGeneration(target_id=remembered.target, generation=generation_to_pb(remembered.generation))


def target_generation_from_pb(message: pb.TargetGeneration, field: str) -> TargetGeneration:
    """What the manager remembers of a target."""
    return TargetGeneration(TargetId(message.target_id), generation_from_pb(message.generation, f"{field}.generation"))


def disks_to_pb(disks: Iterable[DiskSpace]) -> list[pb.DiskSpace]:
    """The disks of a process."""
    return [
        pb.DiskSpace(
            path=disk.path,
            total_bytes=disk.total_bytes,
            free_bytes=disk.free_bytes,
            device=disk.device,
            target_ids=disk.targets,
            drained=disk.is_drained,
        )
        for disk in disks
    ]


def disks_from_pb(messages: Sequence[pb.DiskSpace]) -> tuple[DiskSpace, ...]:
    """The disks of a process. What is too long or too much is cut and nothing is refused: heartbeats have to arrive."""
    return tuple(
        DiskSpace(
            message.path.encode()[:path_shown_bytes_max].decode(errors="ignore"),
            message.total_bytes,
            message.free_bytes,
            message.device,
            tuple(TargetId(target) for target in message.target_ids[:targets_per_disk_max]),
            message.drained,
        )
        for message in messages[:disks_per_process_max]
    )
