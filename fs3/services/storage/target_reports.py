"""What the manager is told of each target of a node, open or not."""

from __future__ import annotations

from dataclasses import dataclass

from fs3.base.ids import TargetId
from fs3.base.limits import target_reason_bytes_max
from fs3.model.chain import Chain, LocalState
from fs3.model.generation import Generation
from fs3.model.target_report import TargetReport
from fs3.services.storage.target import TargetShell


@dataclass(frozen=True)
class OpenFailure:
    """Why a target cannot be opened."""

    reason: str
    is_store_damaged: bool = False
    """Its store may be replaced by an empty one, as soon as others serve."""
    is_store_busy: bool = False
    """It may open in a moment: another process has it (a former one of this node that ends just now), or the disk is full."""
    is_ahead: bool = False
    """The manager's store is an old copy. A person may let the target serve."""


def report_open(shell: TargetShell, generation: Generation | None) -> TargetReport | None:
    """An open target, with the space its store has; None: there is nothing to say of it yet. `generation`: of its directory."""
    state = shell.local_state()
    if state is None:
        return None
    # The chain its machine knows: what it says of itself is true under that version only.
    chain, space = shell.replica.chain, shell.store.get_space()
    version = chain.version if chain is not None else 0
    return TargetReport(
        shell.target, state, version, space.used, space.free, space.chunks, _cut(shell.reason), generation=generation
    )


def report_closed(target: TargetId, chain: Chain | None, reason: str) -> TargetReport:
    """A target that is not open, or is open and does not work. `chain`: as routing has it."""
    return TargetReport(target, LocalState.OFFLINE, chain.version if chain is not None else 0, reason=_cut(reason))


def _cut(reason: str) -> str:
    encoded = reason.encode()
    if len(encoded) <= target_reason_bytes_max:
        return reason
    return encoded[: target_reason_bytes_max - 3].decode(errors="ignore") + "…"
