"""Marks of directories: each process that takes one leaves another mark than the last, or none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.os.directory_lock import DirectoryLock


def refuse(number: int):  # type: ignore[no-untyped-def]
    """A system call that fails."""

    def call(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


def test_a_mark_names_the_process_and_is_another_each_time(tmp_path: Path) -> None:
    marks = []
    for _ in range(3):
        lock = DirectoryLock(tmp_path)
        assert lock.mark.path == str(tmp_path / "owner")
        assert (tmp_path / "owner").read_bytes() == lock.mark.content
        assert lock.mark.content.startswith(b"%d " % os.getpid())
        assert lock.mark.content.endswith(b"\n")
        marks.append(lock.mark.content)
        lock.release()
    assert len(set(marks)) == 3
    assert (tmp_path / "owner").read_bytes() == marks[-1], "it stays, so that a death shows nothing that is not so"


def test_a_longer_mark_of_a_former_owner_is_gone(tmp_path: Path) -> None:
    (tmp_path / "owner").write_bytes(b"9" * 200)
    lock = DirectoryLock(tmp_path)
    assert (tmp_path / "owner").read_bytes() == lock.mark.content
    lock.release()


def test_a_lock_that_is_refused_leaves_the_mark_of_the_one_that_has_it(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(FS3Error) as refused:
        DirectoryLock(tmp_path)
    assert refused.value.code is Code.BUSY
    assert (tmp_path / "owner").read_bytes() == lock.mark.content
    lock.release()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("written", [None, 0, 7])
def test_on_a_full_disk_there_is_no_mark_and_none_of_a_former_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool, written: int | None
) -> None:
    """`written`: so many bytes find room; None: the call fails."""
    former = DirectoryLock(tmp_path)
    former.release()
    real = os.pwrite

    def write(fd: int, content: bytes, offset: int) -> int:
        if written is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, content[:written], offset) if written else 0

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", write)
        lock = DirectoryLock(tmp_path, shared=shared)
    assert lock.mark.content == b""
    assert (tmp_path / "owner").read_bytes() == b""
    lock.release()


def test_where_a_former_mark_cannot_be_taken_away_the_directory_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = DirectoryLock(tmp_path)
    former.release()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse(errno.EROFS))
        patch.setattr(os, "ftruncate", refuse(errno.EROFS))
        with pytest.raises(FS3Error, match="cannot be marked as this process's") as refused:
            DirectoryLock(tmp_path)
        assert refused.value.code is Code.DISK
        assert str(tmp_path / "owner") in str(refused.value)
        # Of several that share it, none is told apart by marks.
        lock = DirectoryLock(tmp_path, shared=True)
        assert lock.mark.content == b""
    lock.release()
    lock = DirectoryLock(tmp_path)
    assert (tmp_path / "owner").read_bytes() == lock.mark.content != former.mark.content, "it had not been kept locked"
    lock.release()
