"""The error for what arrives and cannot be what it claims to be."""

from __future__ import annotations

from fs3.base.errors import InvalidArgument
from fs3.base.status import Code


def malformed(field: str, problem: str) -> InvalidArgument:
    """The error for one field, or one column, of a message."""
    return InvalidArgument(Code.INVALID, f"{field}: {problem}")
