"""What `fs3 doctor` looks at, and what it makes of it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fs3.cli import machine_checks
from fs3.cli.machine_checks import (
    CheckOutcome,
    MachineCheck,
    assess_clock,
    assess_fsync,
    assess_mtu,
    check_disks,
    check_engine,
    check_managers,
    check_names,
    check_network,
    check_ports,
    check_rdma,
    file_system_of,
    run_checks,
    why_not_free,
)
from fs3.cli.main import app
from fs3.cli.node_config import MachineConfig, load_node_config

BAD, OK, WARN = CheckOutcome.BAD, CheckOutcome.OK, CheckOutcome.WARN


def machine(tmp_path: Path, **changes: str) -> MachineConfig:
    values = {"address": '"127.0.0.1"', "managers": '["127.0.0.1:1"]', "kv": '"etcd://127.0.0.1:1/x"'} | changes
    text = f'machine = "h1"\ndata_dir = "{tmp_path}/lib"\n'
    text += "".join(f"{key} = {value}\n" for key, value in values.items())
    file = tmp_path / "node.toml"
    file.write_text(f'{text}[mgmtd]\n[[storage]]\ndisks = ["{tmp_path}/d1", "{tmp_path}/d2"]\n')
    return load_node_config(file)


def only(found: list[MachineCheck], name: str) -> list[MachineCheck]:
    return [check for check in found if check.name == name]


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    config = machine(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        assert why_not_free("127.0.0.1", port) == "Address already in use"
        (tmp_path / "node.toml").write_text((tmp_path / "node.toml").read_text().replace("[mgmtd]", f"[mgmtd]\nport = {port}"))
        config = load_node_config(tmp_path / "node.toml")
        first = next(check_ports(config, running=False))
        assert (first.outcome, first.subject) == (BAD, str(port))
        assert first.told == "h1-mgmtd cannot listen on 127.0.0.1: Address already in use"
        assert next(check_ports(config, running=True)).outcome is OK
    assert why_not_free("127.0.0.1", port) == ""
    assert next(check_ports(config, running=False)).outcome is OK
    assert next(check_ports(config, running=True)).outcome is WARN


def test_names_that_lead_nowhere_and_in_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: object, **__: object) -> list[object]:
        if host == "nowhere":
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, 0, 0, "", ({"h1": "127.0.1.1"}.get(host, "10.0.0.9"), 0))]

    config = machine(tmp_path, address='"h1"', managers='["nowhere", "h2:8000"]')
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    own, nowhere, other = check_names(config)
    assert (own.outcome, own.told) == (WARN, "127.0.1.1")
    assert (nowhere.outcome, nowhere.told) == (BAD, "cannot be resolved: Name or service not known")
    assert (other.outcome, other.subject, other.told) == (OK, "h2", "10.0.0.9")


def test_the_kind_of_file_system() -> None:
    mounts = "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw 0 0\ntmpfs /data/my\\040ram tmpfs rw 0 0\n"
    assert file_system_of(Path("/etc/fs3"), mounts) == "ext4"
    assert file_system_of(Path("/data/1"), mounts) == "xfs"
    assert file_system_of(Path("/database"), mounts) == "ext4"
    assert file_system_of(Path("/data/my ram/x"), mounts) == "tmpfs"
    assert file_system_of(Path("/x"), "") == ""


@pytest.mark.parametrize(("seconds", "outcome"), [(5e-6, BAD), (1e-4, OK), (5e-3, OK), (5e-2, WARN)])
def test_disks_that_are_too_quick_and_too_slow(seconds: float, outcome: CheckOutcome) -> None:
    assert assess_fsync(seconds)[0] is outcome


@pytest.mark.parametrize(("mtu", "outcome"), [(576, BAD), (1500, OK), (9000, OK)])
def test_packets(mtu: int, outcome: CheckOutcome) -> None:
    assert assess_mtu("eth0", mtu).outcome is outcome


@pytest.mark.parametrize(("apart", "outcome"), [(0.1, OK), (-1.0, OK), (5.0, WARN), (-3600.0, BAD)])
def test_clocks(apart: float, outcome: CheckOutcome) -> None:
    assert assess_clock("h1:8000", apart).outcome is outcome


def test_disks_are_looked_at_and_left_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "measure_fsync", lambda directory: 1e-3)
    (tmp_path / "d1").mkdir()
    found = list(check_disks(machine(tmp_path)))
    assert {check.subject for check in found} == {f"{tmp_path}/{name}" for name in ("lib", "d1", "d2")}
    assert all(check.outcome is OK for check in only(found, "fsync"))
    assert [check.subject for check in only(found, "disk")] == [f"{tmp_path}/d2"], "on the same file system"
    assert list((tmp_path / "d1").iterdir()) == []
    assert not (tmp_path / "d2").exists()


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "d1").write_text("no directory")
    found = [check for check in check_disks(machine(tmp_path)) if check.subject.endswith("d1")]
    assert any(check.outcome is BAD and "cannot be written" in check.told for check in only(found, "fsync"))


def test_a_real_write_is_measured_and_removed(tmp_path: Path) -> None:
    assert machine_checks.measure_fsync(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []


def test_the_device_of_the_address(tmp_path: Path) -> None:
    (found,) = check_network(machine(tmp_path))
    assert (found.name, found.subject, found.outcome) == ("mtu", "lo", OK)
    (other,) = check_network(machine(tmp_path, address='"192.0.2.1"'))
    assert other.outcome is CheckOutcome.SKIPPED


def test_rdma_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_RDMA", tmp_path / "none")
    assert [check.told for check in check_rdma()] == ["none: data travel by TCP"]
    for name, state in (("mlx5_0", "4: ACTIVE"), ("mlx5_1", "1: DOWN")):
        port = tmp_path / "rdma" / name / "ports" / "1"
        port.mkdir(parents=True)
        (port / "state").write_text(f"{state}\n")
    monkeypatch.setattr(machine_checks, "_RDMA", tmp_path / "rdma")
    assert [(check.subject, check.outcome) for check in check_rdma()] == [("mlx5_0", OK), ("mlx5_1", WARN)]


def test_engines_and_managers_that_are_not_reached(tmp_path: Path) -> None:
    config = machine(tmp_path)
    (engine,) = check_engine(config)
    assert (engine.outcome, engine.subject) == (BAD, "etcd 127.0.0.1:1")
    (manager,) = check_managers(config)
    assert (manager.outcome, manager.subject) == (WARN, "127.0.0.1:1")
    assert list(check_engine(machine(tmp_path, kv=f'"lmdb:{tmp_path}/kv"'))) == []


def test_the_table_the_document_and_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_check_file_system", lambda directory, place: iter(()))
    monkeypatch.setattr(machine_checks, "measure_fsync", lambda directory: 1e-3)
    machine(tmp_path)
    arguments = ["doctor", "--config", str(tmp_path / "node.toml")]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    document = json.loads(done.stdout)
    assert (done.exit_code, document["good"]) == (1, False), "the engine is not there"
    assert {check["of"] for check in document["checks"] if check["outcome"] == "bad"} == {"etcd 127.0.0.1:1"}
    assert "etcd 127.0.0.1:1" in CliRunner().invoke(app, arguments).stdout
    good = machine(tmp_path, kv=f'"lmdb:{tmp_path}/kv"')
    assert not only(run_checks(good, running=False), "engine")
    assert CliRunner().invoke(app, arguments).exit_code == 0
