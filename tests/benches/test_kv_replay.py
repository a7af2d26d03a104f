"""Traces are read or refused, policies keep their budgets, and what storage targets do is no worse than LRU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benches import plot
from benches.kv_replay import main
from benches.loop import run
from benches.replay.generate import SERVICE_HIT_SHARE, conversations, zipf_with_scans
from benches.replay.online import Load, replay_online
from benches.replay.policies import LRU, Policy
from benches.replay.simulate import POLICIES, distinct_bytes, ideal, measure_curves, page_length, replay
from benches.replay.trace import Request, TraceError, paced, read_trace, split_blocks, write_trace
from fs3.cli.local import LocalCluster
from tests.space import SpaceGuard

GOOD = {"timestamp": 3, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]}


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    requests = conversations(50, 3)
    path = tmp_path / "trace.jsonl"
    assert write_trace(requests, path) == 50
    assert list(read_trace(path)) == requests
    path.write_text(json.dumps({**GOOD, "model": "m", "timestamp": 3.0}) + "\n\n")
    assert list(read_trace(path)) == [Request(3, 600, 5, (0, 7))]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "Expecting"),
        ("[1]", "not an object"),
        (json.dumps({**GOOD, "timestamp": -1}), "timestamp is -1"),
        (json.dumps({**GOOD, "timestamp": 1}), "timestamp 1 comes after 3"),
        (json.dumps({**GOOD, "input_length": "9"}), "input_length is '9'"),
        (json.dumps({**GOOD, "output_length": True}), "output_length is True"),
        (json.dumps({**GOOD, "hash_ids": None}), "hash_ids is not"),
        (json.dumps({**GOOD, "hash_ids": [1, -2]}), "hash_ids is not"),
        (json.dumps({**GOOD, "hash_ids": [1] * 400_000}), "1048576 bytes"),
        ("\\xff\\x00", "Expecting"),
    ],
)
def test_a_line_that_is_no_request_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n")
    with pytest.raises(TraceError, match=why) as failure:
        list(read_trace(path))
    assert f"{path}:2:" in str(failure.value)


def test_requests_are_paced_and_cut_into_pages() -> None:
    requests = conversations(300, 1)
    fast = paced(requests, 1e6)
    tokens = sum(request.input_length for request in requests)
    assert fast[-1].timestamp_ms == pytest.approx(tokens / 1e6 * 1000, rel=0.01)
    assert split_blocks(Request(0, 513, 1, (4, 9)), 8) == [*range(32, 40), 72]
    assert split_blocks(Request(0, 1024, 1, (4, 9)), 1) == [4, 9]


def test_made_conversations_share_as_much_as_the_service_found() -> None:
    shares = [ideal(conversations(3000, seed)) for seed in range(1, 5)]
    assert sum(shares) / len(shares) == pytest.approx(SERVICE_HIT_SHARE, abs=0.04)
    for request in conversations(300, 1):
        assert len(request.blocks) == -(-request.input_length // 512)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_keeps_its_budget(name: str, mixed: bool) -> None:
    requests = conversations(300, 2)
    budget = distinct_bytes(requests, mixed) // 10
    policy = POLICIES[name](budget)
    blocks = {block for request in requests for block in request.blocks}
    for request in requests[::30]:
        replay([request], policy, mixed)
        held = sum(page_length(block, mixed) for block in blocks if block in policy)
        assert 0 < held <= budget


def test_a_page_larger_than_the_budget_does_not_come() -> None:
    for name, make in POLICIES.items():
        policy: Policy = make(3)
        policy.use([1, 2], [4, 2], 0, 0)
        assert 1 not in policy, name
        assert 2 in policy, name


def test_lru_is_lru() -> None:
    policy = LRU(3)
    policy.use([1, 2, 3], [1, 1, 1], 0, 0)
    policy.use([1], [1], 1, 0)
    policy.use([4], [1], 0, 0)
    assert [page in policy for page in (1, 2, 3, 4)] == [True, False, True, True]


@pytest.mark.parametrize("mixed", [False, True])
def test_storage_targets_find_no_less_than_lru(mixed: bool) -> None:
    for requests in (conversations(1500, 5), zipf_with_scans(15_000, 5, pages=2000)):
        total = distinct_bytes(requests, mixed)
        for share in (0.03, 0.1):
            ours, theirs = (replay(requests, POLICIES[name](int(total * share)), mixed).hit_rate for name in ("fs3", "LRU"))
            assert ours >= theirs


def test_hit_rates_are_measured_saved_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, results = tmp_path / "trace.jsonl", tmp_path / "results"
    assert main(["generate", "zipf", str(trace), "--requests", "30"]) == 0
    monkeypatch.setattr("benches.record.RESULTS", results)
    assert main(["offline", "--trace", str(trace), "--budgets", "0.1,0.5", "--requests", "300"]) == 0
    (path,) = results.glob("*.jsonl")
    (line,) = map(json.loads, path.read_text().splitlines())
    assert line["extra"]["budgets"] == [0.1, 0.5]
    assert set(line["extra"]["rates"]) == set(POLICIES)
    plot.draw_hit_rates([line], tmp_path / "rates.svg")
    assert (tmp_path / "rates.svg").stat().st_size > 1000


def test_rates_lie_between_nothing_and_the_ideal() -> None:
    curves = measure_curves(conversations(200, 1), (0.05, 1.0))
    for name, rates in curves.rates.items():
        assert 0 <= rates[0] <= rates[1] <= curves.ideal, name
    assert curves.rates["LRU"][1] == curves.ideal


@pytest.mark.parametrize(
    "arguments",
    [
        ["offline", "--budgets", "0"],
        ["offline", "--budgets", "1.5"],
        ["online", "--pages-per-block", "3"],
        ["online", "--page-bytes", "16"],
        ["online", "--requests", "0"],
        ["generate", "unknown", "x"],
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert arguments[1].split("=")[0] in capsys.readouterr().err or arguments[0] == "generate"


def test_a_trace_that_is_none_ends_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("no\n")
    for command in ("offline", "online"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--trace", str(path), "--no-save"])
        assert stop.value.code == 1
        assert f"{path}:1:" in capsys.readouterr().err


@pytest.mark.processes
def test_a_cluster_is_replayed_against(space_guard: SpaceGuard) -> None:
    requests = conversations(12, 1)
    load = Load(requests, page_bytes=4096, pages_per_block=2, workers=3, is_paced=False, replicas=1)
    with space_guard.lend("replay") as home, LocalCluster(home / "cluster", storage=1, replicas=1) as cluster:
        report = run(replay_online(cluster.url, load, home))
    pages = [page for request in requests for page in split_blocks(request, 2)]
    assert report.requests == 12
    assert report.asked_pages == len(pages)
    assert report.put_pages == len(set(pages))
    assert report.hit_pages * load.page_bytes == report.got_bytes > 0
    assert (report.gone_pages, report.refused_pages, report.evicted_pages) == (0, 0, 0)
    figures = {row.figure: row for row in report.rows("made")}
    assert figures["made: gets"].ratio is not None
    found = figures["made: share of pages found"]
    assert found.limit is not None
    assert 0 < found.value.median <= found.limit.median
    assert found.limit.median == ideal([replace(request, blocks=tuple(split_blocks(request, 2))) for request in requests])
    assert figures["made: lookup of a request's pages"].extra["p99"] > 0
