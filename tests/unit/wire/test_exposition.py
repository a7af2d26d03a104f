"""Metrics as text: what Prometheus' own parser makes of it, and ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fs3.base.counting import Histogram
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import HistogramReading, Sample
from fs3.wire.exposition import escape_label, label_chars_max, parse_text, text_of


def histogram(*elapsed_ns: int) -> HistogramReading:
    found = Histogram()
    for each in elapsed_ns:
        found.add(each)
    return HistogramReading.of(found)


def test_the_text_is_what_the_parser_of_prometheus_reads() -> None:
    text = text_of(
        [
            Sample(catalogue.SERVED_SECONDS, ("Storage", "Read", "OK"), histogram(1000, 20_000, 3_000_000_000, 10**12)),
            Sample(catalogue.LEASE_LEFT, (), 2.5),
            Sample(catalogue.KV_PUTS, ("a",), 7),
            Sample(catalogue.KV_PUTS, ("b",), 8),
        ]
    )
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert [family.type for family in families.values()] == ["histogram", "gauge", "counter"]
    assert [sample.labels["namespace"] for sample in families["fs3_kv_puts"].samples] == ["a", "b"]
    read = families["fs3_rpc_served_seconds"].samples
    buckets = [(float(sample.labels["le"]), sample.value) for sample in read if sample.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert (buckets[0][1], buckets[1][1], buckets[-2][1], buckets[-1]) == (1, 2, 3, (float("inf"), 4))
    assert next(sample.value for sample in read if sample.name.endswith("_count")) == 4
    assert next(sample.value for sample in read if sample.name.endswith("_sum")) == pytest.approx(1003.000021)


@given(st.text())
def test_a_label_may_have_any_characters(value: str) -> None:
    text = text_of([Sample(catalogue.KV_PUTS, (value,), 1)])
    assert text.count("\n") == 3
    (reading,) = parse_text(text)
    read = reading.labels["namespace"]
    assert len(read) <= label_chars_max
    if len(value) <= label_chars_max:
        assert read == value
    if len(value) <= label_chars_max and value.isprintable():  # the other parser cuts lines at more characters than it should
        (family,) = text_string_to_metric_families(text)
        assert family.samples[0].labels["namespace"] == value


def test_long_values_and_bytes_that_are_no_text_are_made_to_fit() -> None:
    assert len(escape_label("x" * 1000)) == label_chars_max
    assert escape_label(b"\xff".decode("utf-8", "surrogateescape")) == "?"


def test_what_is_no_text_of_metrics_is_named() -> None:
    with pytest.raises(ValueError, match="no line of metrics: 'nonsense'"):
        parse_text("# a comment\nnonsense\n")
