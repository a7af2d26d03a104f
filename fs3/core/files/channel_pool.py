"""Update channels of one client.

A channel carries one update at a time and counts them: (client, channel, seq) names an update for ever, and a target keeps the
last result of each channel, so that a repetition is answered and not applied. The fewer channels a client uses, the fewer rows
the targets keep: the most recently freed one is taken first.
"""

from __future__ import annotations

channels_per_client_max = 4096


class ChannelPool:
    """Which channels are free, and the next number of each."""

    def __init__(self, channels_max: int = channels_per_client_max) -> None:
        self._channels_max = channels_max
        self._free: list[int] = []
        self._seqs: dict[int, int] = {}
        """Last number of every channel that may be used again."""
        self._next = 1
        self._taken = 0

    @property
    def in_use(self) -> int:
        """Channels with an update under way."""
        return self._taken

    def acquire(self) -> tuple[int, int] | None:
        """A free channel and the number of its next update; None while `channels_max` are taken."""
        if self._taken >= self._channels_max:
            return None
        self._taken += 1
        if self._free:
            channel = self._free.pop()
        else:
            channel = self._next
            self._next += 1
        seq = self._seqs.get(channel, 0) + 1
        self._seqs[channel] = seq
        return channel, seq

    def release(self, channel: int) -> None:
        """Its update was answered."""
        self._taken -= 1
        self._free.append(channel)

    def retire(self, channel: int) -> None:
        """Its update was given up without an answer and may still be applied: the channel is never used again.

        Were it used for another chunk, the late update would set the channel's row back and undo the promise for the newer one.
        """
        self._taken -= 1
        del self._seqs[channel]
