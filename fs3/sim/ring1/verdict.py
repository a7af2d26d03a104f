"""What came of a run of ring 1: the checks at its end."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.model.chain import Chain
from fs3.model.chunk import Tag, Update
from fs3.sim.checkers import convergence, durability, once, register
from fs3.sim.checkers.history import Operation
from fs3.sim.ring1.messages import MANAGER
from fs3.sim.ring1.target_host import TargetHost


def describe_frames(failed: BaseException) -> str:
    """The innermost places of an exception, without anything that differs from run to run."""
    frames = traceback.extract_tb(failed.__traceback__)[-3:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))


def check_stores(chain: Chain, hosts: Mapping[TargetId, TargetHost], acknowledged: Sequence[Update]) -> list[str]:
    """What is wrong with the stores when all is quiet."""
    stores = {host.target: host.chunks for host in hosts.values()}
    found = (
        ("convergence", convergence.explain(chain, stores)),
        ("once", once.explain((target, chunks) for target, chunks in stores.items())),
        ("durability", durability.explain_end([update.tag for update in acknowledged], chain, stores)),
    )
    return [f"{name}: {wrong}" for name, wrong in found if wrong]


def final_read(host: TargetHost, like: Operation, begun: int, ended: int) -> Operation:
    """One more read of a chunk, of what is at one target in the end."""
    content = host.chunks.get_content(like.chunk)
    code = Code.NOT_FOUND if content is None else Code.OK
    return Operation(MANAGER, like.chunk, None, 0, content or b"", like.tag, begun, ended, code, 1)


def explain_history(history: Sequence[Operation], order: Mapping[Tag, int]) -> str:
    """ "" when the history of one chunk can be true."""
    wrong = register.explain(history, order)
    return f"linearizability: {wrong}" if wrong else ""
