"""May this target serve this read (`gate`), and what does it show of the chunk (`answer`)?

How a read is served, by everything that serves one (storage service, chunk stores, simulations):

1. `gate` with the chain of `Replica.readable_chain`, the chain version of the request and the node's lease. Anything but OK is
   the answer to every chunk asked for under that chain version.
2. `pending_is_dirty` for the same chain; it holds for all chunks.
3. `answer` with what the store has of each chunk *now*: nothing that changes chain or store may happen between 1 and 3.
4. When the bytes have been found, the lease once more: it must still run. When finding them took a step of its own (a cold read),
   1 once more.

Every serving target answers, and reads of one chunk are linearizable with its updates:

1. An update is acknowledged after every serving target has it pending or committed: a target forwards it only once it is durable
   there, and answers it only after the tail has committed it. So once version v is acknowledged (or a target has shown it to a
   client), each target that `gate` lets through under the present chain version either shows v or newer, or has v pending.
2. With a pending version `answer` is DIRTY: the target cannot know whether a client has seen that version already. Without one,
   its committed version is the newest anywhere, by 1. The client asks the tail.
3. The tail commits in the step in which it learns that the version is staged, before it answers its predecessor or a client.
   While the tail's store shows it a pending version it has not acknowledged it, and no target downstream can have shown it: it
   serves the committed one. That holds only if there is *no target at all* downstream. With a syncing target behind it, which may
   become the tail and show the version before this target learns of it, `pending_is_dirty` is true of the tail too; asking again
   is all a client can do then.
4. A restarted tail may have lost a commit that clients have seen. It commits its pending versions in the step of `StoreOpened`,
   and until then `Replica.readable_chain` is None: `gate` is NOT_SERVING.
5. Chain versions that overlap: the manager takes a serving target out only after its lease has run out, and `gate` counts the
   lease from when the heartbeat was sent; so no target serves under a version in which the others may have gone on without it.
   A target that comes in shows nothing before it has everything, and the others need to know of it to acknowledge anything it has
   not, since it is asked under the same chain version. Serving targets never change places (see `replica`).
"""

from __future__ import annotations

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.model.chain import Chain, PublicState
from fs3.model.chunk import ChunkMeta

_OK, _NOT_FOUND, _DIRTY, _CHECKSUM = Code.OK, Code.NOT_FOUND, Code.DIRTY, Code.CHECKSUM
"""`answer` is asked for every chunk, and an Enum's members are slow to look up."""


def gate(chain: Chain | None, target: TargetId, request_chain_version: int, now_ns: int, lease_until_ns: int) -> Code:
    """Whether this target may answer reads at all: OK, or NOT_SERVING, WRONG_CHAIN_VERSION, LEASE.

    `chain` is `Replica.readable_chain` as of now; `now_ns` and the lease are of the node's monotonic clock.
    """
    if chain is None:
        return Code.NOT_SERVING
    # Before the slot is looked at: the client may be right about a chain that this target has not heard of yet.
    if request_chain_version != chain.version:
        return Code.WRONG_CHAIN_VERSION
    for slot in chain.slots:
        if slot.target == target:
            if slot.state is not PublicState.SERVING:
                return Code.NOT_SERVING
            break
    else:
        return Code.NOT_SERVING
    return Code.OK if now_ns < lease_until_ns else Code.LEASE


def pending_is_dirty(chain: Chain | None, target: TargetId) -> bool:
    """Whether a target behind this one may have shown what this one has pending. Means something only when `gate` says OK."""
    return chain is not None and chain.successor(target) is not None


def answer(meta: ChunkMeta | None, pending_is_dirty: bool, *, is_bad: bool = False) -> Code:
    """OK: show the committed version. Or NOT_FOUND, DIRTY, CHECKSUM.

    `meta` is the store's as of now, `is_bad` whether the store has marked the chunk: its committed bytes are known to be wrong.
    """
    # Before DIRTY: it claims nothing about versions, so it cannot be wrong, and it sends the client to any other copy. DIRTY
    # would send it to the tail, which may be this very target, to wait for the end of a write that need not mend anything.
    if is_bad:
        return _CHECKSUM
    if meta is None:
        return _NOT_FOUND
    if meta.pending and pending_is_dirty:
        return _DIRTY
    return _OK if meta.committed else _NOT_FOUND
