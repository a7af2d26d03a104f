"""docs/quickstart.md: bash runs every command, on machines that are network namespaces, and what it promises is so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.drill.etcd_cluster import find_etcd
from tests.processes.network_lab import NetworkLab, NetworkMachine, why_no_network_lab
from tests.space import SpaceGuard

WHY_NOT = why_no_network_lab()
pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(WHY_NOT), reason=f"no machines in namespaces: {WHY_NOT}"),
]

DOCUMENT = Path(__file__).parents[2] / "docs" / "quickstart.md"
MACHINES = 7


def blocks() -> list[tuple[list[str], str]]:
    """(machines, script) of each `sh` block, in order. A block without a script pulls the plug of its machines."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        first, _, script = block.partition("\n")
        where = re.fullmatch(r"# (?:on|pull the plug of) (h\d(?:, h\d)*)", first)
        assert where, f"{first!r} does not say where the block is run"
        found.append((where[1].split(", "), script))
    return found


class Walk:
    """The document, walked through block by block."""

    def __init__(self, lab: NetworkLab) -> None:
        self.lab = lab
        self.output: dict[str, str] = {}
        """First line of a script -> what it has said, on the last of its machines."""
        self._left = blocks()

    def go(self, *, until: str = "") -> None:
        """Run blocks up to the one whose script has these words, exclusively; all that are left when there are none."""
        while self._left and not (until and until in self._left[0][1]):
            names, script = self._left.pop(0)
            for name in names:
                self._run(self.lab.machines[name], script)

    def _run(self, machine: NetworkMachine, script: str) -> None:
        if not script.strip():
            machine.pull_plug()
            return
        if "--token $(cat /srv/token)" in script:
            token = (self.lab.machines["h1"].home / "srv/token").read_text()
            (machine.home / "srv/token").write_text(token)
        done = machine.run(self._on_lmdb(script, machine))
        # Where the tests keep their files may be no disk for a cluster, which is what the doctor then says.
        well = (0, 1) if script == "fs3 doctor\n" else (0,)
        assert done.returncode in well, f"{machine.name}: {script}\n{done.stdout}\n{done.stderr}\n{self._logs()}"
        self.output[script.splitlines()[0]] = done.stdout

    def _logs(self) -> str:
        return "\n".join(f"--- {machine.name}\n{machine.said()[-3000:]}" for machine in self.lab.machines.values())

    def _on_lmdb(self, script: str, machine: NetworkMachine) -> str:
        """Without etcd, the manager and the metadata are on h1 alone."""
        if find_etcd():
            return script
        if script.startswith(("etcd ", "printf")) and (script.startswith("etcd") or machine.name != "h1"):
            return "true"
        return re.sub(r"etcd://[^\"]*", "lmdb:/var/lib/fs3/kv", script).replace('["h1", "h2", "h3"]', '["h1"]')

    def status(self, name: str) -> dict:
        """What `fs3 status --json` shows on a machine."""
        return json.loads(self.lab.machines[name].run("fs3 status --json").stdout)


@pytest.fixture
def walk(space_guard: SpaceGuard) -> Iterator[Walk]:
    """Seven machines on which nothing runs."""
    with space_guard.lend("quickstart") as home, NetworkLab(home, MACHINES) as lab:
        yield Walk(lab)


def test_the_five_machines(walk: Walk) -> None:
    walk.go(until="head -c")
    assert "has joined cluster 'fs3'" in walk.output["fs3 cluster join --token $(cat /srv/token)"]
    assert all(word in walk.output["fs3 doctor"] for word in ("ports", "names", "fsync", "space", "mtu", "rdma", "versions"))
    status = walk.status("h2")
    assert status["health"] == "healthy"
    assert {node["name"] for node in status["nodes"] if node["role"] == "storage"} == {f"h{at}-storage" for at in range(1, 6)}
    assert len(status["managers"]) == (3 if find_etcd() else 1)
    twice = walk.lab.machines["h1"].run("fs3 cluster init --storage-nodes 5 --replicas 3")
    assert (twice.returncode, "already" in twice.stderr) == (1, True), twice.stderr

    walk.go(until="mkdir -p /etc/fs3 /srv/disk1")  # through the loss of h3
    lost = walk.status("h4")
    assert lost["health"] == "degraded"
    assert any("h3-storage is dead" in problem["text"] for problem in lost["problems"]), lost["problems"]
    assert not next(node for node in lost["nodes"] if node["name"] == "h3-storage")["alive"]
    assert (walk.lab.machines["h5"].home / "srv/copy").read_bytes() == (walk.lab.machines["h4"].home / "srv/data").read_bytes()

    walk.go(until="fs3 config")
    joined = json.loads(walk.lab.machines["h1"].run("fs3 cluster machines --json").stdout)["machines"]
    assert [machine["machine"] for machine in joined] == [f"h{at}" for at in range(1, MACHINES + 1)]
    alive = {node["name"] for node in walk.status("h1")["nodes"] if node["alive"] and node["role"] == "storage"}
    assert alive == {f"h{at}-storage" for at in (1, 2, 4, 5, 6, 7)}

    walk.go()
    history = json.loads(walk.lab.machines["h1"].run("fs3 config history --json").stdout)
    assert [version["changed"] for version in history][-1] == {"storage.scrub_bytes_per_second": 32_000_000}
