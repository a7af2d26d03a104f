"""The errors for what arrives and cannot be what it claims to be, or is more than may come at once."""

from __future__ import annotations

from fs3.base.errors import InvalidArgument, error
from fs3.base.limits import batch_items_max
from fs3.base.status import Code


def malformed(field: str, problem: str) -> InvalidArgument:
    """The error for one field, or one column, of a message."""
    return InvalidArgument(Code.INVALID, f"{field}: {problem}")


def check_count(field: str, count: int) -> None:
    """Raises FS3Error TOO_LARGE when a request has more elements than one may have."""
    if count > batch_items_max:
        raise error(Code.TOO_LARGE, f"{field}: {count} in one request, at most {batch_items_max} are allowed")
