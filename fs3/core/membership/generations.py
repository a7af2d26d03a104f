"""Is the directory of a target the one it had last, or an old copy of it?

Intuition: a directory that was copied while its node was down, and put back after the node had run again, looks like what it is a
copy of. The chain that goes on serving with it shows old bytes and zeros. So every start leaves a mark in two places, in the
directory and with the manager, and a target that comes back without the manager's mark has lost what happened since.

Algorithm: a start draws a generation and writes it behind the one the directory has; then it registers with all of them. If the
manager remembers one of them, the directory is the newest there is: the manager remembers the last one from now on, durably,
before it answers; then the directory forgets the others, and the target takes part in its chain. A start that ends anywhere in
between is taken up by the next one, whichever of the marks the manager had stored. A copy made before lacks the newest mark.

Limits: only starts are told apart. A copy taken while the target runs, and put back before it was started again, has its mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from fs3.base.limits import generations_kept_max
from fs3.model.generation import Generation


class Lineage(Enum):
    """How a directory and what the manager remembers of it belong together."""

    CURRENT = "current"
    """It is the newest there is, or the manager remembers none."""
    BEHIND = "behind"
    """The target has been started from another directory since."""
    AHEAD = "ahead"
    """The target has been started since the manager's store was copied: that one is old."""


def compare(written: Sequence[Generation], remembered: Generation | None) -> Lineage:
    """`written`: the generations of a directory, oldest first; empty when they are not known."""
    if remembered is None or remembered in written:
        return Lineage.CURRENT
    if written and written[0].number > remembered.number:
        return Lineage.AHEAD
    return Lineage.BEHIND


def begin(written: Sequence[Generation], token: bytes) -> tuple[Generation, ...]:
    """What to write down when a target starts; `token` was drawn for this start."""
    if len(written) >= generations_kept_max:
        return tuple(written)
    number = max((generation.number for generation in written), default=0) + 1
    return (*written, Generation(number, token))


def begin_beside(remembered: Generation | None, token: bytes) -> Generation:
    """What to write down for a store that does not go on from what the manager remembers: an empty one, or an old copy.

    Its number is not higher, so that it is never taken for one that is ahead.
    """
    return Generation(remembered.number if remembered is not None else 1, token)
