"""Is this target complete, and what may the manager be told? The receiving side of a resync, beside the updates themselves.

A target is complete for the manager in two cases only. Its store is whole and the chain counts it among those that serve, or
served last: then it has everything it ever acknowledged. Or its predecessor has said so under this very chain version, to this
very incarnation of its replica. What it remembers of an earlier chain version is no proof of anything.

A new target is complete from the start, as it has nothing to miss. But it acknowledges nothing before the manager has stored that
it is there (`is_born`): who is not known to have been complete cannot be known to have lost anything.
"""

from __future__ import annotations

from fs3.base.ids import ChainId, TargetId
from fs3.base.status import Code
from fs3.core.craq.position import ChainPosition, ChainRole
from fs3.model.chain import Chain, LocalState, PublicState


class Completeness:
    """What one incarnation of a replica knows of itself. The replica asks; nothing here does anything."""

    __slots__ = ("_finished", "incarnation", "is_born", "target_id", "whole")

    def __init__(self, target_id: TargetId, incarnation: int) -> None:
        self.target_id = target_id
        self.incarnation = incarnation
        self.whole = True
        """The store has been complete since the target first got one; see `StoreOpened.whole`."""
        self.is_born = True
        """The manager has stored that the target has been complete; see `StoreOpened.is_born`."""
        self._finished: tuple[ChainId, int] | None = None

    def may_take_role(self, chain: Chain | None) -> bool:
        """Whether the target may take the place the chain gives it. A store that is not whole, or that the manager does not know,
        may only be brought up to date."""
        if chain is None or (self.whole and self.is_born):
            return True
        slot = chain.slot(self.target_id)
        return slot is not None and slot.state is PublicState.SYNCING

    def check_fence(
        self, position: ChainPosition, chain: ChainId, chain_version: int, source: TargetId, incarnation: int
    ) -> Code:
        """Whether a resync request may be answered; see `Replica.check_resync_fence`."""
        if position.role is ChainRole.OUT:
            return Code.NOT_SERVING
        if (chain, chain_version) != (position.chain, position.version):
            return Code.WRONG_CHAIN_VERSION
        if position.role is not ChainRole.SYNCING or source != position.predecessor:
            return Code.NOT_SERVING
        return Code.OLD_INCARNATION if incarnation not in (0, self.incarnation) else Code.OK

    def finish(self, position: ChainPosition) -> None:
        """Everything is here, and the chain says from now on whether this target is complete."""
        self._finished = (position.chain, position.version)
        self.whole = True

    def has_finished(self, position: ChainPosition) -> bool:
        """Everything was said to be here, under this very chain version."""
        return position.role is ChainRole.SYNCING and self._finished == (position.chain, position.version)

    def local_state(self, position: ChainPosition, chain: Chain | None) -> LocalState:
        """What to tell the manager of a target that works."""
        if self.has_finished(position):
            return LocalState.UPTODATE
        slot = chain.slot(self.target_id) if chain is not None else None
        if self.whole and slot is not None and slot.state in (PublicState.SERVING, PublicState.LASTSRV):
            return LocalState.UPTODATE
        return LocalState.ONLINE
