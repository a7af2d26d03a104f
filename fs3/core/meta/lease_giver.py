"""Which metadata service has given leases on attributes: a row, so that any other one, and its own successor, hears of them.

A client that has a lease answers from memory, so who changes something has to wait for it. The service that gives leases knows
whom it has given one; another service knows only that there may be some. It takes the row away in the first transaction it makes,
and tells the outcome of none until the longest lease is over that was given before. From then on the giver gives no more, since
it looks at the row before each.
"""

from __future__ import annotations

from fs3.core.meta import keys
from fs3.core.txn import ReadTxn, Txn

GIVER_BYTES = 16
"""The row is the name of the service's process: random bytes."""


async def is_giver(txn: ReadTxn, name: bytes) -> bool:
    """This process may give leases."""
    return await txn.get(keys.LEASES) == name


async def become_giver(txn: Txn, name: bytes) -> None:
    """It may from now on."""
    txn.put(keys.LEASES, name)


async def end_giving(txn: Txn, name: bytes) -> None:
    """There are no leases of this process any more."""
    if await is_giver(txn, name):
        txn.delete(keys.LEASES)


async def revoke_others(txn: Txn, name: bytes) -> bool:
    """Ends the leases of other processes. True: there may be some."""
    giver = await txn.get(keys.LEASES)
    if giver is None or giver == name:
        return False
    txn.delete(keys.LEASES)
    return True
