"""Making capabilities: for whom, and with what a service process knows of keys and time."""

from __future__ import annotations

from fs3.base.limits import capability_lifetime_ms
from fs3.base.status import Code
from fs3.core.security.capability import TRUSTED, Capability, Subject, holder_of, open_capability, seal_capability
from fs3.core.security.seal import SealError
from fs3.core.security.state import SecurityState
from fs3.model.principal import AuthContext


def holder_for(auth: AuthContext) -> str:
    """Whom capabilities are made out to that a connection asks for; "": it needs none, or gets none."""
    if auth.principal is None or auth.rights & TRUSTED:
        return ""
    return holder_of(auth.principal)


def issue(security: SecurityState, now: int, holder: str, subject: Subject, rights: int) -> bytes | Code:
    """A new one. BUSY while the process does not know the time, or has no key."""
    if not security.time.is_known(now):
        return Code.BUSY
    capability = Capability(subject, rights, security.time.now_ms(now) + capability_lifetime_ms, holder)
    try:
        return seal_capability(security.ring, capability)
    except SealError:
        return Code.BUSY


def renew(
    security: SecurityState, now: int, auth: AuthContext, subject: Subject, rights: int, shown: bytes
) -> bytes | Code | None:
    """The same again as the one that is shown, however long ago that has expired. None: it is not of this holder or subject, or
    says less than is wanted, or its key is not in use any more, or its holder was revoked."""
    if not shown or auth.principal is None or security.revoked.is_revoked(auth.principal):
        return None
    try:
        before = open_capability(security.ring, shown)
    except SealError:
        return None
    holder = holder_for(auth)
    if not holder or before.holder != holder or before.subject != subject or rights & ~before.rights:
        return None
    return issue(security, now, holder, subject, before.rights)
