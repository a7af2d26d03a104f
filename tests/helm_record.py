"""What Helm makes of the chart in `deploy/helm`, recorded in `tests/docs/helm`: it is looked at where there is no Helm, too.

    python -m tests.helm_record --write      record it again: with `helm`, or the package `helm-python-sdk`, which has Helm in it

The first line of a record is the digest of what it was made of, so that one that is older than the chart is noticed.
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy" / "helm"
CHART = DEPLOY / "fs3"
RECORDS = Path(__file__).parent / "docs" / "helm"
CASES = {"default": None, "etcd": DEPLOY / "etcd.yaml", "tls": DEPLOY / "tls.yaml"}
"""Name of a record, and the file of values it was made with."""
RELEASE = "fs3"

Objects = list[dict[str, Any]]


def chart_digest(case: str) -> str:
    """Of everything that a record is made of."""
    values = CASES[case]
    files = sorted(path for path in CHART.rglob("*") if path.is_file()) + ([values] if values is not None else [])
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path.relative_to(DEPLOY)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def find_renderer() -> Callable[[str], Objects] | None:
    """Renders a case with Helm; None where there is none."""
    if shutil.which("helm"):
        return render_by_command
    try:
        importlib.import_module("helm_python")
    except (ImportError, OSError):
        return None
    return render_by_package


def render_by_command(case: str) -> Objects:
    """As `helm template` does."""
    values = CASES[case]
    more = [] if values is None else ["--values", str(values)]
    command = ["helm", "template", RELEASE, str(CHART), "--namespace", "fs3", *more]
    return in_order(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def render_by_package(case: str) -> Objects:
    """The same by `helm-python-sdk`."""
    values = CASES[case]
    with importlib.import_module("helm_python").Chart.load(str(CHART)) as chart:
        texts = chart.render(yaml.safe_load(values.read_text()) if values is not None else {}, name=RELEASE, namespace="fs3")
    return in_order("\n---\n".join(text for name, text in sorted(texts.items()) if name.endswith(".yaml")))


def in_order(text: str) -> Objects:
    """The objects of a text, by kind and name."""
    found = [each for each in yaml.safe_load_all(text) if each is not None]
    return sorted(found, key=lambda each: (each["kind"], each["metadata"]["name"]))


def read_record(case: str) -> tuple[str, Objects]:
    """The digest of what it was made of, and the objects."""
    first, text = (RECORDS / f"{case}.yaml").read_text().split("\n", 1)
    return first.removeprefix("# "), list(yaml.safe_load_all(text))


def write_records() -> None:
    """Record all cases. SystemExit where there is no Helm."""
    render = find_renderer()
    if render is None:
        sys.exit("neither `helm` nor the package helm-python-sdk is installed")
    for case in CASES:
        text = yaml.safe_dump_all(render(case), sort_keys=False, width=130)
        (RECORDS / f"{case}.yaml").write_text(f"# {chart_digest(case)}\n{text}")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write_records()
