"""What the planted bugs of capabilities exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from collections.abc import Iterable

from fs3.base.ids import InodeId
from fs3.core.meta import rows
from fs3.core.meta.context import OpContext
from fs3.core.meta.ops import open as open_op
from fs3.core.security.capability import READ, WRITE, Capability, open_capability
from fs3.core.security.seal import KeyRing, SealError
from fs3.core.txn import Txn
from fs3.model.principal import AuthContext, Principal, PrincipalKind
from fs3.services.storage import capability_guard, service
from fs3.services.storage.capability_guard import CapabilityGuard
from fs3.sim.ring2.service_bug import ServiceBug
from fs3.wire.methods import STORAGE
from fs3.wire.storage_needs import NEEDS, NO_NEED

_FIRST_ID = 2
_take = CapabilityGuard._take


async def draw_free_ids(txn: Txn, ctx: OpContext, *, inodes: int, others: int = 0) -> int:
    """The lowest id that no inode has, whichever had it before."""
    number = _FIRST_ID
    while await rows.find_inode(txn, InodeId(number)) is not None:
        number += 1
    return number


def take_from_anyone(self: CapabilityGuard, auth: AuthContext, messages: Iterable[bytes], now_ms: int) -> None:
    """A capability counts for every user that shows it."""
    for message in messages:
        try:
            holder = open_capability(self._security.ring, message).holder
        except SealError:
            continue
        owner = AuthContext(auth.rights, Principal(PrincipalKind.USER, holder, auth.rights))
        owner.capabilities = auth.capabilities
        _take(self, owner, (message,), now_ms)


def open_for_ever(ring: KeyRing, message: bytes) -> Capability:
    """When a capability ends is left to the client, which gets another one in time."""
    return open_capability(ring, message)._replace(expires_ms=1 << 60)


def look_at_nothing(self: CapabilityGuard, auth: AuthContext) -> None:
    """What was verified once stays so."""
    auth.capabilities_era = self._era


CAPABILITY_BUGS: dict[str, ServiceBug] = {
    "find_needs_nothing": ServiceBug(
        "a verb of the storage service is served without a capability",
        [(service, "NEEDS", {**NEEDS, STORAGE.Find: NO_NEED})],
        scene="capabilities_open_nothing_else",
    ),
    "rights_by_or": ServiceBug(
        "a capability with any right allows everything",
        [(capability_guard, "_UNTIL", {READ: 0, WRITE: 0})],
        scene="capabilities_open_nothing_else",
    ),
    "counts_for_anyone": ServiceBug(
        "a capability counts on the connections of every user",
        [(CapabilityGuard, "_take", take_from_anyone)],
        scene="capabilities_open_nothing_else",
    ),
    "draws_ids_again": ServiceBug(
        "ids of removed files are given to new ones, whose chunks are opened by capabilities of the old",
        [(open_op, "allocate_ids", draw_free_ids)],
        scene="a_removed_file_leaves_nothing_open",
    ),
    "ends_by_the_client": ServiceBug(
        "a capability counts until its client, by its own clock, shows another one",
        [(capability_guard, "open_capability", open_for_ever)],
        scene="a_capability_ends",
    ),
    "outlives_its_key": ServiceBug(
        "what a connection has shown stays verified when the key goes out of use",
        [(CapabilityGuard, "_look_again", look_at_nothing)],
        scene="a_key_goes_out_of_use",
    ),
}
