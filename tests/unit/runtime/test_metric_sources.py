"""Sources of metrics: one that fails takes no other along."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.runtime.metric_sources import MetricSources
from fs3.runtime.process_metrics import ProcessMetrics


def test_a_source_that_fails_is_left_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    broken = True

    def bad() -> Iterator[Sample]:
        yield Sample(catalogue.EPOCH, (), 1)
        if broken:
            raise RuntimeError("dictionary changed size during iteration")

    sources = MetricSources()
    sources.add("bad", bad)
    sources.add("good", lambda: [Sample(catalogue.PRIMARY, (), 1)])
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert catalogue.PRIMARY in [sample.metric for sample in sources.samples()]
    assert [record.getMessage() for record in caplog.records] == ["the metrics of bad cannot be read"]
    broken = False
    assert [sample.metric.name for sample in sources.samples()] == ["fs3_manager_epoch", "fs3_manager_primary"]


def test_a_source_replaces_the_one_of_its_name() -> None:
    sources = MetricSources()
    for value in (1, 2):
        sources.add("same", lambda value=value: [Sample(catalogue.EPOCH, (), value)])
    assert [sample.value for sample in sources.samples()] == [2]


def test_what_a_process_says_of_itself() -> None:
    found = {sample.metric.name: sample for sample in ProcessMetrics("meta", "meta-2").samples()}
    assert found["fs3_build_info"].labels[1:] == ("meta", "meta-2")
    assert found["process_cpu_seconds_total"].value > 0
    assert found["process_resident_memory_bytes"].value > 1 << 20
    assert found["process_open_fds"].value >= 3
