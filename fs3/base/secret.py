"""A text that does not show by accident: not in a repr, a log line, a traceback or a pickle."""

from __future__ import annotations

from hashlib import sha256

_known: dict[str, str] = {}
"""Mark -> text, of this process and of those that are forked from it."""
_known_max = 256


class Secret:
    """Holds a text. A pickle of it has only a mark, which the process that made it, and its forked children, know the text of."""

    __slots__ = ("_mark", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._mark = sha256(b"fs3 secret" + text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        _known.pop(self._mark, None)
        _known[self._mark] = text
        if len(_known) > _known_max:
            del _known[next(iter(_known))]

    def reveal(self) -> str:
        """The text; "" where it was unpickled in a process that does not know it."""
        return self._text

    def __repr__(self) -> str:
        # Others are told apart by it: what is kept for one secret is not taken for another's.
        return f"<secret {self._mark[:16]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._mark == self._mark

    def __hash__(self) -> int:
        return hash(self._mark)

    def __reduce__(self) -> tuple[object, ...]:
        return _recall, (self._mark,)


def _recall(mark: str) -> Secret:
    secret = Secret.__new__(Secret)
    secret._text = _known.get(mark, "")
    secret._mark = mark
    return secret
