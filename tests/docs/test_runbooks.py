"""Every line that `fs3 status` can print has a page that quotes it, and every page has such a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fs3.cli.status_view import render
from fs3.cli.supervision import RestartRecord, describe_restarts
from fs3.client.mgmtd.selector import MANAGERS_UNUSABLE
from fs3.core.health.problems import HealthProblem, problems_of
from fs3.model.health import HEALTH_TABLE, HealthKind

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "runbooks"
SECTIONS = (
    "What `fs3 status` says", "What it means", "What clients notice", "What happens by itself", "What to do",
    "How to know that it is over",
)  # fmt: skip


def quoted(kind: HealthKind) -> list[str]:
    """The lines of a page's first section; words in capitals stand for anything."""
    return re.findall(r"^    (.+)$", section(kind, SECTIONS[0]), re.MULTILINE)


def section(kind: HealthKind, name: str) -> str:
    text = (ROOT / kind.page).read_text()
    return text.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]


def matches(pattern: str, line: str) -> bool:
    parts = re.split(r"\b[A-Z]{3,}\b", pattern)
    return re.fullmatch(".+".join(map(re.escape, parts)), line) is not None


def node(name: str, **more: Any) -> dict[str, Any]:
    made = {
        "name": name,
        "role": "storage",
        "alive": True,
        "problem": "",
        "disks": [],
        "level": 1,
        "software": "0.1.0",
        "endpoints": [],
        "config_problem": "",
    }
    return {**made, "silent_ms": 300, **more}


def target(number: int, **more: Any) -> dict[str, Any]:
    made = {"target": number, "node": f"storage-{number}", "local_state": "uptodate", "public_state": "serving", "chain": 7}
    resync = {"resync_target_id": 0, "resync_done_chunks": 0, "resync_total_chunks": 0, "resync_bytes": 0}
    return {**made, "bad_blocks": 0, "reason": "", "used_bytes": 0, **resync, "resync_bytes_per_second": 0, **more}


def document(targets: list[dict[str, Any]], nodes: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    slots = [{"target": each["target"], "node": each["node"], "state": each["public_state"]} for each in targets]
    made = {
        "managers": [],
        "secured": False,
        "nodes": nodes if nodes is not None else [node("meta", role="meta"), *(node(each["node"]) for each in targets)],
        "targets": targets,
        "chains": [{"chain": 7, "targets": slots}],
        "tables": [{"table": 1, "replicas": 3}],
    }
    return {**made, **more}


def statuses() -> Iterator[dict[str, Any]]:
    """What is wrong with clusters, each kind at least once."""
    well = target(1)
    manager = {"name": "mgmtd-2", "answers": False, "disks": [], "level": 0, "software": "", "endpoints": []}
    yield document([well], managers=[manager])
    yield document([], chains=[], tables=[])
    for silent in (-1, 12_000, 7_200_000):
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
    sending = {"resync_target_id": 2, "resync_total_chunks": 10, "resync_bytes_per_second": 10, "used_bytes": 1000}
    yield document([target(1, **sending), target(2, public_state="syncing", local_state="online")])
    yield document([well], [node("meta", role="meta", endpoints=["local:///x", "tcp://10.0.0.7:1"]), node("storage-1")])
    for skew in (90_000, -90_000):
        yield document([well], [node("meta", role="meta", clock_skew_ms=skew), node("storage-1")])
    for left in (12 * 86_400_000, -1):
        yield document([well], [node("meta", role="meta", certificate_left_ms=left), node("storage-1")])
    yield document([well], tables=[{"table": 1, "replicas": 1}])
    yield document([target(1, public_state="lastsrv", local_state="online")])
    yield document([target(1, public_state="lastsrv", local_state="offline"), target(2, public_state="offline")])


def said() -> list[tuple[HealthKind, str]]:
    """Every kind of line, with the page it names."""
    lines = [(problem.kind, problem.text) for each in statuses() for problem in problems_of(each)]
    for restarts in (0, 3):
        record = RestartRecord(restarts, 1e9, "the port is taken", given_up=True)
        lines.append((HealthKind.PROCESS_GIVEN_UP, f"process meta {describe_restarts(record)}"))
    return [*lines, (HealthKind.UNREACHABLE, f"{MANAGERS_UNUSABLE} (tcp://h:1: nothing listens there)")]


def test_every_kind_of_problem_is_provoked() -> None:
    assert {kind for kind, _ in said()} == set(HealthKind)


@pytest.mark.parametrize(("kind", "line"), said(), ids=lambda value: value if isinstance(value, HealthKind) else "")
def test_its_page_quotes_it(kind: HealthKind, line: str) -> None:
    assert any(matches(pattern, line) for pattern in quoted(kind)), f"{kind.page} does not quote {line!r}"


@pytest.mark.parametrize("kind", HealthKind)
def test_every_line_of_a_page_is_said(kind: HealthKind) -> None:
    lines = [line for named, line in said() if named is kind]
    for pattern in quoted(kind):
        assert any(matches(pattern, line) for line in lines), f"{kind.page}: nothing says {pattern!r}"


@pytest.mark.parametrize("kind", HealthKind)
def test_a_page_is_whole(kind: HealthKind) -> None:
    assert re.findall(r"^## (.+)$", (ROOT / kind.page).read_text(), re.MULTILINE) == list(SECTIONS)
    assert all(section(kind, name).strip() for name in SECTIONS)


def test_every_kind_has_a_row_whose_words_the_pages_begin_with() -> None:
    assert list(HEALTH_TABLE) == list(HealthKind)
    rows = dict(re.findall(r"^\| \[(.+)\]\(.+\.md\) \| (.+) \|$", (PAGES / "README.md").read_text(), re.MULTILINE))
    assert rows == {kind.value: row.what for kind, row in HEALTH_TABLE.items()}


def test_no_page_is_left_over_and_all_are_listed() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {"README", *HealthKind}
    listed = re.findall(r"^\| \[(.+)\]\((.+)\.md\) \|", (PAGES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted((kind, kind) for kind in HealthKind)


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
        "health": "degraded", "problems": [HealthProblem(HealthKind.NODE_DEAD, "x is dead").to_document()],
        "cluster_id": "", "chains": [], "managers": [], "nodes": [], "targets": [], "resyncs": [], "store": "", "namespaces": 0,
    }  # fmt: skip
    out = StringIO()
    Console(file=out, width=120).print(render(shown))
    assert "x is dead [docs/runbooks/node-dead.md]" in out.getvalue()
