"""Requests about KVCache namespaces that change nothing, and whose namespaces a connection may use."""

from __future__ import annotations

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.core.security.capability import READ, TRUSTED, WRITE, Subject, SubjectKind
from fs3.core.security.issue import holder_for, issue
from fs3.core.security.state import SecurityState
from fs3.model.cluster import ANY_TENANT
from fs3.model.principal import AuthContext
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, Call
from fs3.services.mgmtd.primary import Primary
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_capabilities import capabilities_reply_to_pb, namespace_capabilities_from_pb
from fs3.wire.mgmtd_queries import (
    list_namespace_changes_from_pb,
    list_namespaces_from_pb,
    namespace_changes_to_pb,
    namespace_page_to_pb,
)

_NO_TENANT = "\0"
"""Of a connection that has proved nothing: no namespace has it."""


def tenant_of(auth: AuthContext) -> str | None:
    """Whose namespaces a connection may use."""
    if auth.rights & TRUSTED:
        return ANY_TENANT
    return auth.principal.tenant if auth.principal is not None else _NO_TENANT


class NamespaceHandlers:
    """Lists namespaces, and issues capabilities of them."""

    def __init__(self, primary: Primary, security: SecurityState, clock: Clock) -> None:
        """`security`: what capabilities are sealed with."""
        self._primary = primary
        self._security = security
        self._clock = clock

    def bindings(self) -> Bindings:
        """One handler for every method of the group."""
        return {
            MGMTD.ListNamespaces: self._list_namespaces,
            MGMTD.ListNamespaceChanges: self._list_namespace_changes,
            MGMTD.GetNamespaceCapabilities: self._get_namespace_capabilities,
        }

    def _list_namespaces(self, call: Call) -> None:
        manager = self._primary.admit(call)
        if manager is None:
            return
        try:
            wanted = list_namespaces_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        wanted = msgspec.structs.replace(wanted, tenant=tenant_of(call.auth))
        call.reply(namespace_page_to_pb(manager.namespaces.list(wanted)))

    def _list_namespace_changes(self, call: Call) -> None:
        if tenant_of(call.auth) is not ANY_TENANT:
            call.fail(Code.PERMISSION, "changes of the list of namespaces are for services")
        elif (manager := self._primary.admit(call)) is not None:
            since = list_namespace_changes_from_pb(call.request)
            call.reply(namespace_changes_to_pb(manager.namespaces.list_changes(since)))

    def _get_namespace_capabilities(self, call: Call) -> None:
        """A namespace is one tenant's, and each of its users may read and write its pages."""
        manager = self._primary.admit(call)
        if manager is None:
            return
        try:
            wanted = namespace_capabilities_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        holder, tenant = holder_for(call.auth), tenant_of(call.auth)
        if not holder:
            call.fail(Code.UNSUPPORTED, "this caller needs no capabilities")
            return
        now, find = self._clock.now(), manager.namespaces.find_by_id
        answers = [
            issue(self._security, now, holder, Subject(SubjectKind.NAMESPACE, number), READ | WRITE)
            if find(number, tenant) is not None
            else Code.NO_NAMESPACE
            for number in wanted
        ]
        call.reply(capabilities_reply_to_pb(answers))
