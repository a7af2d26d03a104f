"""`fs3 completion`: what a shell needs to complete commands, options and their values."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer
from typer import completion as typer_completion

_VARIABLE = "_FS3_COMPLETE"
"""Set by the shell when it asks what may follow."""


class Shell(StrEnum):
    """Shells that can be served."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="which shell")]) -> None:
    """Print the script with which a shell completes fs3's commands and options."""
    script = typer_completion.get_completion_script(  # type: ignore[attr-defined]
        prog_name="fs3", complete_var=_VARIABLE, shell=shell.value
    )
    sys.stdout.write(f"{script}\n")


def prepare_completion() -> None:
    """Make ready to answer a shell that asks what may follow; nothing is done for anybody else."""
    if _VARIABLE in os.environ:
        typer_completion.completion_init()  # type: ignore[attr-defined]
