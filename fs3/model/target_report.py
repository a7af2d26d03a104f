"""What a storage node says of one of its targets, in every heartbeat."""

from __future__ import annotations

import msgspec

from fs3.base.ids import TargetId
from fs3.model.chain import LocalState
from fs3.model.generation import Generation


class UpkeepProgress(msgspec.Struct, frozen=True):
    """How far a target is with bringing its successor up to date and with verifying itself. For people; only `bad_blocks` decides
    something: what may leave its chain."""

    resync_target_id: int = 0
    """The syncing successor; 0: none. The other resync figures are then of the last resync."""
    resync_done_chunks: int = 0
    resync_total_chunks: int = 0
    resync_bytes: int = 0
    resync_bytes_per_second: int = 0
    bad_blocks: int = 0
    """Blocks without a good copy so far."""
    repaired_blocks: int = 0
    scrub_done_chunks: int = 0
    scrub_total_chunks: int = 0
    """0 while no scrub is under way."""
    scrub_passes: int = 0


class TargetReport(msgspec.Struct, frozen=True):
    """What a node says of one of its targets. It counts under `chain_version` only."""

    target: TargetId
    state: LocalState
    chain_version: int
    """Version of the chain that the target had applied when the report was made."""
    used_bytes: int = 0
    free_bytes: int = 0
    chunks: int = 0
    reason: str = ""
    """Why the target is not well; "" when it is."""
    upkeep: UpkeepProgress = UpkeepProgress()
    unreachable: TargetId | None = None
    """Its successor under `chain_version`, when the target hears nothing of it."""
    generation: Generation | None = None
    """What is written down in its directory."""
