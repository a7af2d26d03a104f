"""Tables in documents that are made from the code: each stands between two comment lines and must be what the code says.

    <!-- table: NAME -->
    ...
    <!-- end of table -->

`python -m fs3.sim tables` says which documents differ; `--write` writes them anew, and the difference is for a person to look at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from fs3.base import limits
from fs3.base.units import MILLISECOND
from fs3.client.mgmtd import selector
from fs3.core.craq.admission.table import ADMISSION
from fs3.core.craq.read_table import READS
from fs3.core.craq.resync.choice import CHOICES
from fs3.core.files.retry import RETRIES
from fs3.core.membership.settings import describe_settings
from fs3.core.membership.transition import TRANSITIONS
from fs3.model.health import health_table
from fs3.model.metrics.catalogue import metrics_table
from fs3.sim.rdma_ring import RdmaRing
from fs3.sim.ring import PlantedBug, caught_by
from fs3.sim.ring0.bugs import BUGS as STORE_BUGS
from fs3.sim.ring1.bugs import BUGS as PROTOCOL_BUGS
from fs3.sim.ring2.bugs import BUGS as SERVICE_BUGS
from fs3.wire.rights import rights_table

_BEGIN = "<!-- table: "
_END = "<!-- end of table -->"
_TIMER = re.compile(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$")
_PROJECT = Path(__file__).parents[2]

TIMERS = {**vars(selector), **vars(limits)}
"""Timers stand in `base/limits.py`; one that only the search for the primary uses stands there."""


def bugs_text(bugs: Mapping[str, PlantedBug]) -> str:
    """Planted bugs, and how each is found."""
    rows = [f"| `{name}` | {bug.what} | {caught_by(bug)} |" for name, bug in bugs.items()]
    return "\n".join(["| planted bug | what it does | caught by |", "|---|---|---|", *rows])


def timers_text(shown: str) -> str:
    """The timers that are shown, with the values they have. ValueError names one that there is not."""
    lines = []
    for line in shown.splitlines():
        row = _TIMER.match(line)
        if row is not None:
            if row[1] not in TIMERS:
                raise ValueError(f"no such timer: {row[1]}")
            line = f"| `{row[1]}` | {TIMERS[row[1]] // MILLISECOND} ms | {row[2]} |"
        lines.append(line)
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "admission": ADMISSION.markdown,
    "reads": READS.markdown,
    "resync choice": CHOICES.markdown,
    "chain transitions": TRANSITIONS.markdown,
    "retry": RETRIES.markdown,
    "metrics": metrics_table,
    "health": health_table,
    "planted bugs of the store": lambda: bugs_text(STORE_BUGS),
    "planted bugs": lambda: bugs_text(PROTOCOL_BUGS),
    "planted bugs of services": lambda: bugs_text(SERVICE_BUGS),
    "planted bugs of RDMA": lambda: bugs_text(RdmaRing.bugs),
    "settings": describe_settings,
    "rights": rights_table,
}
"""Tables of which every word is in the code."""

ANNOTATED: dict[str, Callable[[str], str]] = {"timers": timers_text}
"""Tables of which the code has the values, from how they are shown now: what people wrote beside them stays."""


def rewrite_tables(text: str) -> str:
    """A document with its tables as the code has them. ValueError names a table that does not exist, or that has no end."""
    out: list[str] = []
    name = ""
    shown: list[str] = []
    for line in text.splitlines():
        if line.startswith(_BEGIN):
            name = line.removeprefix(_BEGIN).removesuffix(" -->")
            if name not in TABLES and name not in ANNOTATED:
                raise ValueError(f"no such table: {name}")
            out.append(line)
            shown = []
        elif name and line == _END:
            out += [TABLES[name]() if name in TABLES else ANNOTATED[name]("\n".join(shown)), line]
            name = ""
        elif name:
            shown.append(line)
        else:
            out.append(line)
    if name:
        raise ValueError(f"the table {name} has no end")
    return "\n".join(out) + "\n"


def list_documents() -> list[Path]:
    """The documents of the project that have such tables."""
    return [path for path in sorted((_PROJECT / "docs").rglob("*.md")) if _BEGIN in path.read_text()]
