"""What may lie around a written file, and how an exception gets through to it."""

from __future__ import annotations

import io
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from fsspec.core import OpenFile
from fsspec.spec import AbstractBufferedFile


class FS3CompressedFile:
    """A file behind a compressor: closing it closes both, which compressors alone do not do."""

    def __init__(self, compressor: Any, file: Any) -> None:
        self._compressor = compressor
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compressor, name)

    def __iter__(self) -> Any:
        return iter(self._compressor)

    def __enter__(self) -> FS3CompressedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._file.__exit__(kind, value, trace)
            with suppress(ValueError, OSError):  # it would write its trailer into the closed file
                self._compressor.close()
        else:
            self.close()

    def drop(self) -> None:
        """It is not going to be closed: what was written is dropped."""
        self._file.drop()

    def close(self) -> None:
        """Write what the compressor still holds, then close the file."""
        try:
            self._compressor.close()
        finally:
            self._file.close()


class FS3TextFile(io.TextIOWrapper):
    """A text file whose `with` block, left by an exception, leaves no trace of what was written."""

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and isinstance(self.buffer, AbstractBufferedFile | FS3CompressedFile):
            self.buffer.__exit__(kind, value, trace)  # before the wrapper flushes into it
        super().__exit__(kind, value, trace)

    def __del__(self) -> None:
        # The base class would flush and close, which publishes; see `FS3File.drop`.
        with suppress(ValueError, AttributeError):  # it was detached, or is another kind of file
            self.buffer.drop()  # type: ignore[attr-defined]


def is_exit_by_exception(frame: FrameType | None) -> bool:
    """The close comes from the end of a `with fsspec.open(...)` block that an exception has left.

    fsspec's OpenFile knows, and just closes its file. There is no other way to learn it: an exception that is being handled
    somewhere says nothing, since files are closed in `except` blocks for good reasons too.
    """
    for _ in range(4):  # the text wrapper or the compressor, OpenFile.close, OpenFile.__exit__
        if frame is None:
            return False
        if frame.f_code is OpenFile.__exit__.__code__:
            args: tuple[object, ...] = frame.f_locals.get("args", ())
            return bool(args) and args[0] is not None
        frame = frame.f_back
    return False
