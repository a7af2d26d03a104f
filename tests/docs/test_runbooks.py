"""Every line that `fs3 status` can print has a page that quotes it, and every page has such a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fs3.cli.health import ClusterHealth, problems_of
from fs3.cli.runbooks import Runbook
from fs3.cli.status import problem_document
from fs3.cli.status_view import render
from fs3.cli.supervision import RestartRecord, describe_restarts
from fs3.client.mgmtd.selector import MANAGERS_UNUSABLE

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "runbooks"
SECTIONS = (
    "What `fs3 status` says", "What it means", "What clients notice", "What happens by itself", "What to do",
    "How to know that it is over",
)  # fmt: skip


def quoted(runbook: Runbook) -> list[str]:
    """The lines of a page's first section; words in capitals stand for anything."""
    return re.findall(r"^    (.+)$", section(runbook, SECTIONS[0]), re.MULTILINE)


def section(runbook: Runbook, name: str) -> str:
    text = (ROOT / runbook.page).read_text()
    return text.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]


def matches(pattern: str, line: str) -> bool:
    parts = re.split(r"\b[A-Z]{3,}\b", pattern)
    return re.fullmatch(".+".join(map(re.escape, parts)), line) is not None


def node(name: str, **more: Any) -> dict[str, Any]:
    made = {"name": name, "role": "storage", "alive": True, "problem": "", "disks": [], "level": 1, "software": "0.1.0"}
    return {**made, "silent_ms": 300, "config_problem": "", **more}


def target(number: int, **more: Any) -> dict[str, Any]:
    made = {"target": number, "node": f"storage-{number}", "local_state": "uptodate", "public_state": "serving"}
    return {**made, "bad_blocks": 0, "reason": "", **more}


def document(targets: list[dict[str, Any]], nodes: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    slots = [{"target": each["target"], "node": each["node"], "state": each["public_state"]} for each in targets]
    made = {
        "managers": [],
        "nodes": nodes if nodes is not None else [node("meta", role="meta"), *(node(each["node"]) for each in targets)],
        "targets": targets,
        "chains": [{"chain": 7, "targets": slots}],
        "tables": [{}],
    }
    return {**made, **more}


def statuses() -> Iterator[dict[str, Any]]:
    """What is wrong with clusters, each kind at least once."""
    well = target(1)
    manager = {"name": "mgmtd-2", "answers": False, "disks": [], "level": 0, "software": ""}
    yield document([well], managers=[manager])
    yield document([], chains=[], tables=[])
    for silent in (-1, 12_000):
        yield document([well], [node("meta", role="meta", alive=False, silent_ms=silent), node("storage-1")])
    yield document([well], [node("meta", role="meta", problem="its store has damaged rows"), node("storage-1")])
    yield document([well], [node("meta", role="meta", problem="the engine of its store: no leader"), node("storage-1")])
    yield document([well], [node("meta", role="meta", config_problem="storage.x: too large"), node("storage-1")])
    yield document([well], [node("meta", role="meta", level=2), node("storage-1")])
    full = [{"path": "/data", "total_bytes": 10**12, "free_bytes": 10**9}]
    yield document([well], [node("meta", role="meta"), node("storage-1", disks=full)])
    yield document([target(1, bad_blocks=2)])
    yield document([target(1, reason="the disk reports errors")])
    yield document([target(1, local_state="unknown")])
    for state in ("offline", "syncing", "waiting"):
        yield document([well, target(2, public_state=state, local_state="online")])
    yield document([target(1, public_state="lastsrv", local_state="online")])
    yield document([target(1, public_state="lastsrv", local_state="offline"), target(2, public_state="offline")])


def said() -> list[tuple[Runbook, str]]:
    """Every kind of line, with the page it names."""
    lines = [(problem.runbook, problem.text) for each in statuses() for problem in problems_of(each)]
    for restarts in (0, 3):
        record = RestartRecord(restarts, 1e9, "the port is taken", given_up=True)
        lines.append((Runbook.PROCESS_GIVEN_UP, f"process meta {describe_restarts(record)}"))
    return [*lines, (Runbook.UNREACHABLE, f"{MANAGERS_UNUSABLE} (tcp://h:1: nothing listens there)")]


def test_every_kind_of_problem_is_provoked() -> None:
    assert {runbook for runbook, _ in said()} == set(Runbook)


@pytest.mark.parametrize(("runbook", "line"), said(), ids=lambda value: value if isinstance(value, Runbook) else "")
def test_its_page_quotes_it(runbook: Runbook, line: str) -> None:
    assert any(matches(pattern, line) for pattern in quoted(runbook)), f"{runbook.page} does not quote {line!r}"


@pytest.mark.parametrize("runbook", Runbook)
def test_every_line_of_a_page_is_said(runbook: Runbook) -> None:
    lines = [line for named, line in said() if named is runbook]
    for pattern in quoted(runbook):
        assert any(matches(pattern, line) for line in lines), f"{runbook.page}: nothing says {pattern!r}"


@pytest.mark.parametrize("runbook", Runbook)
def test_a_page_is_whole(runbook: Runbook) -> None:
    assert re.findall(r"^## (.+)$", (ROOT / runbook.page).read_text(), re.MULTILINE) == list(SECTIONS)
    assert all(section(runbook, name).strip() for name in SECTIONS)


def test_no_page_is_left_over_and_all_are_listed() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {"README", *Runbook}
    listed = re.findall(r"^\| \[(.+)\]\((.+)\.md\) \|", (PAGES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted((runbook, runbook) for runbook in Runbook)


def test_links_lead_somewhere() -> None:
    for path in PAGES.glob("*.md"):
        for link, _, anchor in (found.partition("#") for found in re.findall(r"\]\(([^)]+)\)", path.read_text())):
            page = (path.parent / link).resolve()
            assert page.is_file(), f"{path.name}: {link}"
            anchors = [re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in page.read_text().splitlines()]
            assert not anchor or anchor in anchors, f"{path.name}: {link}#{anchor}"


def test_the_status_names_the_page() -> None:
    from io import StringIO

    from rich.console import Console

    shown = {
        "health": "degraded", "problems": [problem_document(ClusterHealth.DEGRADED, "x is dead", Runbook.NODE_DEAD)],
        "cluster_id": "", "chains": [], "managers": [], "nodes": [], "targets": [], "resyncs": [], "store": "", "namespaces": 0,
    }  # fmt: skip
    out = StringIO()
    Console(file=out, width=120).print(render(shown))
    assert "x is dead [docs/runbooks/node-dead.md]" in out.getvalue()
