"""A cluster of machines, here all on loopback addresses: made once, joined with a token, known by keys and not by addresses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fs3.cli.ports import free_ports
from tests.processes.machine_lab import LabMachine, wait_until
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


class Lab:
    """h1 (manager, metadata, storage) by its IPv6 address, h2 (storage) by its name, h3 (storage) by its IPv4 address."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_ports(20)
        self.managers = f"[::1]:{self.port}"
        self.h1 = self.machine(
            "h1", "::1", f'kv = "lmdb:{home}/h1/kv"\n[mgmtd]\nport = {self.port}\n[meta]\nport = {self.port + 2}\n'
        )
        self.h2 = self.machine("h2", "localhost")
        self.h3 = self.machine("h3", "127.0.0.3")
        said = json.loads(
            self.h1.must("cluster", "init", "--config", str(self.h1.file), "--targets", "1", "--uses", "2", "--json")
        )
        self.cluster, self.token = said["cluster"], said["token"]

    def machine(self, name: str, address: str, roles: str = "", directory: str = "") -> LabMachine:
        """A machine that is not started."""
        home = self.home / (directory or name)
        port = self.port + 2 + 2 * int(name[1:])
        text = f'machine = "{name}"\ndata_dir = "{home}/lib"\naddress = "{address}"\nmanagers = ["{self.managers}"]\n'
        text += f"insecure = true\n{roles}"
        return LabMachine(home, f'{text}[[storage]]\nport = {port}\ndisks = ["{home}/d1", "{home}/d2"]\n')

    def status(self) -> dict:
        """What `fs3 status --json` shows."""
        return json.loads(self.h1.fs3("status", self.managers, "--json").stdout)

    def node(self, name: str) -> dict:
        """A node, as the status shows it."""
        return next(node for node in self.status()["nodes"] if node["name"] == name)

    def wait_healthy(self) -> None:
        """Until all replicas serve."""
        self.h1.must("status", self.managers, "--wait", "healthy")


@pytest.fixture(scope="module")
def lab(space_guard: SpaceGuard) -> Iterator[Lab]:
    """A cluster of three machines that runs."""
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists() or not Path("/proc/net/if_inet6").read_text():
        pytest.skip("no IPv6 here")
    with space_guard.lend("machines") as home, ExitStack() as stack:
        lab = Lab(home)
        for machine in (lab.h1, lab.h2, lab.h3):
            if machine is not lab.h1:
                machine.must("cluster", "join", "--config", str(machine.file), "--token", lab.token)
            stack.enter_context(machine)
            machine.serve()
            machine.wait_said("-storage serves on")
        lab.wait_healthy()
        yield lab


def refuse(machine: LabMachine, words: str, *arguments: str) -> None:
    """A command fails with one line that has these words."""
    done = machine.fs3(*arguments)
    assert done.returncode == 1
    assert re.search(words, done.stderr), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_files_are_written_and_read(lab: Lab) -> None:
    data = lab.home / "data"
    data.write_bytes(os.urandom(3_000_000))
    lab.h2.must("cp", f"file://{data}", f"fs3://{lab.managers}/data")
    lab.h3.must("cp", f"fs3://{lab.managers}/data", f"file://{data}.back")
    assert Path(f"{data}.back").read_bytes() == data.read_bytes()


def test_a_cluster_is_made_once(lab: Lab) -> None:
    config = str(lab.h1.file)
    refuse(lab.h1, rf"the store holds cluster 'fs3' \({lab.cluster}\) already", "cluster", "init", "--config", config)
    refuse(lab.h2, "a cluster is made on a machine that runs a manager", "cluster", "init", "--config", str(lab.h2.file))
    assert json.loads((lab.home / "h1" / "lib" / "machine.json").read_text())["cluster"] == lab.cluster, "it is what it was"


def test_tokens_that_are_no_good(lab: Lab) -> None:
    late = lab.machine("h4", "127.0.0.4")
    join = ("cluster", "join", "--config", str(late.file), "--token")
    refuse(late, "was used 2 times already, by h2, h3: make another", *join, lab.token)
    refuse(late, "its secret is wrong", *join, f"{lab.token[:-4]}0000")
    refuse(late, "this is no token: a token is fs3-CLUSTER-ID-SECRET", *join, "sesame")
    refuse(late, "the token is of cluster 00000000…, this is", *join, f"fs3-00000000-{lab.token.split('-', 2)[2]}")
    create = ("cluster", "token", "create", "--config", str(lab.h2.file), "--json")
    short = json.loads(lab.h2.must(*create, "--lifetime", "1ms"))
    refuse(late, r"token \w+ has expired", *join, short["token"])
    good = json.loads(lab.h2.must(*create))
    lab.h2.must("cluster", "token", "revoke", good["id"], "--config", str(lab.h2.file))
    refuse(late, r"token \w+ was revoked", *join, good["token"])
    listed = json.loads(lab.h1.must("cluster", "token", "list", lab.managers, "--json"))["tokens"]
    assert {token["id"] for token in listed} >= {good["id"], short["id"]}
    assert lab.token.split("-")[3] not in json.dumps(listed), "secrets are shown to nobody"
    refuse(late, "this machine is not set up|has joined no cluster", "serve", "--config", str(late.file))
    refuse(late, "has joined no cluster", "cluster", "token", "create", "--config", str(late.file))


def test_two_machines_of_one_name(lab: Lab) -> None:
    token = json.loads(lab.h1.must("cluster", "token", "create", "--config", str(lab.h1.file), "--json"))["token"]
    twin = lab.machine("h3", "127.0.0.9", directory="twin")
    refuse(twin, "has a machine 'h3' already, with another key", "cluster", "join", "--config", str(twin.file), "--token", token)


def test_a_machine_of_another_cluster(lab: Lab) -> None:
    other = LabMachine(
        lab.home / "other",
        f'machine = "h9"\ncluster = "other"\ndata_dir = "{lab.home}/other/lib"\naddress = "127.0.0.1"\n'
        f'kv = "lmdb:{lab.home}/other/kv"\n[mgmtd]\nport = {lab.port + 18}\n',
    )
    other.must("cluster", "init", "--config", str(other.file))
    token = json.loads(lab.h1.must("cluster", "token", "create", "--config", str(lab.h1.file), "--json"))["token"]
    refuse(other, "belongs to cluster 'other'.* the token is of another one", "cluster", "join", "--config", str(other.file),
           "--token", token)  # fmt: skip
    # Its manager, given the store of this cluster, ends with the reason and is started again, which is said each time.
    other.file.write_text(other.file.read_text().replace(f"{lab.home}/other/kv", f"{lab.home}/h1/kv"))
    with other:
        other.serve()
        other.wait_said(f"the store holds cluster 'fs3' ({lab.cluster}), this machine has joined")
        other.wait_said("h9-mgmtd has ended: exit status 1. It is started again in", 2)


def test_a_machine_that_comes_back_under_another_address(lab: Lab) -> None:
    before = lab.node("h3-storage")
    assert lab.h3.stop() == 0
    lab.h3.file.write_text(lab.h3.file.read_text().replace("127.0.0.3", "127.0.0.33"))
    lab.h3.serve()
    lab.wait_healthy()
    after = lab.node("h3-storage")
    assert after["id"] == before["id"]
    assert any("127.0.0.33" in endpoint for endpoint in after["endpoints"])
    assert len(lab.status()["nodes"]) == 4


def test_a_process_that_ends_is_started_again(lab: Lab) -> None:
    (child,) = lab.h2.children()
    count = lab.h2.said().count("h2-storage serves on")
    os.kill(child, signal.SIGKILL)
    lab.h2.wait_said("h2-storage has ended: signal SIGKILL. It is started again in 0.25 s")
    lab.h2.wait_said("h2-storage serves on", count + 1)
    lab.wait_healthy()


def test_its_processes_end_with_the_supervisor(lab: Lab) -> None:
    (child,) = lab.h2.children()
    os.kill(lab.h2.pid, signal.SIGKILL)
    lab.h2._end(signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{child}").exists(), lab.h2.said)
    lab.h2.serve()
    lab.wait_healthy()


def test_a_second_one_for_the_same_directory(lab: Lab) -> None:
    refuse(lab.h2, r"already served by pid \d+", "serve", "--config", str(lab.h2.file))


def test_a_machine_that_was_removed_comes_back(lab: Lab) -> None:
    create = ("cluster", "token", "create", "--config", str(lab.h1.file), "--json")
    late = lab.machine("h5", "127.0.0.5")
    late.must("cluster", "join", "--config", str(late.file), "--token", json.loads(lab.h1.must(*create))["token"])
    with late:
        late.serve()
        late.wait_said("h5-storage serves on")
        remove = ("cluster", "remove", "h5", "--config", str(lab.h1.file))
        wait_until(lambda: lab.node("h5-storage")["alive"], late.said)
        refuse(lab.h1, "has nodes that are alive: h5-storage. Stop it first", *remove)
        assert late.stop() == 0
        lab.h1.must(*remove)
        late.serve()
        late.wait_said("machine 'h5' has not joined cluster 'fs3', or was removed from it: `fs3 cluster join` with a new token")
    late.must("cluster", "join", "--config", str(late.file), "--token", json.loads(lab.h1.must(*create))["token"])
    machines = json.loads(lab.h1.must("cluster", "machines", lab.managers, "--json"))["machines"]
    assert [machine["machine"] for machine in machines] == ["h1", "h2", "h3", "h5"]
    lab.h1.must("admin", "remove", "h5-storage", lab.managers)
    assert len(lab.status()["nodes"]) == 4


def test_a_machine_that_lost_its_directory_and_has_its_disks_joins_again(lab: Lab) -> None:
    before = lab.node("h3-storage")
    assert lab.h3.stop() == 0
    wait_until(lambda: not lab.node("h3-storage")["alive"], lab.h3.said)
    remove = ("cluster", "remove", "h3", "--config", str(lab.h1.file))
    refuse(lab.h1, "has nodes that hold targets: h3-storage. `fs3 admin drain h3-storage`", *remove)
    lab.h1.must(*remove, "--comes-back")
    shutil.rmtree(lab.home / "h3" / "lib")
    token = json.loads(lab.h1.must("cluster", "token", "create", "--config", str(lab.h1.file), "--json"))["token"]
    lab.h3.must("cluster", "join", "--config", str(lab.h3.file), "--token", token)
    lab.h3.serve()
    lab.wait_healthy()
    assert lab.node("h3-storage")["id"] == before["id"]
    assert lab.node("h3-storage")["alive"]


def test_machines_prove_themselves_by_their_keys_once_security_is_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    token = lab.home / "admin.token"
    lab.h1.must("security", "on", lab.managers, "--token-file", str(token))
    refuse(lab.h1, "the cluster asks who calls", "status", lab.managers)
    create = ("cluster", "token", "create", "--config", str(lab.h1.file), "--json")
    late = lab.machine("h6", "127.0.0.6")
    with late:
        late.must("cluster", "join", "--config", str(late.file), "--token", json.loads(lab.h1.must(*create))["token"])
        late.serve()
        late.wait_said("h6-storage serves on")
        assert lab.h2.stop() == 0
        lab.h2.serve()
        monkeypatch.setenv("FS3_TOKEN_FILE", str(token))
        lab.wait_healthy()
        assert lab.node("h6-storage")["alive"]
        nodes = json.loads(lab.h1.must("security", "status", lab.managers, "--json"))["nodes"]
        assert {node["name"] for node in nodes if node["has_keys"]} >= {"h1-meta", "h1-storage", "h2-storage", "h6-storage"}
        assert late.stop() == 0
    lab.h1.must("security", "off", lab.managers, "--yes")
