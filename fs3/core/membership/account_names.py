"""What users and groups may be called, and which numbers they may have."""

from __future__ import annotations

import re

from fs3.base.status import Code
from fs3.core.membership.node_admission import RequestRejected

user_id_max = (1 << 32) - 2
"""Of a user and of a group; the next one means none in POSIX calls."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,62}")
_NAME_RULE = "1 to 63 letters, digits, '.', '_', '@' and '-', the first a letter or '_'"


def check_name(what: str, name: str) -> None:
    """`what`: "user" or "group". A name is never a number. Raises RequestRejected."""
    if not _NAME.fullmatch(name):
        raise RequestRejected(Code.INVALID, f"{what} {name!r}: a name has {_NAME_RULE}")


def check_id(whose: str, kind: str, number: int) -> None:
    """`kind`: "uid", "gid". Raises RequestRejected naming whose it is to be."""
    if not 0 <= number <= user_id_max:
        raise RequestRejected(Code.INVALID, f"{whose}: {kind} {number} is not from 0 to {user_id_max}")
