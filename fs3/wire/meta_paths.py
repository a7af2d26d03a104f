"""Names and paths of requests to and from protobuf.

A text that is UTF-8 travels in a string field. Any other one travels as bytes in the field beside it, and the string is then one
that a service that does not know the field refuses, so that it does not take the path for an empty one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fs3.base.errors import error
from fs3.base.ids import ROOT_INODE
from fs3.base.names import is_utf8, to_bytes, to_text
from fs3.base.status import Code
from fs3.model.namespace import PathRef
from fs3.wire.pb import meta_pb2 as pb

_NOT_TEXT: Final = "\0"
"""In the place of a text that is not UTF-8."""


def fill_path(message: pb.PathRef, path: PathRef) -> None:
    """Write where a path starts and what it is into an empty message."""
    if path.parent != ROOT_INODE:
        message.parent = path.parent
    try:
        message.path = path.path
    except UnicodeEncodeError:
        message.raw_path = to_bytes(path.path)
        message.path = _NOT_TEXT


def path_from_pb(message: pb.PathRef) -> PathRef:
    """The path of a message."""
    raw = message.raw_path
    return PathRef(message.parent or ROOT_INODE, to_text(raw) if raw else message.path)  # type: ignore[arg-type]


def fill_text(message: Any, field: str, text: str) -> None:
    """Write a name or path into one of the string fields that have a field for bytes beside them."""
    try:
        setattr(message, field, text)
    except UnicodeEncodeError:
        setattr(message, f"raw_{field}", to_bytes(text))
        setattr(message, field, _NOT_TEXT)


def text_from_pb(message: Any, field: str) -> str:
    """The name or path in such a field."""
    raw: bytes = getattr(message, f"raw_{field}")
    return to_text(raw) if raw else getattr(message, field)


def fill_texts(message: Any, field: str, texts: Sequence[str], instead: str = _NOT_TEXT) -> None:
    """The same for a column of texts. `instead`: what stands in the column for one that is not UTF-8."""
    column = getattr(message, field)
    try:
        column.extend(texts)
    except UnicodeEncodeError:
        del column[:]
        raw_at = [index for index, text in enumerate(texts) if not is_utf8(text)]
        getattr(message, f"raw_{field}_at").extend(raw_at)
        getattr(message, f"raw_{field}").extend([to_bytes(texts[index]) for index in raw_at])
        seen = set(raw_at)
        column.extend([instead if index in seen else text for index, text in enumerate(texts)])


def texts_from_pb(message: Any, field: str) -> list[str]:
    """The texts of a column. Raises FS3Error PROTOCOL when it says that one is bytes, and which ones is nonsense."""
    texts: list[str] = getattr(message, field)[:]
    raw_at = getattr(message, f"raw_{field}_at")
    raw = getattr(message, f"raw_{field}")
    if raw_at or raw:
        if len(raw_at) != len(raw) or max(raw_at) >= len(texts):
            raise error(Code.PROTOCOL, f"{len(raw)} of {len(texts)} {field} are bytes, and {len(raw_at)} are said to be")
        for index, name in zip(raw_at, raw, strict=True):
            texts[index] = to_text(name)
    return texts
