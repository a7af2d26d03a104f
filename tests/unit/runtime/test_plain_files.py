"""Files that people name: what is none is not waited for."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.cli.mount import open_log
from fs3.drivers.tls.private_authority import describe
from fs3.runtime.config import load_config
from fs3.runtime.plain_files import plain_file_bytes_max, read_plain_file
from fs3.runtime.token_sources import read_secret_file
from fs3.services.meta.config import MetaConfig


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo", 0o600)
    return tmp_path / "fifo"


def test_a_file_and_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text\xff")
    (tmp_path / "link").symlink_to("file")
    assert read_plain_file(tmp_path / "file") == read_plain_file(tmp_path / "link") == b"text\xff"


def test_what_is_no_file(tmp_path: Path, fifo: Path) -> None:
    for path, told in ((fifo, "Not a regular file"), (Path("/dev/zero"), "Not a regular file"), (tmp_path, "Is a directory")):
        with pytest.raises(OSError, match=told) as refused:
            read_plain_file(path)
        assert refused.value.filename == str(path)
    with pytest.raises(FileNotFoundError):
        read_plain_file(tmp_path / "none")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as out:
        out.truncate(plain_file_bytes_max + 1)
    with pytest.raises(OSError, match="more than 16 MiB"):
        read_plain_file(tmp_path / "large")


def test_what_reads_them_says_so(fifo: Path) -> None:
    with pytest.raises(FS3Error, match="Not a regular file") as refused:
        load_config(MetaConfig, fifo)
    assert refused.value.code is Code.CONFIG
    with pytest.raises(FS3Error, match="Not a regular file"):
        describe(fifo)
    with pytest.raises(FS3Error, match="is to be in a file, and this is none"):
        read_secret_file(fifo, "the token")


def test_a_log_that_no_program_reads_is_not_waited_for(fifo: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENXIO)), open_log(fifo):
        pass
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with open_log(fifo) as log:
        assert os.get_blocking(log.fileno())
    os.close(reader)
