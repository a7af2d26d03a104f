"""`fs3 certs`, the certificates of a local cluster, and where a process may listen."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.cli.directory import ClusterDirectory, Shape
from fs3.cli.exposure import check_exposure, is_loopback
from fs3.cli.local_tls import addresses_of, client_files, ensure_certificates, process_files
from fs3.cli.main import app
from fs3.drivers.os.clock import OsClock
from fs3.drivers.tls import private_authority
from fs3.drivers.tls.credentials import TlsCredentials


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["certs", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refusal(*arguments: str) -> FS3Error:
    found = CliRunner().invoke(app, ["certs", *arguments]).exception
    assert isinstance(found, FS3Error)
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_authority_is_not_replaced_by_what_it_issues(tmp_path: Path) -> None:
    run("init", str(tmp_path))
    before = (tmp_path / "ca.key").read_bytes()
    assert "would be replaced" in str(refusal("issue", str(tmp_path), "ca", "--address", "h1"))
    assert (tmp_path / "ca.key").read_bytes() == before


def test_an_authority_and_what_it_issues(tmp_path: Path) -> None:
    home = tmp_path / "ca"
    assert "ca.crt is what every machine and client is given" in run("init", str(home))
    run("issue", str(home), "h1", "--address", "h1.example", "--address", "10.9.0.1", "--address", "fd00::1")
    run("issue", str(home), "alice", "--user", "--organization", "research", "--out", str(tmp_path / "alice"), "--days", "7")
    shown = json.loads(run("show", "--json", str(home / "ca.crt"), str(home / "h1.crt"), str(tmp_path / "alice" / "alice.crt")))
    assert [said["subject"] for said in shown] == ["CN=fs3,O=fs3 authority", "CN=h1,O=fs3 services", "CN=alice,O=research"]
    assert {said["issuer"] for said in shown} == {"CN=fs3,O=fs3 authority"}
    assert [said["addresses"] for said in shown] == ["", "h1.example, 10.9.0.1, fd00::1", ""]
    assert "subject     CN=h1,O=fs3 services" in run("show", str(home / "h1.crt"))
    assert mode(home) == 0o700
    assert [mode(home / name) for name in ("ca.key", "h1.key", "ca.crt", "h1.crt")] == [0o600, 0o600, 0o644, 0o644]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "ca"
    assert refusal("issue", str(home), "h1", "--address", "h1").code is Code.NOT_FOUND
    run("init", str(home))
    before = (home / "ca.key").read_bytes()
    assert refusal("init", str(home)).code is Code.EXISTS
    assert (home / "ca.key").read_bytes() == before
    for arguments, said in (
        (("h1",), "one of the two"),
        (("h1", "--user", "--address", "h1"), "one of the two"),
        (("h1", "--address", "h1", "--organization", "x"), "--organization is of users"),
        (("../h1", "--user"), "is no name"),
        (("h1", "--address", "a b"), "no address and no host name"),
        (("h1", "--user", "--days", "0"), "--days 0"),
    ):
        assert said in str(refusal("issue", str(home), *arguments))
    (home / "ca.key").write_bytes(b"no key")
    assert "is damaged" in str(refusal("issue", str(home), "h1", "--user"))
    (tmp_path / "text").write_text("no certificate")
    assert "no PEM file of certificates" in str(refusal("show", str(tmp_path / "text")))
    assert "cannot be read" in str(refusal("show", str(tmp_path / "absent")))


def test_a_key_is_never_written_through_a_link(tmp_path: Path) -> None:
    """A name that another user has put there is replaced, and what it leads to stays as it is."""
    home = tmp_path / "ca"
    run("init", str(home))
    target = tmp_path / "target"
    target.write_text("precious")
    (home / "h1.key").symlink_to(target)
    run("issue", str(home), "h1", "--user")
    assert target.read_text() == "precious"
    assert not (home / "h1.key").is_symlink()


def test_processes_get_certificates_and_keep_them(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path / "c")
    shape = Shape(host="0.0.0.0", advertise="h1.example", tls=True)
    ensure_certificates(directory, shape, ["mgmtd", "storage-1"])
    files = process_files(directory, "mgmtd")
    TlsCredentials(files, OsClock()).server_context()
    TlsCredentials(client_files(directory), OsClock()).client_context()
    (said,) = private_authority.describe(Path(files.cert))
    assert said["subject"] == "CN=mgmtd,O=fs3 services"
    assert said["addresses"].split(", ") == addresses_of(shape) == ["localhost", "127.0.0.1", "::1", "h1.example"]
    before = Path(files.cert).read_bytes()
    ensure_certificates(directory, shape, ["mgmtd"])
    assert Path(files.cert).read_bytes() == before


def test_certificates_that_end_soon_or_name_other_addresses_are_made_anew(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path / "c")
    shape = Shape(tls=True)
    ensure_certificates(directory, shape, ["mgmtd"])
    cert, home = Path(process_files(directory, "mgmtd").cert), directory.path / "tls"
    private_authority.issue(home, home, "mgmtd", addresses_of(shape), days=20)
    before = cert.read_bytes()
    ensure_certificates(directory, shape, ["mgmtd"])
    assert cert.read_bytes() != before
    shape.advertise = "elsewhere"
    ensure_certificates(directory, shape, ["mgmtd"])
    assert "elsewhere" in private_authority.describe(cert)[0]["addresses"]


def test_certificates_of_another_authority_are_used_and_not_made(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path / "c")
    shape = Shape(tls=True)
    ensure_certificates(directory, shape, ["mgmtd"])
    (directory.path / "tls" / "ca.key").unlink()
    ensure_certificates(directory, shape, ["mgmtd"])
    with pytest.raises(FS3Error, match="a certificate of meta is missing") as caught:
        ensure_certificates(directory, shape, ["meta"])
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.5.5.5", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
        ("10.9.0.1", False), ("fd00::1", False), ("", False), ("name.invalid", False),
    ],
)  # fmt: skip
def test_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected


def test_listening_elsewhere_without_security_takes_a_word() -> None:
    for listen in ("0.0.0.0:8000", "[::]:8000", "10.9.0.1:8000"):
        with pytest.raises(FS3Error, match=r"insecure = true, or --insecure"):
            check_exposure(listen, is_secured=False, is_insecure=False)
        check_exposure(listen, is_secured=True, is_insecure=False)
        check_exposure(listen, is_secured=False, is_insecure=True)
    check_exposure("[::1]:0", is_secured=False, is_insecure=False)
