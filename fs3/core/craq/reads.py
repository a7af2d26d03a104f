"""May this target serve this read, and which version does it show?

Every serving target answers, and reads of one chunk are linearizable with its updates:

1. An update is acknowledged after every serving target has it pending or committed: it is forwarded only once it is durable,
   and answered only after the tail has committed it. So once version v is acknowledged (or was shown by anybody), a target
   that serves under the present chain version either shows v or newer, or has v pending.
2. A target with a pending version answers DIRTY: it cannot know whether somebody has seen it already. Without one, its
   committed version is the newest anywhere, by 1. The client asks the tail.
3. The tail commits in the step in which it learns that the version is staged, before it answers anybody. While the store shows
   it a pending version it has not acknowledged it, and nobody downstream can have shown it: it serves the committed one. That
   holds only if *nobody at all* is downstream. With a syncing target behind it, which may become the tail and show the version
   before this target learns of it, the tail answers DIRTY too; asking again is all a client can do then.
4. A restarted tail may have lost a commit that clients have seen. It commits its pending versions in the step of `Opened`, and
   until then `Replica.readable_chain` is None: NOT_SERVING.
5. Chain versions that overlap: the manager takes a serving target out only after its lease has run out, and here the lease is
   counted from when the heartbeat was sent; so nobody serves under a version in which somebody else may have gone on without
   him. A target that comes in shows nothing before it has everything, and the others need to know of it to acknowledge anything
   it has not, since it is asked under the same chain version. Serving targets never change places (see `replica`).
"""

from __future__ import annotations

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.model.chain import Chain, PublicState
from fs3.model.chunk import ChunkMeta


def decide(
    meta: ChunkMeta | None,
    chain: Chain | None,
    target: TargetId,
    request_chain_version: int,
    now_ns: int,
    lease_until_ns: int,
) -> Code:
    """OK: serve the committed version. Or NOT_FOUND, DIRTY, WRONG_CHAIN_VERSION, NOT_SERVING, LEASE.

    `meta` is the store's, `chain` is `Replica.readable_chain`, both as of now; `now_ns` and the lease are monotonic.
    """
    if chain is None:
        return Code.NOT_SERVING
    if request_chain_version != chain.version:
        return Code.WRONG_CHAIN_VERSION
    for slot in chain.slots:
        if slot.target == target:
            if slot.state is not PublicState.SERVING:
                return Code.NOT_SERVING
            break
    else:
        return Code.NOT_SERVING
    if now_ns >= lease_until_ns:
        return Code.LEASE
    if meta is None:
        return Code.NOT_FOUND
    if meta.pending and chain.successor(target) is not None:
        return Code.DIRTY
    return Code.OK if meta.committed else Code.NOT_FOUND
