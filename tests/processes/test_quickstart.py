"""docs/quickstart.md: bash runs every command, on machines that are network namespaces, and what it promises is so.

From the time the cluster is healthy until the end a client on a machine of its own writes and reads, and looks at every byte.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fs3.drill.etcd_cluster import find_etcd
from fs3.drill.load_process import LoadProcess
from tests.processes.machine_lab import wait_until
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
CLIENT = f"h{MACHINES + 1}"
"""The machine of the client, which is none of the cluster."""
LOAD = {
    "registers": 8,
    "settled": 8,
    "readers": 1,
    "settled_readers": 1,
    "pages": 0,
    "new_bytes_max": 50_000_000,
    "pause_ms": 50.0,
}
_VERIFY = r"""
import sys
from pathlib import Path
from fs3.drill.journal import read_journal
from fs3.drill.verify import verify_now
verdict = verify_now(sys.argv[1], read_journal(Path(sys.argv[2])))
print(verdict.registers, verdict.files, *verdict.wrong, sep="\n")
"""


def blocks() -> list[tuple[str, list[str], str]]:
    """(first line, machines, script) of each `sh` block, in order."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        first, _, script = block.partition("\n")
        where = re.fullmatch(r"# (?:on|switch|pull the plug of) (h\d(?:, h\d)*)(?: on)?", first)
        assert where, f"{first!r} does not say where the block is run"
        found.append((first, where[1].split(", "), script))
    return found


class Walk:
    """The document, walked through block by block."""

    def __init__(self, lab: NetworkLab) -> None:
        self.lab = lab
        self.output: dict[str, str] = {}
        """First line of a script -> what it has said, on the last of its machines."""
        self._left = blocks()

    def go(self, *, until: str = "") -> None:
        """Run blocks up to the one that has these words, exclusively; all that are left when there are none."""
        while self._left and not (until and any(until in part for part in (self._left[0][0], self._left[0][2]))):
            first, names, script = self._left.pop(0)
            for name in names:
                machine = self.lab.machines[name]
                if first.startswith("# pull"):
                    machine.pull_plug()
                    continue
                if first.startswith("# switch"):
                    machine.switch_on()
                self._run(machine, script)
        assert self._left or not until, f"no block has {until!r}"

    def _run(self, machine: NetworkMachine, script: str) -> None:
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
        if "etcd --name" in script or (script.startswith("printf") and machine.name != "h1"):
            return "true"
        return re.sub(r"etcd://[^\"]*", "lmdb:/var/lib/fs3/kv", script).replace('["h1", "h2", "h3"]', '["h1"]')

    def json(self, name: str, command: str) -> Any:
        """What `fs3 COMMAND --json` shows on a machine."""
        done = self.lab.machines[name].run(f"fs3 {command} --json")
        assert done.returncode == 0, f"{done.stderr}\n{self._logs()}"
        return json.loads(done.stdout)

    def status(self, name: str) -> dict[str, Any]:
        """What `fs3 status --json` shows on a machine."""
        found: dict[str, Any] = self.json(name, "status")
        return found

    def storage(self, *, alive: bool = True) -> set[str]:
        """Storage nodes, as h1 shows them."""
        return {node["name"] for node in self.status("h1")["nodes"] if node["role"] == "storage" and node["alive"] is alive}

    def held(self) -> dict[str, int]:
        """Targets of each storage node."""
        return {node["node"]: node["targets"] for node in self.json("h1", "admin moves")["nodes"]}

    def wait_degraded(self, name: str, lost: str) -> None:
        """Until the status that a machine shows says that a storage node is dead."""

        def is_noticed() -> bool:
            status = self.status(name)
            return status["health"] == "degraded" and any(f"{lost} is dead" in each["text"] for each in status["problems"])

        wait_until(is_noticed, lambda: str(self.status(name)["problems"]))


class Client:
    """A load on a machine of its own; at the end everything it wrote is looked at, on every replica."""

    def __init__(self, machine: NetworkMachine) -> None:
        self._machine = machine
        self._url = "fs3://h1,h2,h3/" if find_etcd() else "fs3://h1/"
        self._journal = machine.home / "srv" / "journal"
        self.load = LoadProcess(self._url, self._journal, prefix=machine.prefix, **LOAD)

    def check(self) -> None:
        """No operation has failed, no byte was wrong, and all are there."""
        journal = self.load.stop()
        assert (journal.wrong, journal.failed) == ([], [])
        command = [*self._machine.prefix, sys.executable, "-P", "-c", _VERIFY, self._url, str(self._journal)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        registers, files, *wrong = done.stdout.split("\n")
        assert [each for each in wrong if each] == []
        assert int(registers) == 3 * len(journal.registers), "each on each of three replicas"
        assert int(files) == len(journal.files)


@pytest.fixture
def walk(space_guard: SpaceGuard) -> Iterator[Walk]:
    """Machines on which nothing runs."""
    with space_guard.lend("quickstart") as home, NetworkLab(home, MACHINES + 1) as lab:
        yield Walk(lab)


def test_the_five_machines(walk: Walk) -> None:
    walk.go(until="head -c")
    assert "has joined cluster 'fs3'" in walk.output["fs3 cluster join --token $(cat /srv/token)"]
    assert all(word in walk.output["fs3 doctor"] for word in ("ports", "names", "fsync", "space", "mtu", "rdma", "versions"))
    assert walk.status("h2")["health"] == "healthy"
    assert walk.storage() == {f"h{at}-storage" for at in range(1, 6)}
    assert len(walk.status("h2")["managers"]) == (3 if find_etcd() else 1)
    twice = walk.lab.machines["h1"].run("fs3 cluster init --storage-nodes 5 --replicas 3")
    assert (twice.returncode, "already" in twice.stderr) == (1, True), twice.stderr

    client = Client(walk.lab.machines[CLIENT])
    with client.load as load:
        walk.go(until="pull the plug of h3")
        srv4, srv5 = (walk.lab.machines[name].home / "srv" for name in ("h4", "h5"))
        assert (srv5 / "copy").read_bytes() == (srv4 / "data").read_bytes()
        walk.go(until="fs3 status\nfs3 cp")
        walk.wait_degraded("h4", "h3-storage")
        walk.go(until="fs3 cluster token create")  # through its return
        assert walk.storage() == {f"h{at}-storage" for at in range(1, 6)}
        load.wait_progress("write", 20, 60)

        walk.go(until="fs3 admin rebalance")
        assert [each["machine"] for each in walk.json("h1", "cluster machines")["machines"]] == [
            f"h{at}" for at in range(1, MACHINES + 1)
        ]
        walk.go(until="pull the plug of h5")
        held = walk.held()
        assert (held["h6-storage"] > 0, held["h7-storage"] > 0, sum(held.values())) == (True, True, 30), held

        walk.go(until="fs3 admin drain")  # through the healing
        assert "h5-storage" not in walk.storage() | walk.storage(alive=False)
        load.wait_progress("write", 20, 60)
        refused = walk.lab.machines["h1"].run("fs3 cluster remove h4")
        assert "hold targets: h4-storage. `fs3 admin drain h4-storage` moves them away" in refused.stderr

        walk.go(until="fs3 config")
        rest = {f"h{at}-storage" for at in (1, 2, 3, 6, 7)}
        assert (walk.storage(), set(walk.held()), sum(walk.held().values())) == (rest, rest, 30)
        assert [each["machine"] for each in walk.json("h1", "cluster machines")["machines"]] == ["h1", "h2", "h3", "h6", "h7"]

        walk.go(until="process.lock true\nfs3 serve")
        assert [version["changed"] for version in walk.json("h1", "config history")][-1] == {
            "storage.scrub_bytes_per_second": 32_000_000
        }
        before = {node["name"]: node["pid"] for node in walk.status("h1")["nodes"]}
        walk.go()
        after = {node["name"]: node["pid"] for node in walk.status("h1")["nodes"]}
        assert set(before) == set(after)
        assert all(after[name] != pid for name, pid in before.items()), "each was started anew"
        assert walk.status("h1")["health"] == "healthy"
        load.wait_progress("write", 20, 60)
        client.check()
