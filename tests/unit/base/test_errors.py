"""Codes and the exceptions of them."""

from __future__ import annotations

import builtins
import errno
import io
import pickle

import pytest

from fs3.base.errors import FS3Error, UnsupportedOperation, error
from fs3.base.status import Code, Retry


@pytest.mark.parametrize(
    ("code", "builtin", "number"),
    [
        (Code.NOT_FOUND, builtins.FileNotFoundError, errno.ENOENT),
        (Code.EXISTS, builtins.FileExistsError, errno.EEXIST),
        (Code.NOT_A_DIRECTORY, builtins.NotADirectoryError, errno.ENOTDIR),
        (Code.IS_A_DIRECTORY, builtins.IsADirectoryError, errno.EISDIR),
        (Code.ACCESS, builtins.PermissionError, errno.EACCES),
        (Code.PERMISSION, builtins.PermissionError, errno.EPERM),
        (Code.DEADLINE, builtins.TimeoutError, errno.ETIMEDOUT),
        (Code.UNAVAILABLE, builtins.ConnectionError, errno.ECONNREFUSED),
        (Code.INVALID, builtins.ValueError, errno.EINVAL),
        (Code.NO_SPACE, builtins.OSError, errno.ENOSPC),
        (Code.NOT_EMPTY, builtins.OSError, errno.ENOTEMPTY),
    ],
)
def test_builtin_and_errno(code: Code, builtin: type[Exception], number: int) -> None:
    raised = error(code, "why", "/a/b")
    assert isinstance(raised, builtin)
    assert isinstance(raised, FS3Error)
    assert raised.errno == number
    assert raised.filename == "/a/b"
    assert "why" in str(raised)
    assert "/a/b" in str(raised)


def test_every_code_makes_an_exception_that_pickles() -> None:
    for code in Code:
        before = error(code, f"about {code.name}", "name")
        after = pickle.loads(pickle.dumps(before))
        assert type(after) is type(before)
        assert (after.code, after.errno, after.filename, str(after)) == (code, before.errno, "name", str(before))


def test_codes_unknown_to_us_are_internal() -> None:
    assert Code.from_wire(9999) is Code.INTERNAL
    assert Code.from_wire(int(Code.DIRTY)) is Code.DIRTY


def test_a_request_that_may_have_happened_is_not_called_harmless() -> None:
    assert Code.DEADLINE.retry is Retry.MAYBE
    assert Code.DISCONNECTED.retry is Retry.MAYBE
    assert Code.NO_SPACE.retry is Retry.NEVER


def test_what_a_file_cannot_do_has_the_errno_that_a_descriptor_gives() -> None:
    raised = UnsupportedOperation(errno.ESPIPE, "seek", "/a/b")
    assert isinstance(raised, io.UnsupportedOperation)
    for seen in (raised, pickle.loads(pickle.dumps(raised))):
        assert (type(seen), seen.errno, seen.filename) == (UnsupportedOperation, errno.ESPIPE, "/a/b")
