"""`fs3 admin fsck` and `verify-replicas`: run a check, say what was found, repair it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.base.ids import chunk_file
from fs3.client.fsck.cluster import Fsck, Report
from fs3.core.meta.fsck.problems import chunk_name, describe, name_of
from fs3.model.check import Problem, ProblemKind, RepairResult

_ROUNDS_MAX = 12
"""A repair may bring another problem to light, but not for ever."""
_SHOWN_MAX = 1000
"""Problems printed; --json has them all."""
_CHUNK_KINDS = (
    ProblemKind.ORPHAN_CHUNK,
    ProblemKind.MISPLACED_CHUNK,
    ProblemKind.CHUNK_FROM_NOWHERE,
    ProblemKind.UNREACHABLE_PAGE,
    ProblemKind.PAGE_FROM_NOWHERE,
    ProblemKind.REPLICA_MISSING,
    ProblemKind.REPLICA_DIFFERS,
    ProblemKind.DAMAGED_CHUNK,
)

Findings = list[tuple[Problem, RepairResult | None]]


async def check(client: Client, *, repair: bool, as_json: bool, names: bool, files: bool, replicas: bool) -> bool:
    """True when nothing is wrong. Raises FS3Error when it cannot be checked."""
    bar = _bar()
    tasks: dict[str, Any] = {}
    totals = await _totals(client) if names else {}

    def progress(what: str, rows: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=totals.get(what))
        bar.advance(tasks[what], rows)

    fsck = Fsck(client.meta, client.storage, client.manager, progress)
    found: Findings = []
    with bar:
        report = await fsck.check(names=names, files=files, replicas=replicas)
        rounds = 0
        while repair and report.problems and rounds < _ROUNDS_MAX:
            rounds += 1
            outcomes: list[tuple[Problem, RepairResult]] = [
                (problem, await _repair(fsck, problem)) for problem in report.problems
            ]
            _merge_outcomes(found, outcomes)
            if not any(outcome.done for _, outcome in outcomes):
                break
            for task in tasks.values():
                bar.reset(task, total=None)
            report = await fsck.check(names=names, files=files, replicas=replicas)
    left = {_identity(problem) for problem in report.problems}
    for at, (problem, outcome) in enumerate(found):
        if outcome is not None and not outcome.done and _identity(problem) not in left:
            found[at] = (problem, RepairResult(True, "with another one"))
    _merge_outcomes(found, [(problem, None) for problem in report.problems])
    if as_json:
        sys.stdout.write(json.dumps(_document(found, report), indent=2) + "\n")
    else:
        _print(found, report, repair)
    return not found


async def _totals(client: Client) -> dict[str, int]:
    space = await client.statfs()
    return {"inodes": space.inodes, "garbage": space.garbage}


async def _repair(fsck: Fsck, problem: Problem) -> RepairResult:
    try:
        return await fsck.repair(problem)
    except FS3Error as why:
        return RepairResult(False, why.strerror or str(why))


def _merge_outcomes(found: Findings, outcomes: Sequence[tuple[Problem, RepairResult | None]]) -> None:
    """Each problem once, with what came of it last; a `change` that has moved on does not make it another problem."""
    places = {_identity(problem): at for at, (problem, _) in enumerate(found)}
    for problem, outcome in outcomes:
        at = places.get(_identity(problem))
        if at is None:
            places[_identity(problem)] = len(found)
            found.append((problem, outcome))
        elif outcome is not None:
            found[at] = (problem, outcome)


def _identity(problem: Problem) -> tuple[Any, ...]:
    key = b"" if problem.kind is ProblemKind.MISCOUNTED else problem.key
    return problem.kind, problem.inode, problem.parent, problem.name, key


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _document(found: Findings, report: Report) -> dict[str, Any]:
    return {
        "clean": not found,
        "problems": [_problem(problem, outcome) for problem, outcome in found],
        "more": report.more,
        "counts": report.counts,
        "unsettled": {
            "inodes": report.unsettled_inodes,
            "chunks": [chunk_name(chunk) for chunk in report.unsettled_chunks],
        },
        "not_compared": [{"chain": chain, "target": target} for chain, target in report.skipped_targets],
    }


def _problem(problem: Problem, outcome: RepairResult | None) -> dict[str, Any]:
    document: dict[str, Any] = {"kind": name_of(problem), "text": describe(problem), "inode": problem.inode}
    if problem.kind in _CHUNK_KINDS:
        document |= {"chunk": chunk_name(problem.key), "chain": problem.parent}
        if chunk_file(problem.key) is None:  # type: ignore[arg-type]
            del document["inode"]
    elif problem.name:
        document |= {"directory": problem.parent, "name": problem.name.decode(errors="backslashreplace")}
    if outcome is not None:
        document |= {"repaired": outcome.done, "outcome": outcome.what}
    return document


def _print(found: Findings, report: Report, repair: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = max((len(name_of(problem)) for problem, _ in found), default=0)
    for problem, outcome in found[:_SHOWN_MAX]:
        line = f"{name_of(problem):{width}}  {describe(problem)}"
        if outcome is not None:
            line += f"; repaired: {outcome.what}" if outcome.done else f"; not repaired: {outcome.what}"
        console.print(line, markup=False)
    if len(found) > _SHOWN_MAX:
        console.print(f"and {len(found) - _SHOWN_MAX} more")
    if report.more:
        console.print("there are more problems; they are found once these are repaired")
    for inode in report.unsettled_inodes[:_SHOWN_MAX]:
        console.print(f"inode {inode} changed whenever it was looked at; check again when it is at rest")
    for chunk in report.unsettled_chunks[:_SHOWN_MAX]:
        console.print(f"chunk {chunk_name(chunk)} was written whenever it was looked at; check again when it is at rest")
    for chain, target in report.skipped_targets:
        console.print(f"target {target} of chain {chain} does not serve; its copies were not compared")
    looked_at = ", ".join(f"{rows} {what}" for what, rows in sorted(report.counts.items()))
    console.print(f"looked at {looked_at}")
    done = sum(outcome is not None and outcome.done for _, outcome in found)
    if not found:
        console.print("nothing is wrong")
    elif repair:
        console.print(f"problems: {len(found)}, repaired: {done}")
    else:
        console.print(f"problems: {len(found)}")
