"""`fs3 top` and `fs3 slow` as data and as tables."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console, RenderableType

from fs3.base.counting import Histogram
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.cli import slow, top
from fs3.cli.processes import ClusterProcess
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import HistogramReading, Sample
from fs3.model.slow import LoopStall, SlowOperation, SlowReport, Span
from fs3.wire.exposition import parse_text, text_of

NODE = ClusterProcess("storage-1", "storage", (), "")


def shown(what: RenderableType) -> str:
    out = StringIO()
    Console(file=out, width=200).print(what)
    return out.getvalue()


def counters(*elapsed_ms: int, cpu: float = 0.0) -> top.Counters:
    found = Histogram()
    for each in elapsed_ms:
        found.add(each * MILLISECOND)
    samples = [
        Sample(catalogue.CPU, (), cpu),
        Sample(catalogue.SERVED_SECONDS, ("Storage", "Read", "OK"), HistogramReading.of(found)),
        Sample(catalogue.SERVED_SECONDS, ("Storage", "Read", "BUSY"), HistogramReading.of(Histogram())),
    ]
    return top.counters_of(parse_text(text_of(samples)))


def test_rates_between_two_snapshots() -> None:
    document = top.top_document([(NODE, counters(1, cpu=5.0))], [(NODE, counters(1, 1, 3, 900, cpu=6.0))], 2.0)
    (process,) = document["processes"]
    assert process["cpu"] == pytest.approx(0.5)
    assert process["calls_per_second"] == pytest.approx(1.5)
    (operation,) = document["operations"]
    assert operation["operation"] == "Storage.Read"
    assert operation["mean_ms"] == pytest.approx(904 / 3)
    assert 900 < operation["p99_ms"] < 1800
    assert "storage-1" in shown(top.render(document))


def test_a_process_that_was_started_again_and_one_that_does_not_answer() -> None:
    gone = ClusterProcess("meta", "meta", (), "")
    before = [(NODE, counters(*[1] * 100, cpu=50.0)), (gone, None)]
    document = top.top_document(before, [(NODE, counters(1, cpu=1.0)), (gone, None)], 1.0)
    assert document["processes"][0]["calls_per_second"] == pytest.approx(1)
    assert document["processes"][1] == {"name": "meta", "role": "meta", "answers": False}
    assert "meta does not answer" in shown(top.render(document))


def test_slow_operations_of_all_processes_together() -> None:
    spans = (Span("storing", 20 * MILLISECOND), Span("next replicas", 30 * MILLISECOND))
    one = SlowOperation(10**18, 50 * MILLISECOND, "Storage.Update", Code.OK, "tcp://h:1", 9, spans)
    other = SlowOperation(10**18, 90 * MILLISECOND, "Meta.Open", Code.ACCESS, "tcp://h:2", 3, ())
    stall = LoopStall(10**18, 70 * MILLISECOND, ("a.py:1 outer", "b.py:2 inner"))
    document = slow.slow_document({"storage-1": SlowReport((one,), (stall,)), "meta": SlowReport((other,), ())}, {"m": "gone"})
    assert [each["verb"] for each in document["operations"]] == ["Meta.Open", "Storage.Update"]
    text = shown(slow.render(document, 20))
    assert "storing 20.0, next replicas 30.0" in text
    assert "the event loop of storage-1 stood still for 70 ms in" in text
    assert "b.py:2 inner" in text
    assert "m does not answer: gone" in text
    assert "Storage.Update" not in shown(slow.render(document, 1))


def test_a_cluster_in_which_nothing_was_slow() -> None:
    assert "no operation of the last hour took 10 ms" in shown(slow.render(slow.slow_document({}, {}), 5))
