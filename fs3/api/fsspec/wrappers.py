"""What may lie around a written file, and how an exception gets through to it."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

from fsspec.spec import AbstractBufferedFile

from fs3.api.fsspec import unclosed


class FS3CompressedFile:
    """A file behind a compressor: closing it closes both, which compressors alone do not do."""

    _is_wrapped = False
    _is_broken_off = False
    """The last write failed."""

    def __init__(self, compressor: Any, file: Any) -> None:
        self._compressor = compressor
        self._file = file
        self.fs = file.fs
        file.wrap()
        _compressors[id(self)] = compressor
        unclosed.watch(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compressor, name)

    def __iter__(self) -> Any:
        return iter(self._compressor)

    def __enter__(self) -> FS3CompressedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._file.__exit__(kind, value, trace)
            _compressors.pop(id(self), None)
            with suppress(ValueError, OSError):  # it would write its trailer into the closed file
                self._compressor.close()
        else:
            self.close()

    def write(self, data: Any) -> int:
        """Compress bytes; all of them."""
        self._is_broken_off = True
        count: int = self._compressor.write(data)
        self._is_broken_off = False
        return count

    def wrap(self, is_wrapped: bool = True) -> None:
        """See `FS3File.wrap`."""
        self._is_wrapped = is_wrapped
        (unclosed.unwatch if is_wrapped else unclosed.watch)(self)

    def close_unclosed(self, flush: unclosed.Flush | None = None, is_broken_off: bool = False) -> None:
        """See `FS3File.close_unclosed`."""

        def flush_both() -> None:
            if flush is not None:
                flush()
            self._compressor.close()

        _compressors.pop(id(self), None)
        self._file.close_unclosed(flush_both, is_broken_off or self._is_broken_off)

    def _dealloc_warn(self, source: object) -> None:
        """See `FS3File._dealloc_warn`."""
        if self._is_broken_off:
            self.close_unclosed()
        else:
            self._file._dealloc_warn(source)

    def __del__(self) -> None:
        if not self._is_wrapped:
            unclosed.close_dropped(sys.getrefcount(self), self)

    def close(self) -> None:
        """Write what the compressor still holds, then close the file."""
        _compressors.pop(id(self), None)
        try:
            self._compressor.close()
        finally:
            self._file.close()


_compressors: dict[int, Any] = {}
"""Of the files that are open, by their ids. Python finalizes what it finds by a garbage collection in any order, and a compressor
that has ended takes no more of what a text file around it has; one that is found here is no garbage."""


class FS3TextFile(io.TextIOWrapper):
    """A text file whose `with` block, left by an exception, leaves no trace of what was written."""

    _is_broken_off = False
    """The last write failed: it was no text, or cannot be encoded."""

    def __init__(self, buffer: Any, **options: Any) -> None:
        super().__init__(buffer, **options)
        if isinstance(buffer, AbstractBufferedFile | FS3CompressedFile) and buffer.writable():
            self.fs = buffer.fs
            buffer.wrap()
            unclosed.watch(self)

    def write(self, text: str, /) -> int:
        """Write text; all of it."""
        self._is_broken_off = True
        count = super().write(text)
        self._is_broken_off = False
        return count

    def detach(self) -> Any:
        """The binary file, with all that was written in it; this one is of no use any more."""
        buffer = super().detach()
        if isinstance(buffer, AbstractBufferedFile | FS3CompressedFile):
            unclosed.unwatch(self)
            buffer.wrap(False)
        return buffer

    def close_unclosed(self, flush: unclosed.Flush | None = None) -> None:
        """See `FS3File.close_unclosed`."""

        def flush_both() -> None:
            if flush is not None:
                flush()
            if not self.closed:
                self.flush()

        try:
            close_unclosed = getattr(self.buffer, "close_unclosed", None)
        except ValueError:  # it was detached
            return
        if close_unclosed is not None:
            close_unclosed(flush_both, self._is_broken_off)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and isinstance(self.buffer, AbstractBufferedFile | FS3CompressedFile):
            self.buffer.__exit__(kind, value, trace)  # before the wrapper flushes into it
        super().__exit__(kind, value, trace)

    def __del__(self) -> None:
        # The base class would close, which waits for the event loop and may be on its thread.
        unclosed.close_dropped(sys.getrefcount(self), self)
