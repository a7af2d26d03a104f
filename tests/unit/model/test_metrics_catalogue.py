"""The catalogue keeps the conventions of Prometheus."""

from __future__ import annotations

import re

from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Metric, MetricKind

_UNITS = ("_seconds", "_bytes", "_total", "_seconds_total", "_bytes_total")


def test_names_units_and_sentences() -> None:
    for metric in catalogue.CATALOGUE.values():
        assert re.fullmatch(r"(fs3|process|python)_[a-z][a-z0-9_]*", metric.name), metric.name
        assert (metric.kind is MetricKind.COUNTER) == metric.name.endswith("_total"), metric.name
        if metric.kind is MetricKind.HISTOGRAM:
            assert metric.name.endswith("_seconds"), metric.name
        assert not re.search(r"_(ms|ns|kb|mb|percent)\b", metric.name), metric.name
        assert metric.help.endswith((".", "`")), metric.name
        assert "\n" not in metric.help
        assert set(metric.roles) <= {"mgmtd", "meta", "storage", "client"}, metric.name
        assert "le" not in metric.labels, metric.name


def test_no_metric_is_there_twice() -> None:
    made = [found for found in vars(catalogue).values() if isinstance(found, Metric)]
    assert len({metric.name for metric in made}) == len(made) == len(catalogue.CATALOGUE)
