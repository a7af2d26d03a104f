"""The benches of a full KVCache, with tiny sizes: they run, their rows say what was measured, and they notice what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benches import lmcache_l2, sglang_hicache
from benches.cache.pages import PageOracle, numbered
from benches.cache.putters import Outcome, Wanted
from benches.loop import run
from benches.record import Row, Spread, save
from benches.replay.generate import conversations
from benches.replay.online import Load, replay_online
from benches.run import Context
from benches.suite import kv_budget, kv_calls, kv_evict, kv_warmth
from fs3.api.kvcache import Status
from fs3.cli.local import LocalCluster
from fs3.drill.journal import WrongBytes
from tests.space import SpaceGuard


def test_pages_follow_from_their_keys() -> None:
    keys = numbered("k", range(50))
    left, right = PageOracle(500), PageOracle(500)
    assert left.pages(keys) == right.pages(keys)
    assert len({bytes(page) for page in left.pages(keys)}) == len(keys)
    assert {len(page) for page in left.pages(keys)} == {500}


def test_a_wrong_byte_is_noticed_and_a_miss_is_none() -> None:
    oracle = PageOracle(100)
    buffer = bytearray(oracle.page(b"k"))
    oracle.check([b"k"], [memoryview(buffer)], [Status.OK])
    buffer[40] ^= 1
    oracle.check([b"k"], [memoryview(buffer)], [Status.MISS])
    with pytest.raises(WrongBytes, match="b'k'"):
        oracle.check([b"k"], [memoryview(buffer)], [Status.OK])


def test_calls_of_a_writer_begin_evenly() -> None:
    calls = list(Wanted("p", 100, 10, 4, seconds=5.0).calls())
    assert [begins for begins, _ in calls] == [0.0, 2.0, 4.0]
    assert [key for _, keys in calls for key in keys] == numbered("p", range(100, 110))


def test_what_was_not_stored_is_counted() -> None:
    assert Outcome(1.0, {"OK": 5, "EXISTS": 2, "NO_SPACE": 3, "TIMEOUT": 1}).count_failed() == 4


@pytest.mark.parametrize(
    ("value", "is_lower_better", "reached"), [(2.0, False, True), (1.0, False, False), (2.0, True, False), (1.0, True, True)]
)
def test_a_ratio_is_to_be_reached_or_not_to_be_exceeded(value: float, is_lower_better: bool, reached: bool) -> None:
    row = Row("b", "f", "s", Spread.of([value]), "s", Spread.of([1.0]), must_ratio=1.5, lower_is_better=is_lower_better)
    assert row.reached is reached


def test_lmcache_figures_have_what_they_must_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "fs3": {"Store": 140.0, "Load": 900.0, "Lookup": 0.4},
        lmcache_l2.IN_MEMORY: {"Store": 1000.0, "Load": 500.0, "Lookup": 0.5},
        lmcache_l2.DURABLE: {"Store": 100.0, "Load": 500.0, "Lookup": 0.3},
    }
    monkeypatch.setattr(lmcache_l2, "bench_l2", lambda specification, *_: said[specification["name"]])
    adapters = {name: (lambda name=name: {"name": name}) for name in said}
    rows = lmcache_l2.measure(adapters, 256, 4, 1, 2, Console(quiet=True))
    beside = [f"MB/s {lmcache_l2.IN_MEMORY}", f"MB/s {lmcache_l2.DURABLE}"]
    assert [peer.name for peer in rows[0].peers] == beside
    musts = {row.figure.split()[2].rstrip(","): ([peer.must_ratio for peer in row.peers], row.reached) for row in rows}
    assert musts == {"store": ([None, 1.3], True), "lookup": ([1.0, 1.0], False), "load": ([1.5, None], True)}


def test_hicache_figures_have_what_they_must_reach() -> None:
    found = {
        "fs3": [{"write": 1.0, "read": 4.0, "query": 1.4}],
        "file": [{"write": 3.0, "read": 5.0, "query": 0.5}],
        sglang_hicache.MOONCAKE: [{"write": 0.9, "read": 2.1, "query": 2.0}],
    }
    rows = sglang_hicache.rows_of(found, "160 pages of 2.1 MB")
    assert [peer.name for peer in rows[0].peers] == ["GB/s file", f"GB/s {sglang_hicache.MOONCAKE}"]
    musts = {row.figure.split()[1].rstrip(","): ([peer.must_ratio for peer in row.peers], row.reached) for row in rows}
    assert musts == {"write": ([None, 1.0], True), "read": ([None, 2.0], False), "query": ([None, None], True)}


@pytest.fixture(scope="module")
def context(space_guard: SpaceGuard) -> Iterator[Context]:
    with space_guard.lend("kv-benches") as home, LocalCluster(home / "cluster") as cluster:
        yield Context(cluster, home, 1, Console(quiet=True))


def verdicts_of(rows: list[Row], path: Path) -> dict[str, bool | None]:
    """By figure; every row can be saved."""
    save(rows, path / "rows.jsonl")
    assert len((path / "rows.jsonl").read_text().splitlines()) == len(rows)
    return {row.figure: row.reached for row in rows}


@pytest.mark.processes
def test_gets_are_measured_beside_evictions(context: Context, tmp_path: Path) -> None:
    shape = kv_evict.Shape(page_bytes=4096, budget_pages=64, hot_pages=8, seconds=0.5)
    rows = kv_evict.measure(context, shape)
    assert verdicts_of(rows, tmp_path)["slowest get while pages are put and evicted"] is True
    assert all(row.value.median > 0 and row.limit is not None for row in rows)
    assert rows[0].extra["evicted"] >= shape.budget_pages


@pytest.mark.processes
def test_budgets_are_looked_at_while_writers_put(context: Context, tmp_path: Path) -> None:
    shape = kv_budget.Shape(page_bytes=4096, budget_bytes=64 * 4200, writers=2, pages=64)
    rows = kv_budget.measure(context, shape)
    assert verdicts_of(rows, tmp_path)["most above the budget, 2 writers"] is True
    (above, puts, evictions) = rows
    assert above.value.high <= above.must_value
    assert above.extra["timeline"]
    assert puts.value.median > 0
    assert evictions.value.median > 0


@pytest.mark.processes
def test_leases_and_jobs_are_measured_beside_plain_calls(context: Context, tmp_path: Path) -> None:
    shape = kv_calls.Shape(keys=20, lookups=3, pages=(kv_calls.Pages(2000, 4, 3, "2 kB"),))
    rows = kv_calls.measure(context, shape)
    assert list(verdicts_of(rows, tmp_path)) == [
        "lookup of 20 keys with a lease",
        "put jobs, 4 pages of 2 kB each, 2 under way",
        "get jobs, 4 pages of 2 kB each, 2 under way",
    ]
    assert all(row.value.median > 0 and row.ratio for row in rows)


@pytest.mark.processes
def test_warmth_is_measured_after_a_restart_and_a_failover(space_guard: SpaceGuard, tmp_path: Path) -> None:
    shape = kv_warmth.Shape(pages=300, budget_pages=150, call_pages=16, warming_calls=30, calls=20, other_pages=4)
    with space_guard.lend("warmth") as home:
        rows = kv_warmth.measure(Context(None, home, 1, Console(quiet=True)), shape)  # type: ignore[arg-type]
    assert len(verdicts_of(rows, tmp_path)) == 3
    restarted, failed_over, stall = rows
    for row in (restarted, failed_over):
        assert 0.1 < row.value.median < 1
    assert stall.value.median > 0


@pytest.mark.processes
def test_gets_alone_are_replayed_of_pages_that_are_there(context: Context) -> None:
    load = Load(
        conversations(12, 1), page_bytes=4096, pages_per_block=1, workers=2, is_paced=False, replicas=1,
        budget_bytes=48 * 5000, gets_only=True, get_rate_min=1e-9,
    )  # fmt: skip
    report = run(replay_online(context.cluster.url, load, context.directory))
    assert (report.put_pages, report.gone_pages, report.requests) == (0, 0, 12)
    assert 0 < report.hit_pages < report.asked_pages
    gets = next(row for row in report.rows("made") if row.figure == "made: gets")
    assert gets.reached is True
    assert json.dumps(gets.extra)
