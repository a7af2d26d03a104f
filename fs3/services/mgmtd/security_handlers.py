"""Requests about who calls that the machine is not stepped for: logins, users, groups, what security is at."""

from __future__ import annotations

from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, Call
from fs3.services.mgmtd.logins import Logins
from fs3.services.mgmtd.primary import Primary
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_groups import group_page_to_pb, list_groups_from_pb
from fs3.wire.mgmtd_security import list_users_from_pb, security_status_to_pb, user_page_to_pb


class SecurityHandlers:
    """Answers from the security of the cluster."""

    def __init__(self, primary: Primary, logins: Logins, clock: Clock) -> None:
        self._primary = primary
        self._logins = logins
        self._clock = clock

    def bindings(self) -> Bindings:
        """One handler for every method of the group."""
        return {
            MGMTD.BeginLogin: self._begin_login,
            MGMTD.Login: self._login,
            MGMTD.ListUsers: self._list_users,
            MGMTD.ListGroups: self._list_groups,
            MGMTD.GetSecurity: self._get_security,
        }

    def _begin_login(self, call: Call) -> None:
        if (manager := self._primary.admit(call)) is not None:
            self._logins.begin(call, manager)

    def _login(self, call: Call) -> None:
        if (manager := self._primary.admit(call)) is not None:
            self._logins.login(call, manager)

    def _list_users(self, call: Call) -> None:
        if (manager := self._primary.admit(call)) is not None:
            call.reply(user_page_to_pb(manager.security.list_users(list_users_from_pb(call.request))))

    def _list_groups(self, call: Call) -> None:
        if (manager := self._primary.admit(call)) is not None:
            call.reply(group_page_to_pb(manager.groups.list_groups(list_groups_from_pb(call.request))))

    def _get_security(self, call: Call) -> None:
        if (manager := self._primary.admit(call)) is not None:
            call.reply(security_status_to_pb(manager.security.status(self._clock.now())))
