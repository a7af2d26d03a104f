"""Failed logins: their sources wait, longer each time, and nothing else does."""

from __future__ import annotations

from fs3.base.units import MILLISECOND, SECOND

sources_max = 4096
"""Sources that are remembered; then the one that has failed longest ago is forgotten."""
free_failures = 3
"""A person mistypes: so many failures cost nothing."""
wait_min_ns = 100 * MILLISECOND
wait_max_ns = 5 * SECOND
forget_ns = 60 * SECOND
"""A source that has not failed for so long has a new beginning."""


class LoginThrottle:
    """How long the answer to a failed login is kept back. Logins that succeed are answered at once, whatever their source."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, int]] = {}
        """Source -> how often it has failed, and when last; the one that has failed longest ago first."""

    def on_failure(self, source: str, now: int) -> int:
        """A login from there has failed; nanoseconds that its answer waits."""
        count, last = self._failures.pop(source, (0, now))
        if now - last >= forget_ns:
            count = 0
        self._failures[source] = (count + 1, now)
        if len(self._failures) > sources_max:
            del self._failures[next(iter(self._failures))]
        if count < free_failures:
            return 0
        return min(wait_max_ns, wait_min_ns << min(count - free_failures, 16))

    def __len__(self) -> int:
        return len(self._failures)


def source_of(peer: str) -> str:
    """Where a peer is, without its port: "tcp://10.0.0.1:4711" and "ipv4:10.0.0.1:4712" come from one source."""
    if peer.startswith("local:"):
        return peer.rpartition(",")[2]  # the user; processes come and go
    address = peer.rpartition("://")[2]
    for prefix in ("ipv4:", "ipv6:", "unix:"):
        address = address.removeprefix(prefix)
    host, colon, port = address.rpartition(":")
    return host.strip("[]") if colon and port.isdecimal() else address
