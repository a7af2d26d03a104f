"""What process tests, benches and the demo ask of a local cluster while they break it: who is what in a chain, and is it well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fs3.base.errors import FS3Error
from fs3.cli.local import LocalCluster

StatusDocument = dict[str, Any]
"""As `fs3 status --json` prints it."""

ROLES = ("head", "middle", "tail")


def status_of(cluster: LocalCluster) -> StatusDocument:
    """The manager's view."""
    return cluster.status()


def serving_processes(status: StatusDocument, chain: int) -> list[str]:
    """Names of the processes that serve a chain, head first, tail last."""
    (found,) = (each for each in status["chains"] if each["chain"] == chain)
    return [slot["node"] for slot in found["targets"] if slot["state"] == "serving"]


def process_in_role(status: StatusDocument, role: str, chain: int | None = None) -> str:
    """The process that is head, middle or tail of a chain (the first one when none is named)."""
    names = serving_processes(status, chain if chain is not None else min(each["chain"] for each in status["chains"]))
    return {"head": names[0], "middle": names[len(names) // 2], "tail": names[-1]}[role]


def is_healthy(status: StatusDocument) -> bool:
    """Every slot of every chain serves."""
    chains = status["chains"]
    return bool(chains) and all(slot["state"] == "serving" for chain in chains for slot in chain["targets"])


def is_excluded(name: str) -> Callable[[StatusDocument], bool]:
    """A process serves no chain any more, and every chain is served."""

    def check(status: StatusDocument) -> bool:
        served = [serving_processes(status, chain["chain"]) for chain in status["chains"]]
        return all(names and name not in names for names in served)

    return check


def is_dead(name: str) -> Callable[[StatusDocument], bool]:
    """The manager has given up on a process: its lease has run out, so another start of it may take its place."""
    return lambda status: not any(node["name"] == name and node["alive"] for node in status["nodes"])


def wait_status(
    cluster: LocalCluster, condition: Callable[[StatusDocument], bool], seconds: float, what: str, every: float = 0.05
) -> StatusDocument:
    """The first status that satisfies a condition, looking `every` so many seconds. TimeoutError naming what was waited for and
    how the chains are."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        try:
            found = status_of(cluster)
        except FS3Error as failure:
            last = failure
        else:
            if condition(found):
                return found
            last = found
        time.sleep(every)
    if isinstance(last, dict):
        last = "; ".join(
            f"chain {chain['chain']} v{chain['version']}: "
            + ", ".join(f"{slot['node']} {slot['state']}" for slot in chain["targets"])
            for chain in last["chains"]
        ) + "".join(f"; target {target['target']}: {target['reason']}" for target in last["targets"] if target["reason"])
    raise TimeoutError(f"{what}: not after {seconds:.0f} s; {last}")


def wait_healthy(cluster: LocalCluster, seconds: float = 60.0) -> StatusDocument:
    """Until every slot of every chain serves."""
    return wait_status(cluster, is_healthy, seconds, "every target to serve")
