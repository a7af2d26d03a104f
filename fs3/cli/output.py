"""How commands show what they have found: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fs3.base.errors import FS3Error

_PIPED_COLUMNS = 200


def print_json(document: Any) -> None:
    """JSON on standard output."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def table_console(*, soft_wrap: bool = False) -> Console:
    """Standard output; tables are as wide as they want to be when it is no terminal."""
    console = Console(highlight=False, soft_wrap=soft_wrap)
    if console.is_terminal:
        return console
    return Console(highlight=False, soft_wrap=soft_wrap, width=max(_PIPED_COLUMNS, console.width))


def describe(wrong: BaseException) -> str:
    """What went wrong, in one line; the system's own errors without their number."""
    if isinstance(wrong, FS3Error) or not isinstance(wrong, OSError) or wrong.strerror is None:
        return str(wrong)
    return wrong.strerror if wrong.filename is None else f"{wrong.strerror}: {wrong.filename!r}"


def print_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], title: str = "") -> None:
    """A table on standard output; wider than the terminal rather than cut when it is no terminal."""
    table = Table(title=title or None, title_justify="left", box=None)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    table_console(soft_wrap=True).print(table)
