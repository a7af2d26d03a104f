"""A cluster of machines that speaks TLS with nothing copied by hand: made with an authority, certificates brought by joining."""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fs3.cli.local import free_ports
from fs3.drivers.tls import private_authority
from tests.processes.machine_lab import LabMachine, wait_until
from tests.processes.network_lab import NetworkLab, NetworkMachine, wait_serving, why_no_network_lab
from tests.space import SpaceGuard

WHY_NOT = why_no_network_lab()
pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


class Lab:
    """h1 (manager, metadata, storage), h2 by a name, h3 by an address that a token allows: the manager does not see it there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_ports(20)
        self.manager = f"127.0.0.1:{self.port}"
        self.h1 = self.machine(
            "h1", "127.0.0.1", f'kv = "lmdb:{home}/h1/kv"\n[mgmtd]\nport = {self.port}\n[meta]\nport = {self.port + 2}\n'
        )
        self.h2 = self.machine("h2", "localhost")
        self.h3 = self.machine("h3", "127.0.0.3")
        init = ("cluster", "init", "--config", str(self.h1.file), "--targets", "1", "--tls", "--json")
        self.token = json.loads(self.h1.must(*init))["token"]
        self.ca = str(self.tls(self.h1, "ca.crt"))

    def machine(self, name: str, address: str, roles: str = "") -> LabMachine:
        """A machine that is not started."""
        home = self.home / name
        port = self.port + 2 + 2 * int(name[1:])
        text = f'machine = "{name}"\ndata_dir = "{home}/lib"\naddress = "{address}"\nmanagers = ["{self.manager}"]\n'
        text += f"insecure = true\n{roles}"
        return LabMachine(home, f'{text}[tls]\n[[storage]]\nport = {port}\ndisks = ["{home}/d1"]\n')

    def tls(self, machine: LabMachine, name: str) -> Path:
        """A file of a machine's certificates."""
        return machine.directory / "lib" / "tls" / name

    def join(self, machine: LabMachine, token: str) -> None:
        machine.must("cluster", "join", "--config", str(machine.file), "--token", token)

    def create(self, *options: str) -> str:
        return self.h1.must("cluster", "token", "create", "--config", str(self.h1.file), *options).strip()

    def served_by(self, machine: LabMachine) -> str:
        """Fingerprint of the certificate that a machine's storage process shows."""
        (port,) = re.findall(r"\[\[storage\]\]\nport = (\d+)", machine.file.read_text())
        address = re.findall(r'address = "(.*)"', machine.file.read_text())[0]
        shown = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((address, int(port))))
        return hashlib.sha256(shown).hexdigest()


@pytest.fixture(scope="module")
def lab(space_guard: SpaceGuard) -> Iterator[Lab]:
    """A cluster of three machines that runs; commands believe its authority."""
    with space_guard.lend("jointls") as home, ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        lab = Lab(home)
        stack.enter_context(lab.h1)
        lab.h1.serve()
        lab.h1.wait_said("h1-mgmtd serves on")
        lab.join(lab.h2, lab.token)
        refuse(lab.h3, "no certificate is issued for '127.0.0.3': the request comes from 127.0.0.1, and that is another address",
               "cluster", "join", "--config", str(lab.h3.file), "--token", lab.token)  # fmt: skip
        lab.join(lab.h3, lab.create("--address", "127.0.0.3"))
        for machine in (lab.h2, lab.h3):
            stack.enter_context(machine)
            machine.serve()
        patch.setenv("FS3_TLS_CA", lab.ca)
        lab.h1.must("status", lab.manager, "--wait", "healthy")
        yield lab


def refuse(machine: LabMachine, words: str, *arguments: str) -> None:
    """A command fails with one line that has these words."""
    done = machine.fs3(*arguments)
    assert done.returncode == 1, done.stdout
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_everything_is_encrypted_and_files_are_written_and_read(lab: Lab) -> None:
    status = json.loads(lab.h1.must("status", lab.manager, "--json"))
    offered = [endpoint for node in (*status["managers"], *status["nodes"]) for endpoint in node["endpoints"]]
    assert {endpoint.partition("://")[0] for endpoint in offered} == {"tls", "grpcs", "local"}
    assert all(364 < node["certificate_left_ms"] / 86_400_000 < 366 for node in status["nodes"])
    assert {node["name"] for node in status["nodes"]} == {"h1-meta", "h1-storage", "h2-storage", "h3-storage"}
    data = lab.home / "data"
    data.write_bytes(os.urandom(2_000_000))
    lab.h2.must("cp", f"file://{data}", f"fs3://{lab.manager}/data")
    lab.h3.must("cp", f"fs3://{lab.manager}/data", f"file://{data}.back")
    assert Path(f"{data}.back").read_bytes() == data.read_bytes()


def test_what_joining_has_brought(lab: Lab) -> None:
    for machine, name, address in ((lab.h1, "h1", "127.0.0.1"), (lab.h2, "h2", "localhost"), (lab.h3, "h3", "127.0.0.3")):
        (said,) = private_authority.describe(lab.tls(machine, f"{name}.crt"))
        assert (said["subject"], said["addresses"]) == (f"CN={name},O=fs3 services", address)
        assert stat.S_IMODE(lab.tls(machine, f"{name}.key").stat().st_mode) == 0o600
        assert lab.tls(machine, "ca.crt").read_text() == Path(lab.ca).read_text()
    assert not list((lab.home / "h2").rglob("ca.key")), "only where the cluster was made"
    key = lab.home / "h1" / "lib" / "authority" / "ca.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    log = (lab.home / "h1" / "lib" / "mgmtd" / "audit.log").read_text()
    told = [line for line in map(json.loads, log.splitlines()) if line["what"] == "IssueCertificate"]
    assert [(line["who"], line["about"], line["result"]) for line in told[:3]] == [
        ("h2", "h2 localhost", "ok"),
        ("h3", "h3 127.0.0.3", "NOT_ADMITTED"),
        ("h3", "h3 127.0.0.3", "ok"),
    ]
    secret = "".join(key.read_text().splitlines()[1:-1])
    assert secret[:40] not in log


def test_joining_again_changes_nothing(lab: Lab) -> None:
    before = lab.tls(lab.h2, "h2.crt").read_bytes()
    lab.join(lab.h2, lab.token)
    assert lab.tls(lab.h2, "h2.crt").read_bytes() == before


def test_a_certificate_is_renewed_without_a_restart(lab: Lab) -> None:
    renew = ("certs", "renew", "--config", str(lab.h3.file))
    assert re.search(r"h3\.crt is good for 36\d days more", lab.h3.must(*renew))
    before, pid = lab.served_by(lab.h3), lab.h3.children()
    assert "it is read within a second" in lab.h3.must(*renew, "--now")
    wait_until(lambda: lab.served_by(lab.h3) != before, lab.h3.said)
    assert lab.served_by(lab.h3) == private_authority.describe(lab.tls(lab.h3, "h3.crt"))[0]["sha256"]
    assert lab.h3.children() == pid
    refuse(
        lab.h3,
        "no certificate is issued for '127.0.0.1.example': the request comes from",
        *renew,
        "--address",
        "127.0.0.1.example",
    )


def test_a_certificate_of_another_machine_is_not_issued(lab: Lab) -> None:
    """A machine that has a token could else sit in front of a manager."""
    late = lab.machine("h4", "127.0.0.4")
    for address in ("127.0.0.4", "h1.example", "*.example"):
        late.file.write_text(re.sub(r'address = ".*"', f'address = "{address}"', late.file.read_text()))
        refuse(
            late, f"no certificate is issued for '{address}'", "cluster", "join", "--config", str(late.file), "--token", lab.token
        )
    machines = json.loads(lab.h1.must("cluster", "machines", lab.manager, "--json"))["machines"]
    assert [each["machine"] for each in machines] == ["h1", "h2", "h3"]
    assert not lab.tls(late, "h4.key").exists()


def test_a_machine_that_has_joined_does_not_say_what_certificates_are_for(lab: Lab) -> None:
    create = ("cluster", "token", "create", "--config", str(lab.h2.file))
    assert lab.h2.must(*create).startswith("fs3-")
    refuse(lab.h2, "only the machine that made the cluster (h1) makes tokens that allow addresses", *create, "--address", "h1")
    authority = str(lab.home / "h1" / "lib" / "authority")
    refuse(lab.h2, "the token of an administrator in FS3_TOKEN_FILE", "certs", "use", authority, "--config", str(lab.h2.file))
    late = lab.machine("h8", "127.0.0.8")
    refuse(
        late, "no certificate is issued", "cluster", "join", "--config", str(late.file), "--token", lab.h2.must(*create).strip()
    )


def test_a_certificate_that_is_not_of_its_key_is_brought_again(lab: Lab) -> None:
    """As a crash in the middle of a renewal leaves it."""
    cert, key = lab.tls(lab.h3, "h3.crt"), lab.tls(lab.h3, "h3.key")
    key.write_bytes(lab.tls(lab.h2, "h2.key").read_bytes())
    refuse(lab.h3, "`fs3 cluster join` with a token brings another key", "certs", "renew", "--config", str(lab.h3.file))
    lab.join(lab.h3, lab.token)
    assert private_authority.is_pair(cert, key)
    wait_until(lambda: lab.served_by(lab.h3) == private_authority.describe(cert)[0]["sha256"], lab.h3.said)


def test_what_is_missing_is_said(lab: Lab) -> None:
    plain = lab.machine("h5", "localhost")
    plain.file.write_text(plain.file.read_text().replace("[tls]\n", ""))
    refuse(plain, "has none", "cluster", "init", "--config", str(lab.h1.file).replace("h1", "h5"), "--tls")
    refuse(plain, "--address is of a certificate", "cluster", "join", "--config", str(plain.file), "--token", lab.token,
           "--address", "x")  # fmt: skip
    other = private_authority.make_authority(lab.home / "other", "other")
    late = lab.machine("h6", "localhost")
    lab.tls(late, "ca.crt").parent.mkdir(parents=True)
    lab.tls(late, "ca.crt").write_bytes(other.read_bytes())
    join = ("cluster", "join", "--config", str(late.file), "--token", lab.token)
    refuse(late, "its certificate is refused: it is of none of the authorities in tls_ca", *join)


def test_the_authority_is_exchanged_while_everything_runs(lab: Lab) -> None:
    """As docs/security.md says: the new one behind the old one, then new certificates; then the old one could go."""
    home = lab.home / "next"
    lab.h1.must("certs", "init", str(home), "--name", "next")
    assert "issued with CN=next,O=fs3 authority" in lab.h1.must("certs", "use", str(home), "--config", str(lab.h1.file))
    renew = ("certs", "renew", "--now", "--config", str(lab.h2.file))
    refuse(lab.h2, "it is not of the authority that the managers issue certificates with", *renew)
    both = Path(lab.ca).read_bytes() + (home / "ca.crt").read_bytes()
    for machine in (lab.h1, lab.h2, lab.h3):
        lab.tls(machine, "ca.crt").write_bytes(both)
    for machine, name in ((lab.h2, "h2"), (lab.h3, "h3"), (lab.h1, "h1")):
        before = lab.served_by(machine)
        machine.must("certs", "renew", "--now", "--config", str(machine.file))
        assert private_authority.describe(lab.tls(machine, f"{name}.crt"))[0]["issuer"] == "CN=next,O=fs3 authority"
        wait_until(lambda machine=machine, before=before: lab.served_by(machine) != before, machine.said)
    for machine in (lab.h1, lab.h2, lab.h3):
        lab.tls(machine, "ca.crt").write_bytes((home / "ca.crt").read_bytes())
    lab.h1.must("status", lab.manager, "--wait", "healthy")


def test_with_security_machines_join_and_renew_as_before(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    token = lab.home / "admin.token"
    lab.h1.must("security", "on", lab.manager, "--token-file", str(token))
    try:
        late = lab.machine("h7", "localhost")
        lab.join(late, lab.create())
        with late:
            late.serve()
            late.wait_said("h7-storage serves on")
            assert "it is read within a second" in late.must("certs", "renew", "--now", "--config", str(late.file))
            assert late.stop() == 0
        create = ("cluster", "token", "create", "--config", str(lab.h2.file), "--address", "h9.example")
        refuse(lab.h2, "only the machine that made the cluster", *create)
        with monkeypatch.context() as as_admin:
            as_admin.setenv("FS3_TOKEN_FILE", str(token))
            assert lab.h2.must(*create).startswith("fs3-")
    finally:
        monkeypatch.setenv("FS3_TOKEN_FILE", str(token))
        lab.h1.must("security", "off", lab.manager, "--yes")


# --- the names of the quickstart, on machines of their own ------------------------------------------------------------


def run(machine: NetworkMachine, script: str) -> str:
    done = machine.run(script)
    assert done.returncode == 0, f"{machine.name}: {script}\n{done.stdout}\n{done.stderr}\n{machine.said()}"
    return done.stdout


CONFIG = """
mkdir -p /etc/fs3 /srv/disk1
cat > /etc/fs3/node.toml <<END
data_dir = "/var/lib/fs3"
address = "$(hostname)"
managers = ["h1"]
insecure = true
kv = "lmdb:/var/lib/fs3/kv"
{roles}
[tls]
ca = "/etc/fs3/ca.crt"
[[storage]]
disks = ["/srv/disk1"]
END
echo 'export FS3_CLUSTER=h1 FS3_TLS_CA=/etc/fs3/ca.crt' > /etc/profile.d/fs3.sh
"""


@pytest.mark.skipif(bool(WHY_NOT), reason=f"no machines in namespaces: {WHY_NOT}")
def test_machines_with_names(space_guard: SpaceGuard) -> None:
    with space_guard.lend("jointls-names") as home, NetworkLab(home, 3) as lab:
        h1, h2, h3 = (lab.machines[name] for name in ("h1", "h2", "h3"))
        for machine in (h1, h2, h3):
            run(machine, CONFIG.format(roles="[mgmtd]\n[meta]" if machine is h1 else ""))
        serve = "fs3 serve > /var/lib/fs3/serve.log 2>&1 &"
        token = run(h1, f"fs3 cluster init --replicas 2 --tls | grep -o 'fs3-[0-9a-f-]*$'; {serve}").strip()
        wait_serving(h1, "h1-mgmtd serves on")
        config = h3.home / "etc/fs3/node.toml"
        own = config.read_text()
        config.write_text(own.replace('"h3"', '"h2"'))
        stolen = h3.run(f"fs3 cluster join --token {token}").stderr
        config.write_text(own)
        assert "no certificate is issued for 'h2': the request comes from 10.99.0.3, and the name leads to 10.99.0.2" in stolen
        for machine in (h2, h3):
            run(machine, f"fs3 cluster join --token {token}\n{serve}")
            wait_serving(machine, "-storage serves on")
        run(h3, "fs3 status --wait healthy")
        run(h2, "head -c 3000000 /dev/urandom > /srv/data && fs3 cp file:///srv/data fs3:///data")
        run(h3, "fs3 cp fs3:///data file:///srv/back && fs3 certs renew --now && fs3 certs renew")
        assert (h3.home / "srv/back").read_bytes() == (h2.home / "srv/data").read_bytes()
        assert "CN=h3,O=fs3 services" in run(h3, "fs3 doctor --running || true")
