"""Names are bytes, and texts where programs handle them: what is not UTF-8 is carried as `os.fsencode` does it, by surrogates.

Each byte that is not UTF-8 is one character of U+DC80 to U+DCFF, which no UTF-8 has; so every name has one text, and the text
gives the name back.
"""

from __future__ import annotations


def to_bytes(text: str) -> bytes:
    """The bytes of a name or path. Raises UnicodeEncodeError (a ValueError) for a surrogate that stands for no byte."""
    return text.encode("utf-8", "surrogateescape")


def to_text(name: bytes) -> str:
    """The text of a name or path, whatever bytes it has."""
    return name.decode("utf-8", "surrogateescape")


def is_utf8(text: str) -> bool:
    """The bytes of this text are UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(text: str) -> str:
    """A text that can be stored and printed everywhere: bytes that are not UTF-8 are escaped, as in r"caf\xe9"."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if not is_utf8(text) else text
