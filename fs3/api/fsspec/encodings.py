"""Encodings that begin a text with a byte order mark: once, also where a compressed text is appended to."""

from __future__ import annotations

import codecs
import sys

_ORDER = "le" if sys.byteorder == "little" else "be"

_MARKED = {
    "utf-8-sig": (codecs.BOM_UTF8, "utf-8"),
    "utf-16": (codecs.BOM_UTF16, f"utf-16-{_ORDER}"),
    "utf-32": (codecs.BOM_UTF32, f"utf-32-{_ORDER}"),
}


def marked_encoding(encoding: str | None) -> tuple[bytes, str] | None:
    """The mark and the encoding in which the text goes on; None for encodings without one.

    `io.TextIOWrapper` asks the file below where it stands to know whether to write the mark. What compressors say tells nothing
    of what is in the file already.
    LookupError for an encoding Python does not know.
    """
    return None if encoding is None else _MARKED.get(codecs.lookup(encoding).name)
