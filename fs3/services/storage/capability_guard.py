"""Which requests of a storage node need a capability, and whether their connection has shown it.

A request shows those that its connection has not shown before; each is verified once and kept with the connection, and every
request is then checked by a look-up per content or namespace that it names, against the time of the cluster. What is kept is
looked at again after keys or revocations have changed. Services and administrators need none, nor does any connection of a
cluster without security: that costs one comparison.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fs3.base.limits import capabilities_per_connection_max, capabilities_per_request_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.core.security.capability import READ, TRUSTED, WRITE, holder_of, open_capability, subject_key
from fs3.core.security.seal import SealError
from fs3.core.security.state import SecurityState
from fs3.model.method import Method
from fs3.model.principal import AuthContext
from fs3.ports.clock import Clock
from fs3.ports.rpc import Call, Handler
from fs3.wire.storage_needs import NEEDS, NO_NEED, Need


class _Verified(NamedTuple):
    """What a connection has shown for one subject, per right: until when it counts, and the key it was sealed with."""

    read_until_ms: int
    read_key: int
    write_until_ms: int
    write_key: int


_NOTHING_SHOWN = _Verified(0, 0, 0, 0)
_UNTIL = {READ: 0, WRITE: 2}
"""Which field of `_Verified` says until when a right counts."""


class CapabilityGuard:
    """Stands in front of the handlers of one storage node."""

    def __init__(self, security: SecurityState, clock: Clock) -> None:
        self._security = security
        self._now = clock.now
        self._era = 1
        """Of keys and revocations: rises with each change."""
        self._now_ms = 0
        self._time_until = 0
        """By the clock of the process: until then the time of the cluster is `_now_ms`."""
        self.shown_taken = 0
        """Capabilities that were verified."""
        self.shown_refused = 0
        """That are forged, altered, expired, another's, or of another cluster."""
        self.requests_refused = 0
        security.subscribe(self._on_security_changed)

    def guard(self, method: Method, handler: Handler) -> Handler:
        """The handler of a method, for requests that may be served. The service's own wrapper does the same where it has one."""
        need = NEEDS[method]

        def guarded(call: Call) -> None:
            if call.auth.rights & TRUSTED or self.admits(call, need):
                handler(call)

        return guarded

    def _on_security_changed(self) -> None:
        self._era += 1

    def admits(self, call: Call, need: Need) -> bool:
        """The request may be served; else it is answered."""
        request, auth = call.request, call.auth
        if need is NO_NEED:
            return True
        if need.is_of_services(request):
            return self._refuse(call, Code.PERMISSION, f"this request of {call.method!r} is for services and administrators")
        now = self._now()
        if now >= self._time_until:
            time = self._security.time
            if not time.is_known(now):
                return self._refuse(call, Code.BUSY, "the manager was not heard for a while, so no capability can be checked")
            self._now_ms, self._time_until = time.now_ms(now), now + MILLISECOND
        now_ms = self._now_ms
        if auth.capabilities_era != self._era:
            self._look_again(auth)
        if request.capabilities:
            self._take(auth, request.capabilities, now_ms)
        shown = auth.capabilities
        until = _UNTIL[need.right]
        try:
            for key in need.keys(request):
                found: Any = shown.get(key)
                if found is None or found[until] <= now_ms:
                    return self._refuse(
                        call, Code.NO_CAPABILITY, "the connection has shown no capability for it, or none any more"
                    )
        except ValueError as wrong:
            return self._refuse(call, Code.INVALID, str(wrong))
        return True

    def _refuse(self, call: Call, code: Code, message: str) -> bool:
        self.requests_refused += 1
        call.fail(code, message)
        return False

    def _take(self, auth: AuthContext, messages: Iterable[bytes], now_ms: int) -> None:
        """Verify what was shown, and keep it with the connection. What does not count is passed over: a request that needs it is
        refused without saying why."""
        principal, security = auth.principal, self._security
        holder = holder_of(principal) if principal is not None and not security.revoked.is_revoked(principal) else ""
        shown: dict[int, Any] = auth.capabilities
        for place, message in enumerate(messages):
            try:
                capability = open_capability(security.ring, message)
            except SealError:
                self.shown_refused += 1
                continue
            if (
                not holder
                or capability.holder != holder
                or capability.expires_ms <= now_ms
                or place >= capabilities_per_request_max
            ):
                self.shown_refused += 1
                continue
            key = subject_key(capability.subject)
            if len(shown) >= capabilities_per_connection_max and key not in shown:
                self._make_room(shown, now_ms)
            before = shown.get(key, _NOTHING_SHOWN)
            until_ms, sealed_with = capability.expires_ms, capability.key
            if capability.rights & READ and until_ms > before.read_until_ms:
                before = before._replace(read_until_ms=until_ms, read_key=sealed_with)
            if capability.rights & WRITE and until_ms > before.write_until_ms:
                before = before._replace(write_until_ms=until_ms, write_key=sealed_with)
            shown[key] = before
            self.shown_taken += 1

    def _make_room(self, shown: dict[int, Any], now_ms: int) -> None:
        gone = [key for key, found in shown.items() if max(found.read_until_ms, found.write_until_ms) <= now_ms]
        if gone:
            for key in gone:
                del shown[key]
        else:
            shown.clear()

    def _look_again(self, auth: AuthContext) -> None:
        """What was verified before counts no longer than its key and its holder do."""
        auth.capabilities_era = self._era
        shown: dict[int, Any] = auth.capabilities
        principal, keys = auth.principal, self._security.ring.keys
        if principal is None or self._security.revoked.is_revoked(principal):
            shown.clear()
            return
        for key, found in list(shown.items()):
            if found.read_key not in keys:
                found = found._replace(read_until_ms=0)
            if found.write_key not in keys:
                found = found._replace(write_until_ms=0)
            if found.read_until_ms or found.write_until_ms:
                shown[key] = found
            else:
                del shown[key]
