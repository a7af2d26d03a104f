"""Metrics as text, in Prometheus' exposition format (version 0.0.4), and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fs3.base.counting import bucket_bounds_ns
from fs3.base.units import SECOND
from fs3.model.metrics.catalogue import CATALOGUE
from fs3.model.metrics.metric import HistogramReading, Metric, Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
label_chars_max = 128
"""Of one label value; what is longer is cut."""

_BOUNDS = [*(repr(bound / SECOND) for bound in bucket_bounds_ns()), "+Inf"]
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
_TO_ESCAPE = re.compile(r'[\\"\n]')
_LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)",?')
_UNESCAPED = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


def escape_label(value: str) -> str:
    """A label value as it stands between quotes: any characters are allowed in it, and at most `label_chars_max`."""
    if len(value) > label_chars_max:
        value = value[: label_chars_max - 1] + "…"
    if _TO_ESCAPE.search(value):
        value = _TO_ESCAPE.sub(lambda found: _ESCAPED[found[0]], value)
    # What came in as bytes that are no text has surrogates, which UTF-8 cannot carry.
    return value.encode("utf-8", "replace").decode()


def lines_of(samples: Iterable[Sample]) -> Iterator[str]:
    """The lines of readings, without line ends, metric by metric in the order of the catalogue.

    One at a time, so that the thread that makes them can let others run in between."""
    by_metric: dict[Metric, list[Sample]] = {}
    for sample in samples:
        by_metric.setdefault(sample.metric, []).append(sample)
    for metric in CATALOGUE.values():
        if metric in by_metric:
            yield f"# HELP {metric.name} {metric.help}"
            yield f"# TYPE {metric.name} {metric.kind}"
            for sample in by_metric[metric]:
                yield from _sample_lines(metric, sample)


def _sample_lines(metric: Metric, sample: Sample) -> Iterator[str]:
    labels = ",".join(f'{name}="{escape_label(value)}"' for name, value in zip(metric.labels, sample.labels, strict=True))
    value = sample.value
    if not isinstance(value, HistogramReading):
        yield f"{metric.name}{{{labels}}} {value}" if labels else f"{metric.name} {value}"
        return
    before = f'{metric.name}_bucket{{{labels}{"," if labels else ""}le="'
    total = 0
    for bound, count in zip(_BOUNDS, value.counts, strict=True):
        total += count
        yield f'{before}{bound}"}} {total}'
    behind = f"{{{labels}}}" if labels else ""
    yield f"{metric.name}_sum{behind} {value.sum_seconds}"
    yield f"{metric.name}_count{behind} {total}"


def text_of(samples: Iterable[Sample]) -> str:
    """Readings as one text."""
    return "".join(f"{line}\n" for line in lines_of(samples))


class Reading(NamedTuple):
    """One line of such a text."""

    name: str
    """As in the text: of a histogram with `_bucket`, `_sum` or `_count` behind it."""
    labels: Mapping[str, str]
    value: float


def parse_text(text: str) -> list[Reading]:
    """The readings of a text. Raises ValueError naming a line that is none."""
    found = []
    for line in text.split("\n"):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"no line of metrics: {line[:80]!r}")
        labels = {name: _unescape(value) for name, value in _LABEL.findall(match["labels"] or "")}
        found.append(Reading(match["name"], labels, float(match["value"])))
    return found


def _unescape(value: str) -> str:
    return re.sub(r"\\.", lambda found: _UNESCAPED.get(found[0], found[0]), value)
