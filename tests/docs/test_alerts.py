"""Alert rules and the dashboard use what the catalogue has and lead to pages that exist; every rule fires in a drill."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fs3.model.health import HealthKind
from fs3.model.metrics.catalogue import CATALOGUE
from fs3.model.metrics.metric import MetricKind

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "fs3.json"
OF_PROMETHEUS = {"up"}
"""Metrics that Prometheus makes of every scrape."""
OF_SCRAPES = {"job", "instance", "le"}
"""Labels that any series may have."""
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (package prometheus) is not installed")
_SELECTOR = re.compile(r"\b((?:fs3|process|python)_\w+|up)\b(?:\{([^}]*)\})?")
_BY = re.compile(r"\bby \(([^)]*)\)")


def rules() -> list[dict[str, object]]:
    return [rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def panels() -> Iterator[tuple[str, str]]:
    """The title and each expression of every panel."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


EXPRESSIONS = [*((str(rule["alert"]), str(rule["expr"])) for rule in rules()), *panels()]


def check(expression: str) -> None:
    """AssertionError for a metric, or a label, that there is not."""
    labels = set(OF_SCRAPES)
    used = set()
    selectors = _SELECTOR.findall(re.sub(_BY, "", expression))
    assert selectors, expression
    for name, matchers in selectors:
        if name in OF_PROMETHEUS:
            continue
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        metric = CATALOGUE.get(name) or CATALOGUE.get(base)
        assert metric is not None, f"there is no metric {name}"
        assert (metric.kind is MetricKind.HISTOGRAM) == (metric.name != name), f"{name}: {metric.name} is a {metric.kind}"
        own = {found[0] for found in re.findall(r"(\w+)(=~|!~|!=|=)", matchers)}
        assert own <= {*metric.labels, *OF_SCRAPES}, f"{name} has no label {own - set(metric.labels)}"
        labels.update(metric.labels)
    for names in _BY.findall(expression):
        used.update(name.strip() for name in names.split(","))
    assert used <= labels, f"no metric of it has the label {used - labels}"


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_every_metric_that_is_used_exists(title: str, expression: str) -> None:
    check(expression)


def test_what_does_not_exist_is_found() -> None:
    for wrong, words in (
        ("fs3_nothing > 0", "no metric"),
        ("fs3_loop_lag_seconds > 0", "is a histogram"),
        ("fs3_problems_count > 0", "is a gauge"),
        ('fs3_problems{sort="x"} > 0', "no label"),
        ("max by (sort) (fs3_problems)", "has the label"),
    ):
        with pytest.raises(AssertionError, match=words):
            check(wrong)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_leads_to_a_page(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    page = rule["annotations"]["runbook"]
    pages = [page.replace("{{ $labels.code }}", kind) for kind in HealthKind] if "code" in page else [page]
    assert all((ROOT / each).is_file() for each in pages)
    codes = re.findall(r'code(?:=|!=)"([a-z-]+)"', str(rule["expr"]))
    assert set(codes) <= {kind.value for kind in HealthKind}


def test_every_alert_has_a_drill() -> None:
    drills = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]
    fired = {case["alertname"] for drill in drills for case in drill["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules()}


def test_the_dashboard_is_what_grafana_imports() -> None:
    made = json.loads(DASHBOARD.read_text())
    assert made["uid"] == "fs3"
    assert {each["name"] for each in made["templating"]["list"]} == {"datasource", "instance"}
    numbers = [panel["id"] for panel in made["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells


@needs_promtool
def test_prometheus_takes_the_rules_and_all_of_them_fire() -> None:
    for arguments in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ):
        done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_can_parse_what_the_dashboard_asks(tmp_path: Path) -> None:
    asked = [expression.replace("$__rate_interval", "5m").replace("$instance", ".*") for _, expression in panels()]
    rules_of_panels = [{"record": f"panel:number_{number}", "expr": expression} for number, expression in enumerate(asked)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules_of_panels}]}))
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
