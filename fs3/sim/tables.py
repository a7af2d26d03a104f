"""Tables in the documentation that are made from the code: each stands between two comment lines and must be what the code says.

    <!-- table: NAME -->
    ...
    <!-- end of table -->

`python -m fs3.sim.tables FILES` says which differ; `--rewrite` writes them anew, and the difference is for a person to look at.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fs3.core.craq.admission.table import admission_text
from fs3.core.craq.read_table import reads_text
from fs3.core.craq.resync.rows import choices_text
from fs3.core.membership.transition import table_text
from fs3.sim.ring1.bugs import BUGS

_BEGIN = "<!-- table: "
_END = "<!-- end of table -->"


def bugs_text() -> str:
    """The planted bugs, and how each is found."""
    lines = ["| planted bug | what it does | caught by |", "|---|---|---|"]
    for name, bug in BUGS.items():
        caught = f"seeds: within {bug.seeds}" if bug.seeds else f"scenario `{bug.scenario}`"
        lines.append(f"| `{name}` | {bug.what} | {caught} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "admission": admission_text,
    "reads": reads_text,
    "resync choice": choices_text,
    "chain transitions": table_text,
    "planted bugs": bugs_text,
}


def rewrite_tables(text: str) -> str:
    """A document with its tables as the code has them. ValueError names a table that nobody knows, or that has no end."""
    out: list[str] = []
    name = ""
    for line in text.splitlines():
        if line.startswith(_BEGIN):
            name = line.removeprefix(_BEGIN).removesuffix(" -->")
            if name not in TABLES:
                raise ValueError(f"no such table: {name}")
            out += [line, TABLES[name]()]
        elif line == _END:
            name = ""
        if not name:
            out.append(line)
    if name:
        raise ValueError(f"the table {name} has no end")
    return "\n".join(out) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check documents, or rewrite them."""
    parser = argparse.ArgumentParser(prog="python -m fs3.sim.tables", description="Tables made from the code.")
    parser.add_argument("--rewrite", action="store_true", help="write the tables anew")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    differ = 0
    for path in options.files:
        text = path.read_text()
        now = rewrite_tables(text)
        if now != text:
            differ += 1
            if options.rewrite:
                path.write_text(now)
            sys.stdout.write(f"{path}: {'rewritten' if options.rewrite else 'differs'}\n")
    return 1 if differ and not options.rewrite else 0


if __name__ == "__main__":
    sys.exit(main())
