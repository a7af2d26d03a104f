"""When certificates end, read without a library: as the library reads it."""

from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path

import pytest

from fs3.drivers.os.clock import OsClock
from fs3.drivers.tls.credentials import TlsCredentials, TlsFiles
from fs3.drivers.tls.expiry import certificate_ends_ms
from fs3.drivers.tls.private_authority import describe
from tests.tls_files import Authority


@pytest.mark.parametrize("days", [1, 365, 36_500])
def test_as_the_library_reads_it(tmp_path: Path, days: int) -> None:
    """Up to 2049 in two digits, then in four."""
    authority = Authority.make(tmp_path)
    files = authority.issue("h1", "h1", "10.9.0.1", days=days)
    for file in (files.cert, files.ca):
        (said,) = describe(Path(file))
        assert certificate_ends_ms(Path(file).read_bytes()) == datetime.fromisoformat(said["not_after"]).timestamp() * 1000
    assert TlsCredentials(files, OsClock()).ends_ms == certificate_ends_ms(Path(files.cert).read_bytes())
    assert TlsCredentials(TlsFiles(files.ca), OsClock()).ends_ms == 0, "it shows none"


def test_the_first_of_several(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    cert, ca = (Path(each).read_bytes() for each in (authority.issue("h1", "h1").cert, tmp_path / "ca.crt"))
    assert certificate_ends_ms(b"a note\n" + cert + ca) == certificate_ends_ms(cert)


def test_what_cannot_be_read_never_ends(tmp_path: Path) -> None:
    whole = Path(Authority.make(tmp_path).issue("h1", "h1").cert).read_bytes()
    draws = random.Random(7)
    for bad in (b"", b"nonsense", b"\xff\xfe", whole[:200], whole.replace(b"END", b"DNE")):
        assert certificate_ends_ms(bad) == 0
    for _ in range(2000):
        torn = bytearray(whole)
        for _ in range(draws.randint(1, 5)):
            torn[draws.randrange(len(torn))] = draws.randrange(256)
        certificate_ends_ms(bytes(torn))
