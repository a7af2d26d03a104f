"""Every example of docs/consumers.md, run as it stands against a cluster of the test's own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from tests.external.library import library

pytestmark = [pytest.mark.external, pytest.mark.processes, pytest.mark.timeout(180)]

PAGE = Path(__file__).parents[2] / "docs" / "consumers.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def name_of(example: str) -> str:
    """What the example is about: the libraries it imports."""
    return "-".join(found for found in re.findall(r"^(?:from|import) (\w+)", example, re.MULTILINE))


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_an_example_of_the_page_runs(example: str, url: str, tmp_path: Path) -> None:
    for needed in re.findall(r"^(?:from|import) (\w+)", example, re.MULTILINE):
        library(needed)
    fs, path = fsspec.url_to_fs(url)
    for directory in ("tables", "arrays", "training"):
        fs.mkdir(f"{path}/{directory}")
    script = tmp_path / "example.py"
    script.write_text(example.replace("fs3://127.0.0.1:8000", url))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=170, cwd=tmp_path, check=False)
    # A thread of pyarrow's that wants the interpreter while that ends aborts the process, now and then and on any file system.
    is_arrows_end = "pyarrow" in example and done.stderr.strip() == "terminate called without an active exception"
    assert done.returncode == 0 or is_arrows_end, done.stdout + done.stderr
