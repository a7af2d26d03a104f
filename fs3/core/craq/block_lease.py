"""Reads without verification: when are the bytes those of the version that was read?

The question. A large read leaves the page cache by `sendfile`, without a copy. What waits in a socket refers to pages of the
block that was read, and over loopback it still does when TCP has acknowledged it: the receiver's queue has the same pages. A
reader that is stopped meanwhile, or slow, copies them out much later. If the block was written again before, it gets bytes of
another chunk. One that verifies notices: the sums it was sent are of the version that was picked. One that does not has nothing
to compare with.

Who can know. Not the server: neither that a socket took the bytes nor that they were acknowledged says that they were copied out,
and what lies in the queue of a stopped reader cannot be called back, not even by closing the connection. Nothing sent behind the
bytes (a generation of the block) helps, since it is sent before they are copied. So the reader must find out, after it has them:
by asking once more, which costs each read a round trip; or by a lease, which costs nothing.

The rule. A store does not write to a block again before `block_reuse_delay_ns` have passed since a reader has released it, also
when its process dies meanwhile. The reply says how long after the request's *arrival* that is at the earliest
(`grant_block_lease_ms`). The reader counts from when it *sent* the request until it has the last byte (`is_within_block_lease`):

    sent <= arrived <= picked <= released,    written again >= released + delay >= arrived + lease >= sent + lease

so what it has copied within the lease was not written to before. What came later proves nothing either way: it is read again,
with sums. That is how a lease fences: each side reads its own steady clock, which counts suspension too, and the one that relies
on it takes off what two clocks may drift apart. A pause of either side, at any point, makes bytes late, never wrong.
"""

from __future__ import annotations

from fs3.base.limits import clock_drift_ns, lease_ns
from fs3.base.units import MILLISECOND

_BLOCK_LEASE_MS_MAX = 0xFFFF_FFFF
"""What the wire has room for."""


def grant_block_lease_ms(arrived: int, now: int, reuse_delay_ns: int) -> int:
    """For how many milliseconds after a request arrived the blocks of its reply keep their bytes, at least. `now`: when the reply
    is made, while its blocks are pinned; all of it on the server's clock, in nanoseconds."""
    return min((now - arrived + reuse_delay_ns) // MILLISECOND, _BLOCK_LEASE_MS_MAX)


def is_within_block_lease(sent: int, received: int, block_lease_ms: int) -> bool:
    """The bytes of a reply were received while its block lease ran. `sent`: read before the request was sent; `received`: read
    after the last byte was; both on the reader's clock, in nanoseconds."""
    return (received - sent) * lease_ns < block_lease_ms * MILLISECOND * (lease_ns - clock_drift_ns)
