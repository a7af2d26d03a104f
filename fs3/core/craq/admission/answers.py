"""What the head has told clients of updates that changed nothing, so that a copy of their sendings is told the same.

A PUT that finds its chunk there is answered EXISTS. That leaves no channel row in the store, since nothing is committed with
which it could be set. Yet the client takes the answer and goes on, and a copy of what it has sent may still be on its way: were
the chunk removed meanwhile, that copy would bring it back. So the head remembers the answer as it would a row.

In memory, at the head alone, as long as the chain version lasts. That is enough, because no copy can come to another place where
it would be taken: under another chain version it is fenced, and what was sent to a process is gone with it
(docs/protocols/write.md, "Answers that leave no row").
"""

from __future__ import annotations

from fs3.model.chunk import ChannelKey, ChannelRow


class AnswerTable:
    """The last such answer of each channel. Belongs to one replica."""

    def __init__(self, answers_max: int, kept_ns: int) -> None:
        """At most `answers_max` at a time; each is kept for `kept_ns` at least, and for twice that at most while others come."""
        self._max = answers_max
        self._kept_ns = kept_ns
        self._young: dict[ChannelKey, ChannelRow] = {}
        self._old: dict[ChannelKey, ChannelRow] = {}
        self._turn_ns = 0
        """When the young ones become old, and the old ones are forgotten."""

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, key: ChannelKey) -> ChannelRow | None:
        """The last answer on a channel."""
        return self._young.get(key) or self._old.get(key)

    def remember(self, now: int, key: ChannelKey, row: ChannelRow) -> bool:
        """The row is the channel's last answer. False, and nothing is remembered: there are too many."""
        if now >= self._turn_ns:
            self._old = self._young if now - self._turn_ns < self._kept_ns else {}
            self._young = {}
            self._turn_ns = now + self._kept_ns
        if self._old.pop(key, None) is None and key not in self._young and len(self) >= self._max:
            return False
        self._young[key] = row
        return True

    def clear(self) -> None:
        """The chain version has changed: whatever was answered before is fenced."""
        self._young = {}
        self._old = {}
