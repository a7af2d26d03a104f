"""`fs3 doctor`: who reaches a machine, and how its certificates are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.cli.machine_checks import CheckOutcome, MachineCheck
from fs3.cli.node_config import load_node_config
from fs3.cli.security_checks import check_exposure_of
from fs3.drivers.tls import private_authority


def checks(tmp_path: Path, address: str, more: str = "") -> list[MachineCheck]:
    file = tmp_path / "node.toml"
    file.write_text(
        f'machine = "h1"\ndata_dir = "{tmp_path}/lib"\naddress = "{address}"\nmanagers = ["h1"]\n{more}\n'
        f'[[storage]]\ndisks = ["{tmp_path}/disk"]\n'
    )
    return list(check_exposure_of(load_node_config(file)))


def test_a_machine_that_only_itself_reaches(tmp_path: Path) -> None:
    (found,) = checks(tmp_path, "127.0.0.1")
    assert (found.outcome, found.told) == (CheckOutcome.OK, "reached from this machine alone")


def test_a_machine_that_others_reach(tmp_path: Path) -> None:
    security, tls = checks(tmp_path, "10.9.0.1", "insecure = true")
    assert security.outcome is tls.outcome is CheckOutcome.WARN
    assert "whatever reaches it may read and change everything" in security.told
    assert "not encrypted" in tls.told
    security, _ = checks(tmp_path, "10.9.0.1")
    assert (security.outcome, security.told) == (
        CheckOutcome.OK,
        "reached from other machines: serves only in a cluster with security",
    )


@pytest.mark.parametrize(("days", "outcome"), [(90, CheckOutcome.OK), (20, CheckOutcome.WARN), (-1, CheckOutcome.BAD)])
def test_certificates_that_end(tmp_path: Path, days: int, outcome: CheckOutcome) -> None:
    home = tmp_path / "ca"
    private_authority.make_authority(home, "test")
    private_authority.issue(home, home, "h1", ["10.9.0.1"], days=days)
    section = f'[tls]\nca = "{home}/ca.crt"\ncert = "{home}/h1.crt"\nkey = "{home}/h1.key"'
    _, ca, cert = checks(tmp_path, "10.9.0.1", section)
    assert ca.outcome is CheckOutcome.OK
    assert cert.outcome is outcome
    assert cert.told.startswith("CN=h1, until ")
    assert bool(cert.remedy) == (outcome is not CheckOutcome.OK)
    (home / "h1.key").chmod(0o644)
    _, broken = checks(tmp_path, "10.9.0.1", section)
    assert broken.outcome is CheckOutcome.BAD
    assert "everybody on this machine may read it" in broken.told
