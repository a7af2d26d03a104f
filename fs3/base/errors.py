"""Exceptions at the edge of fs3. Each is an FS3Error and, where Python has a builtin for it, that builtin too.

    OSError
    └── FS3Error                      .code, .errno, .filename
        ├── NotFound                  also FileNotFoundError
        ├── Exists                    also FileExistsError
        ├── NotADirectory             also NotADirectoryError
        ├── IsADirectory              also IsADirectoryError
        ├── NoPermission              also PermissionError
        ├── DeadlineExceeded          also TimeoutError
        ├── Unreachable               also ConnectionError: nobody answers, or the connection broke
        ├── UnsupportedOperation      also io.UnsupportedOperation: a file object cannot do this in its mode
        └── InvalidArgument           also ValueError
            └── InvalidType           also TypeError: a call on this side was given the wrong kind of object

A `Code` travels between processes; an exception is raised only where a person's code is called.
"""

from __future__ import annotations

import io

from fs3.base.status import Code


class FS3Error(OSError):
    """An operation failed. `code` says why; `errno` is its POSIX number, so `except OSError` handlers work unchanged."""

    code: Code
    routing_version: int = 0
    """Newest routing version the node that refused knows; 0 when it did not say."""

    def __init__(self, code: Code, message: str, filename: str | None = None) -> None:
        super().__init__(code.errno, message)
        self.code = code
        self.filename = filename

    def __str__(self) -> str:
        text = self.strerror or self.code.name.replace("_", " ").lower()
        return f"{text}: {self.filename!r}" if self.filename else text

    def __reduce__(self) -> tuple[object, ...]:
        # OSError pickles its two-argument form, which is not ours; DataLoader workers send exceptions to their parent.
        return (error, (self.code, self.strerror, self.filename))


class NotFound(FS3Error, FileNotFoundError):
    """No such file, directory, chunk or namespace."""


class Exists(FS3Error, FileExistsError):
    """The name is taken."""


class NotADirectory(FS3Error, NotADirectoryError):
    """A component of the path is not a directory."""


class IsADirectory(FS3Error, IsADirectoryError):
    """A directory where a file is needed."""


class NoPermission(FS3Error, PermissionError):
    """The identity may not do this."""


class DeadlineExceeded(FS3Error, TimeoutError):
    """No answer in time; a change may or may not have happened."""


class Unreachable(FS3Error, ConnectionError):
    """Nobody answers at the address, or the connection broke."""


class InvalidArgument(FS3Error, ValueError):
    """The call itself is wrong; the message names the argument."""


class InvalidType(InvalidArgument, TypeError):
    """An argument is of a kind the call does not take. Raised where the call is made, and never travels."""

    def __init__(self, message: str, filename: str | None = None) -> None:
        super().__init__(Code.INVALID, message, filename)

    def __reduce__(self) -> tuple[object, ...]:
        return InvalidType, (self.strerror, self.filename)


class UnsupportedOperation(FS3Error, io.UnsupportedOperation):
    """A file object cannot do this, in the mode it was opened in. Raised where the call is made, and never travels."""

    def __init__(self, number: int, message: str, filename: str) -> None:
        """`number`: the errno that the call has on a descriptor of such a file."""
        super().__init__(Code.UNSUPPORTED, message, filename)
        self.errno = number

    def __reduce__(self) -> tuple[object, ...]:
        return UnsupportedOperation, (self.errno, self.strerror, self.filename)


_CLASSES: dict[Code, type[FS3Error]] = {
    Code.NOT_FOUND: NotFound,
    Code.NO_NAMESPACE: NotFound,
    Code.EXISTS: Exists,
    Code.NOT_A_DIRECTORY: NotADirectory,
    Code.IS_A_DIRECTORY: IsADirectory,
    Code.PERMISSION: NoPermission,
    Code.ACCESS: NoPermission,
    Code.NOT_ADMITTED: NoPermission,
    Code.NOT_AUTHENTICATED: NoPermission,
    Code.TICKET_LAPSED: NoPermission,
    Code.NO_CAPABILITY: NoPermission,
    Code.DEADLINE: DeadlineExceeded,
    Code.UNAVAILABLE: Unreachable,
    Code.DISCONNECTED: Unreachable,
    Code.SHUTTING_DOWN: Unreachable,
    Code.INVALID: InvalidArgument,
    Code.NAME_TOO_LONG: FS3Error,
}


def error(code: Code, message: str, filename: str | None = None) -> FS3Error:
    """The exception of a code."""
    return _CLASSES.get(code, FS3Error)(code, message, filename)
