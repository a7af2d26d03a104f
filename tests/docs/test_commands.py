"""Every `fs3` command the documents show exists with its options, and each document that shows some has a test that runs them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fs3.cli.main import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN_BY = {
    "README.md": "tests/processes/test_readme.py",
    "docs/admin.md": "tests/processes/test_admin.py",
    "docs/metrics.md": "tests/processes/test_metrics.py",
    "docs/observability.md": "tests/processes/test_metrics.py",
    "docs/metadata-engines.md": "tests/processes/test_metas_on_etcd.py",
    "docs/quickstart.md": "tests/processes/test_quickstart.py",
    "docs/mount.md": "tests/processes/test_mount.py",
    "docs/security.md": "tests/processes/test_readme.py",
    "docs/moves.md": "tests/processes/test_moves.py",
    "docs/metadata-recovery.md": "tests/processes/test_damaged_metadata.py",
}
"""Document -> the test that runs every command of its `sh` blocks."""


def commands(text: str) -> list[str]:
    """The `fs3 …` lines of the `sh` blocks."""
    lines = [line.strip() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return [line.partition(" #")[0] for line in lines if line.startswith("fs3 ")]


def mentions(text: str) -> list[str]:
    """`fs3 …` in the running text."""
    return [found for found in re.findall(r"`(fs3 [a-z][^`\n]*)`", text) if "…" not in found]


def check(line: str) -> None:
    """Raises AssertionError for a command or an option that does not exist."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"{line!r}: there is no command {name!r}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in known, f"{line!r}: there is no option {word!r}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_shows_exists(document: Path) -> None:
    text = document.read_text()
    for line in [*commands(text), *mentions(text)]:
        check(line)


def test_a_command_that_does_not_exist_is_found() -> None:
    for wrong in ("fs3 frobnicate x", "fs3 admin frobnicate", "fs3 ls --frobnicate fs3://x"):
        with pytest.raises(AssertionError, match="frobnicate"):
            check(wrong)


def test_every_document_with_commands_has_a_test_that_runs_them() -> None:
    showing = {str(document.relative_to(ROOT)) for document in DOCUMENTS if commands(document.read_text())}
    assert showing <= set(RUN_BY)
    for document, test in RUN_BY.items():
        source = (ROOT / test).read_text()
        assert Path(document).name in source
        assert "bash" in source, f"{test} does not run the commands of {document}"
