"""Never two targets that would admit an update as the head: a target that was replaced must know, or have lost its lease."""

from __future__ import annotations

from collections.abc import Iterable

from fs3.sim.checkers.stores import CheckedHost


def explain(hosts: Iterable[CheckedHost]) -> str:
    """ "" when at most one target takes itself for the head and holds a lease, else which do."""
    heads = [host for host in hosts if host.may_be_head()]
    if len(heads) < 2:
        return ""
    return "may all serve as the head: " + "; ".join(
        f"target {host.target} under chain version {host.replica.position.version}" for host in heads
    )
