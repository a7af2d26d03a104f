"""Scenarios: scripted runs of a chain in text files, with the trace they must produce.

A file is a sequence of blocks: commands, a line `----`, and what they lead to, up to an empty line. Lines that begin with `#`
are comments. Nothing happens by itself: messages, disks and clocks move when a command says so. `python -m fs3.sim ring1
scenario --rewrite FILES` writes what happens now in place of what was expected; the difference is for a person to look at.

    chain 1 2 3              start these targets as one chain, in this order
    newborn 1 2 3            the same, and the manager has not stored yet that they are there …
    born N                   … and now it has, for target N
    write c1 x0 TEXT [at N]  client c1 sends an update to the head; also put, truncate … at N, remove; `untagged` at the end
    retry c1 [TARGET]        the client sends its last update again, to the head or to another target
    read x0 TARGET           ask a target for a chunk
    deliver [A B]            deliver the oldest message from A to B; without operands everything, disks too, until all is quiet
    drop A B                 lose the oldest message from A to B
    keep A B                 put a copy of the oldest message from A to B aside …
    late A B                 … and deliver it now
    hold A B, free A B       `deliver` passes over this link; no more
    slow N, disk N           `deliver` passes over the disk of target N; what it works on is on the disk now
    crash N [LOST]           target N dies, with the newest LOST commits
    restart N                … and comes back, and is told the chain
    serving 1 3              a new chain version in which these serve and no others
    lost 1 3                 a new chain version in which nobody serves, and these served last
    join 4                   a new chain version with target 4, which may be new, syncing
    bump                     a new chain version with the same targets
    tell N …                 these targets learn of the present chain
    wait MS                  time passes; deadlines are kept
    corrupt N                the next stage of target N stores other bytes
    rot N x0                 the disk of target N changes a byte of a chunk
    repair N                 target N asks the others for its bad chunks
    full N, empty N          the disk of target N is full; no more
    exchange N               the disk of target N, which is down, is replaced by an empty one
    expire N                 the lease of target N runs out
    state                    targets, chunks and channel rows
"""

from __future__ import annotations

from fs3.sim.ring1.scenario_runner import ScenarioError, ScenarioRunner
from fs3.sim.ring1.target_host import Parts

__all__ = ["ScenarioError", "play"]


def play(text: str, parts: Parts | None = None) -> str:
    """The text of a scenario with what happens now in place of what was expected.

    Raises ScenarioError naming a bad command, AssertionError when an invariant breaks.
    """
    stage = ScenarioRunner(parts if parts is not None else Parts())
    out: list[str] = []
    expected = False
    for line in text.splitlines():
        if expected:
            expected = bool(line)
            if line:
                continue
        out.append(line)
        if line == "----":
            out += stage.lines
            stage.lines.clear()
            expected = True
        elif line and not line.startswith("#"):
            stage.command(line)
    return "\n".join(out) + "\n"
