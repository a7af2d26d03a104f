"""From one state of the page to the next: only what is not the same is sent.

A state is a dict of sections. Most are sent whole when anything in them has changed. Those that are large are sent in part: nodes
one by one, and of those that do what they did before only how much; the letters of chains in runs; events and samples from behind
the newest one that the page has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NODES, CHAINS, EVENTS, HISTORY = "nodes", "chains", "events", "history"
State = Mapping[str, Any]


def changes_between(before: State, after: State) -> dict[str, Any]:
    """What leads the page from one state to another; empty when they are the same.

    {"set": {section: whole}, "nodes": [changed ones], "rates": {name: numbers}, "gone": [names], "events": [...],
    "chain_states": [[place, letters]], "samples": {"fine": [...], "coarse": [...]}}
    """
    changes: dict[str, Any] = {}
    whole = {}
    for section, value in after.items():
        known = before.get(section)
        if known is value or known == value:
            continue
        if section == NODES and known is not None:
            _add_nodes(changes, known, value)
        elif section == CHAINS and known is not None and known["ids"] == value["ids"]:
            changes["chain_states"] = letters_changed(known["states"], value["states"])
            whole[section] = {name: each for name, each in value.items() if name not in ("ids", "states")}
        elif section == EVENTS and known:
            changes["events"] = [event for event in value if event["seq"] > known[-1]["seq"]]
        elif section == HISTORY and known is not None:
            changes["samples"] = {ring: _newer(known[ring], value[ring]) for ring in ("fine", "coarse")}
        else:
            whole[section] = value
    if whole:
        changes["set"] = whole
    return changes


def _add_nodes(changes: dict[str, Any], known: list[dict[str, Any]], value: list[dict[str, Any]]) -> None:
    former = {node["name"]: node for node in known}
    changed, rates = [], {}
    for node in value:
        before = former.get(node["name"])
        if before == node:
            continue
        if before is not None and {**before, "rates": node["rates"]} == node:
            rates[node["name"]] = node["rates"]
        else:
            changed.append(node)
    if changed:
        changes["nodes"] = changed
    if rates:
        changes["rates"] = rates
    gone = former.keys() - {node["name"] for node in value}
    if gone:
        changes["gone"] = sorted(gone)


def letters_changed(before: str, after: str) -> list[list[Any]]:
    """Runs of letters that are others now: the place of the first, and all of them. Both strings are of one length."""
    runs: list[list[Any]] = []
    for place, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            if runs and runs[-1][0] + len(runs[-1][1]) == place:
                runs[-1][1] += new
            else:
                runs.append([place, new])
    return runs


def _newer(known: list[list[Any]], value: list[list[Any]]) -> list[list[Any]]:
    """Rows behind the newest known one. Rows are only added, at the end."""
    if not known:
        return value
    newest = known[-1]
    for place in range(len(value) - 1, -1, -1):
        if value[place] == newest:
            return value[place + 1 :]
    return value
