"""Capabilities for clients that have proved who they are: sealed by the metadata service, checked by storage nodes."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.status import Code
from fs3.core.meta.ops.get_capabilities import rights_of_opened
from fs3.core.security.capability import Subject, SubjectKind
from fs3.core.security.issue import holder_for, issue, renew
from fs3.core.security.state import SecurityState
from fs3.model.capabilities import WantedCapability
from fs3.model.inode import User
from fs3.model.namespace import OpenResult
from fs3.model.principal import AuthContext
from fs3.ports.clock import Clock


class CapabilityIssuer:
    """Seals capabilities of contents with the keys that the service was given."""

    def __init__(self, security: SecurityState, clock: Clock) -> None:
        self._security = security
        self._now = clock.now
        self.issued = 0

    def seal(self, auth: AuthContext, wanted: WantedCapability, rights: int) -> bytes | Code:
        """A new one for a content, with these rights. BUSY when none can be made at the moment."""
        answer = issue(self._security, self._now(), holder_for(auth), Subject(SubjectKind.CONTENT, wanted.content), rights)
        self.issued += isinstance(answer, bytes)
        return answer

    def renew(self, auth: AuthContext, wanted: WantedCapability) -> bytes | Code | None:
        """The same again as the one that is shown. None: that is of no use; see `fs3.core.security.issue.renew`."""
        subject = Subject(SubjectKind.CONTENT, wanted.content)
        answer = renew(self._security, self._now(), auth, subject, wanted.rights, wanted.held)
        self.issued += isinstance(answer, bytes)
        return answer

    def complete(self, auth: AuthContext, user: User, opened: OpenResult, *, write: bool) -> OpenResult:
        """The answer to an open, with the capability for what was opened. A file whose bytes are beside the inode needs none
        until it is opened for writing."""
        inode = opened.inode
        if not holder_for(auth) or (inode.inline and not write):
            return opened
        rights = rights_of_opened(user, inode, write=write)
        answer = self.seal(auth, WantedCapability(inode.content_id, rights), rights)
        return replace(opened, capability=answer) if isinstance(answer, bytes) else opened
