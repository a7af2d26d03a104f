"""Every command has an example below its help, which parses; every list is there for programs too; shells can complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from fs3.cli.examples import EXAMPLES
from fs3.cli.main import app
from tests.docs.test_commands import check


def leaves(command: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """(name, command) of every command that is no group."""
    for name, found in command.commands.items():
        if hasattr(found, "commands"):
            yield from leaves(found, f"{above}{name} ")
        else:
            yield f"{above}{name}", found


COMMANDS = dict(leaves(typer.main.get_command(app)))
LISTING = re.compile(r"ls|list|machines|nodes|targets|tables|chains|history|get|diff|top|du|stat|status")
LISTS = [name for name in COMMANDS if LISTING.fullmatch(name.split()[-1])]


def test_every_command_has_an_example() -> None:
    assert COMMANDS.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_example_is_of_the_command_and_parses(name: str) -> None:
    line = EXAMPLES[name].partition(" > ")[0]
    assert line.startswith(f"fs3 {name}")
    check(line)
    assert COMMANDS[name].epilog == f"Example: {EXAMPLES[name]}"


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_there_for_programs(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[name].params)


def test_help_shows_the_example() -> None:
    shown = CliRunner().invoke(app, ["admin", "nodes", "--help"]).stdout
    assert "Example: fs3 admin nodes" in shown


def complete(words: str, at: int) -> list[str]:
    """What bash is told may stand there."""
    environment = {**os.environ, "_FS3_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    done = subprocess.run([str(Path(sys.executable).parent / "fs3")], env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout.split()


def test_commands_and_options_are_completed() -> None:
    assert complete("fs3 comp", 1) == ["completion"]
    assert set(complete("fs3 admin ta", 2)) == {"tables", "targets"}
    assert "--dry-run" not in complete("fs3 config set --", 3)
    assert {"--file", "--if-version"} <= set(complete("fs3 config set --", 3))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_the_shell(shell: str) -> None:
    script = CliRunner().invoke(app, ["completion", shell]).stdout
    assert "_FS3_COMPLETE" in script
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script, text=True, timeout=60, check=False).returncode == 0
