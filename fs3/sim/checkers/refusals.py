"""Who may goes on undisturbed, and who may not any more is refused: the operations of users, of whom some are revoked."""

from __future__ import annotations

from typing import NamedTuple

from fs3.base.limits import capability_lifetime_ms, cluster_time_late_ms, ticket_lifetime_ms
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND

REVOKED_NS = 2 * SECOND
"""After a revocation nothing succeeds any more that was begun later than this."""
REMOVED_NS = (max(ticket_lifetime_ms, capability_lifetime_ms) + cluster_time_late_ms) * MILLISECOND
"""After the removal of a user whose tickets and capabilities were left to end."""

_REFUSALS = frozenset((Code.PERMISSION, Code.ACCESS, Code.NOT_AUTHENTICATED, Code.TICKET_LAPSED, Code.NO_CAPABILITY))


class UserOperation(NamedTuple):
    """One operation of a user."""

    user: str
    what: str
    began: int
    ended: int
    code: Code


class RefusalHistory:
    """What users did."""

    def __init__(self) -> None:
        self.operations: list[UserOperation] = []
        self.ended: dict[str, int] = {}
        """User -> what begins from then on must not succeed. Others may always."""
        self.problems: list[str] = []
        """Wrong bytes."""


def explain(history: RefusalHistory) -> str:
    """What is wrong with a history; "" when nothing is."""
    if history.problems:
        return history.problems[0]
    succeeded: dict[str, int] = {}
    refused: set[str] = set()
    for operation in history.operations:
        user, end = operation.user, history.ended.get(operation.user)
        if operation.code is Code.OK:
            succeeded[user] = succeeded.get(user, 0) + 1
            if end is not None and operation.began >= end:
                late = (operation.began - end) / SECOND
                return f"{user}, who may not any more, {operation.what} {late:.1f} s after the last moment"
        elif operation.code in _REFUSALS:
            refused.add(user)
            if end is None:
                when = f"when it {operation.what} at {operation.began / SECOND:.1f} s"
                return f"{user}, who may, is refused {when}: {operation.code.name}"
    users = {operation.user for operation in history.operations}
    if idle := sorted(user for user in users if succeeded.get(user, 0) < 20):
        return f"hardly anything of {', '.join(idle)} succeeds"
    if tolerated := sorted(set(history.ended) - refused):
        return f"{', '.join(tolerated)} are never refused"
    return ""
