"""Requests for certificates, and what an authority makes of them."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.os.clock import OsClock
from fs3.drivers.tls.credentials import TlsCredentials, TlsFiles, UnverifiedTls
from fs3.drivers.tls.issuer import MachineIssuer
from fs3.drivers.tls.private_authority import (
    days_left,
    describe,
    is_pair,
    make_authority,
    make_request,
    read_authority,
    sign_request,
    write_files,
)
from fs3.model.machine import CertificateAuthority


@pytest.fixture
def authority(tmp_path: Path) -> tuple[bytes, bytes]:
    make_authority(tmp_path / "authority", "test")
    return read_authority(tmp_path / "authority")


def refused(code: Code, words: str, *arguments: object) -> None:
    with pytest.raises(FS3Error, match=words) as failure:
        sign_request(*arguments)  # type: ignore[arg-type]
    assert failure.value.code is code


def test_a_certificate_for_the_key_of_a_request(authority: tuple[bytes, bytes], tmp_path: Path) -> None:
    key, request = make_request("whatever it says")
    cert = sign_request(authority, request, "h2", ["h2", "10.9.0.2", "fd99::2"])
    names = ("ca.crt", "h2.crt", "h2.key")
    ca_file, cert_file, key_file = (tmp_path / "new" / name for name in names)
    write_files({key_file: (key, 0o600), cert_file: (cert, 0o644), ca_file: (authority[0], 0o644)})
    assert [stat.S_IMODE(each.stat().st_mode) for each in (key_file, cert_file, key_file.parent)] == [0o600, 0o644, 0o700]
    (said,) = describe(cert_file)
    assert said["subject"] == "CN=h2,O=fs3 services"
    assert said["addresses"] == "h2, 10.9.0.2, fd99::2"
    assert 364 < days_left(cert_file) < 366
    assert isinstance(
        TlsCredentials(TlsFiles(*map(str, (ca_file, cert_file, key_file))), OsClock()).server_context(), ssl.SSLContext
    )


def test_requests_that_are_none(authority: tuple[bytes, bytes]) -> None:
    _, request = make_request("h2")
    _, other = make_request("h3")
    lines, others = request.decode().splitlines(), other.decode().splitlines()
    swapped = "\n".join([*lines[:2], *others[2:]]).encode()
    for bad in (b"", b"nonsense", request[: len(request) // 2], swapped, authority[0], authority[1]):
        refused(Code.INVALID, "request for a certificate", authority, bad, "h2", ["h2"])
    refused(Code.INVALID, "is no name", authority, request, "no name", ["h2"])
    refused(Code.INVALID, "no address and no host name", authority, request, "h2", ["no host"])
    refused(Code.CONFIG, "damaged", (authority[0], b"nonsense"), request, "h2", ["h2"])


def test_a_key_of_another_kind(authority: tuple[bytes, bytes]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        refused(Code.INVALID, "P-256", authority, request.public_bytes(serialization.Encoding.PEM), "h2", ["h2"])


def test_a_certificate_and_a_key_that_belong_together(authority: tuple[bytes, bytes], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key, request = make_request("h2")
    cert_file, key_file = tmp_path / "h2.crt", tmp_path / "h2.key"
    cert_file.write_bytes(sign_request(authority, request, "h2", ["h2"]) + authority[0])
    assert not is_pair(cert_file, key_file), "there is none"
    private = serialization.load_pem_private_key(key, None)
    lock = serialization.BestAvailableEncryption(b"phrase")
    encrypted = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    for secret, belongs in ((key, True), (make_request("h2")[0], False), (b"nonsense", False), (encrypted, True)):
        key_file.write_bytes(secret)
        assert is_pair(cert_file, key_file) is belongs
    key_file.unlink()
    key_file.mkdir()
    with pytest.raises(FS3Error, match="cannot be read") as failure:
        is_pair(cert_file, key_file)
    assert failure.value.code is Code.CONFIG


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FS3Error, match="cannot be written") as failure:
        write_files({tmp_path / "file" / "h2.key": (b"k", 0o600)})
    assert failure.value.code is Code.DISK


async def test_a_manager_issues_and_looks_up(authority: tuple[bytes, bytes]) -> None:
    issuer = MachineIssuer()
    _, request = make_request("h2")
    assert b"BEGIN CERTIFICATE" in await issuer.issue(CertificateAuthority(*authority), request, "h2", ["h2"])
    assert await issuer.resolve("localhost") & {"127.0.0.1", "::1"}
    assert await issuer.resolve("no host.invalid") == frozenset()
    assert await issuer.resolve("x" * 300) == frozenset()
    assert "key" not in repr(CertificateAuthority(*authority)).lower()


def test_one_that_believes_all_serves_nothing() -> None:
    assert UnverifiedTls().client_context().minimum_version is ssl.TLSVersion.TLSv1_3
    with pytest.raises(FS3Error, match="needs a certificate"):
        UnverifiedTls().server_context()
