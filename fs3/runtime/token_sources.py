"""Where a program has its token from: given to it, in a file, or in its environment; the first of these that there is.

The token of a file or of the environment is read anew for every login, so that it can be replaced while the program runs.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Protocol

from fs3.base.errors import FS3Error, error
from fs3.base.secret import Secret
from fs3.base.status import Code

TOKEN_VARIABLE = "FS3_TOKEN"
TOKEN_FILE_VARIABLE = "FS3_TOKEN_FILE"
_FILE_BYTES_MAX = 4096


class TokenSource(Protocol):
    """Where the token of a user is."""

    def read(self) -> Secret | None:
        """The token; None: there is none. FS3Error naming a file that cannot be used."""
        ...


class GivenToken:
    """A token that the program was given. Unpickled in a process that was not forked, it is read from the environment."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def read(self) -> Secret | None:
        """See `TokenSource`. FS3Error: the token did not travel to this process."""
        if self._secret.reveal():
            return self._secret
        found = EnvironmentToken().read()
        if found is None:
            told = f"tokens are in no pickle: give this process one with {TOKEN_VARIABLE}, or a token_file"
            raise error(Code.NOT_AUTHENTICATED, told)
        return found


class FileToken:
    """A token in a file that only its owner can read."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> Secret | None:
        """See `TokenSource`."""
        return Secret(read_secret_file(self._file, "the token"))


class EnvironmentToken:
    """A token in the environment, or in a file that it names."""

    def read(self) -> Secret | None:
        """See `TokenSource`."""
        if text := os.environ.get(TOKEN_VARIABLE, ""):
            return Secret(text)
        if file := os.environ.get(TOKEN_FILE_VARIABLE, ""):
            return FileToken(Path(file)).read()
        return None


def find_token_source(token: str | Secret | None = None, token_file: str | os.PathLike[str] | None = None) -> TokenSource:
    """The source that was given, or the environment. FS3Error INVALID for two."""
    if token and token_file:
        raise error(Code.INVALID, "token and token_file are given: one of them says who asks")
    if token:
        return GivenToken(token if isinstance(token, Secret) else Secret(token))
    return FileToken(Path(token_file)) if token_file else EnvironmentToken()


def read_secret_file(file: Path, what: str) -> str:
    """The text of a file that only its owner (this user, or root) can read.

    FS3Error: ACCESS when others can, INVALID for what is no file or too long, NOT_FOUND. It waits for nothing, whatever the name
    leads to: a pipe may have no writer, and a device no end. Links are followed, since secrets of Kubernetes are such: what is
    looked at is what was opened.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise error(Code.NOT_FOUND, f"there is no file with {what}", str(file)) from None
    except OSError as problem:
        if problem.errno == errno.ENXIO:  # a socket, or a device without one
            raise error(Code.INVALID, f"{what} is to be in a file, and this is none", str(file)) from None
        raise error(Code.ACCESS, f"{what} cannot be read: {problem.strerror}", str(file)) from None
    try:
        _check_secret_file(os.fstat(descriptor), file, what)
        text = os.read(descriptor, _FILE_BYTES_MAX + 1)
    except OSError as problem:
        if isinstance(problem, FS3Error):
            raise
        raise error(Code.ACCESS, f"{what} cannot be read: {problem.strerror}", str(file)) from None
    finally:
        os.close(descriptor)
    if len(text) > _FILE_BYTES_MAX:
        raise error(Code.INVALID, f"this is not {what}: the file has more than {_FILE_BYTES_MAX} bytes", str(file))
    return text.decode("utf-8", "replace").strip()


def _check_secret_file(status: os.stat_result, file: Path, what: str) -> None:
    """Of the descriptor, before anything is read from it."""
    if not stat.S_ISREG(status.st_mode):
        raise error(Code.INVALID, f"{what} is to be in a file, and this is none", str(file))
    if status.st_mode & 0o077:
        raise error(Code.ACCESS, f"others can read {what} (mode {stat.S_IMODE(status.st_mode):o}): chmod 600 it", str(file))
    if status.st_uid not in (0, os.geteuid()):
        raise error(Code.ACCESS, f"{what} is in a file of another user (uid {status.st_uid})", str(file))
    if status.st_size > _FILE_BYTES_MAX:
        raise error(Code.INVALID, f"this is not {what}: the file has more than {_FILE_BYTES_MAX} bytes", str(file))
