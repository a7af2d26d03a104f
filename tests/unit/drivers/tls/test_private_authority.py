"""Directories of authorities that are none, and what is said of each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.tls.private_authority import CA_CERT, CA_KEY, issue, make_authority, read_authority


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    make_authority(tmp_path / "authority", "test")
    return tmp_path / "authority"


def refused(directory: Path, words: str) -> None:
    with pytest.raises(FS3Error, match=words) as failure:
        read_authority(directory)
    assert failure.value.code is Code.CONFIG
    with pytest.raises(FS3Error, match=words):
        issue(directory, directory, "h2", ["h2"])


@pytest.mark.parametrize("name", [CA_CERT, CA_KEY])
def test_a_pipe_is_not_waited_for(directory: Path, name: str) -> None:
    (directory / name).unlink()
    os.mkfifo(directory / name)
    refused(directory, "it cannot be read")


def test_the_key_of_another_authority(directory: Path, tmp_path: Path) -> None:
    make_authority(tmp_path / "other", "other")
    (tmp_path / "other" / CA_KEY).replace(directory / CA_KEY)
    refused(directory, "ca.key is not the key of ca.crt")


def test_a_certificate_that_may_issue_none(directory: Path) -> None:
    issue(directory, directory, "h2", ["h2"])
    (directory / "h2.crt").replace(directory / CA_CERT)
    (directory / "h2.key").replace(directory / CA_KEY)
    refused(directory, "ca.crt is no certificate of an authority")
