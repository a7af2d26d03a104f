"""Users, groups, tokens and the security of a cluster, for its administrator."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from fs3.base.errors import FS3Error
from fs3.base.status import Retry
from fs3.client.mgmtd.client import MgmtdClient
from fs3.core.security.login import SECRET_BYTES, format_user_token, stored_of
from fs3.model.group import Group, ListGroups, PutGroup, RemoveGroup
from fs3.model.security import (
    Account,
    AddUserToken,
    ListUsers,
    NodeKey,
    PutUser,
    RemoveUser,
    RevokeUser,
    RotateKeys,
    SecurityPhase,
    SecurityStatus,
    SetSecurity,
)
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_groups import group_page_from_pb, list_groups_to_pb
from fs3.wire.mgmtd_security import get_security_to_pb, list_users_to_pb, security_status_from_pb, user_page_from_pb

_TOKEN_ID_BYTES = 4
FOLLOW_POLL_SECONDS = 0.05


class SecurityAdmin:
    """Asks a manager. Every method raises FS3Error; PERMISSION when the client is no administrator."""

    def __init__(self, client: MgmtdClient) -> None:
        self._client = client

    async def put_user(self, request: PutUser) -> Account:
        """Add a user (EXISTS), or change one (NOT_FOUND). INVALID naming what a user cannot have."""
        account: Account = await self._client.ask(request)
        return account

    async def remove_user(self, name: str) -> Account:
        """Forget a user; its tickets do not count any more. NOT_FOUND."""
        account: Account = await self._client.ask(RemoveUser(name))
        return account

    async def list_users(self) -> list[Account]:
        """All users, by name."""
        found: list[Account] = []
        while True:
            wanted = ListUsers(after=found[-1].name if found else "")
            page = user_page_from_pb(await self._client.ask_message(MGMTD.ListUsers, list_users_to_pb(wanted)))
            found += page.users
            if not page.has_more:
                return found

    async def put_group(self, request: PutGroup) -> Group:
        """Add a group, or give it another gid. EXISTS, also when the gid has a name; NOT_FOUND; NOT_EMPTY while users have it."""
        group: Group = await self._client.ask(request)
        return group

    async def remove_group(self, name: str, *, also_used: bool = False) -> Group:
        """Forget a group. NOT_FOUND; NOT_EMPTY when users have it, unless `also_used`: they keep its gid."""
        group: Group = await self._client.ask(RemoveGroup(name, also_used))
        return group

    async def list_groups(self) -> list[Group]:
        """All groups that have a name, by name. UNSUPPORTED by managers of releases that know of none."""
        found: list[Group] = []
        while True:
            wanted = ListGroups(after=found[-1].name if found else "")
            page = group_page_from_pb(await self._client.ask_message(MGMTD.ListGroups, list_groups_to_pb(wanted)))
            found += page.groups
            if not page.has_more:
                return found

    async def add_token(self, user: str, name: str = "", lifetime_ms: int = 0) -> str:
        """A new token of a user, as text. The manager learns its digest alone. NOT_FOUND, TOO_LARGE."""
        number, secret = os.urandom(_TOKEN_ID_BYTES).hex(), os.urandom(SECRET_BYTES)
        await self._client.ask(AddUserToken(user, number, stored_of(secret), name, lifetime_ms))
        return format_user_token(self._client.cluster, number, secret)

    async def revoke(self, name: str, token: str = "", *, is_node: bool = False) -> int:
        """What a user or a node has proved counts no more, and a token of it neither; the epoch. NOT_FOUND."""
        epoch: int = await self._client.ask(RevokeUser(name, token, is_node))
        return epoch

    async def set_security(self, *, on: bool, unready: bool = False) -> SecurityStatus:
        """Turn security on or off. BUSY naming nodes that would be refused, unless `unready` says that they may be."""
        phase = SecurityPhase.ON if on else SecurityPhase.OFF
        status: SecurityStatus = await self._client.ask(SetSecurity(phase, unready=unready))
        return status

    async def wait_followed(self, version: int, timeout_s: float) -> tuple[str, ...]:
        """Until every node that is alive knows of this version of the cluster's security; names of those that do not by then.
        What the manager answers that is not for ever is asked again."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            try:
                nodes = (await self.status()).nodes
            except FS3Error as refusal:
                if refusal.code.retry is Retry.NEVER or loop.time() > deadline:
                    raise
            else:
                behind = tuple(node.name for node in nodes if node.is_alive and node.version < version)
                if not behind or loop.time() > deadline:
                    return behind
            await asyncio.sleep(FOLLOW_POLL_SECONDS)

    async def admit_nodes(self, node_keys: Sequence[NodeKey]) -> SecurityStatus:
        """Nodes prove themselves with these keys from now on."""
        status: SecurityStatus = await self._client.ask(SetSecurity(SecurityPhase.OFF, tuple(node_keys), keeps_phase=True))
        return status

    async def rotate(self, *, at_once: bool = False) -> SecurityStatus:
        """Have another key seal; `at_once`: and the former ones verify nothing any more."""
        status: SecurityStatus = await self._client.ask(RotateKeys(at_once))
        return status

    async def status(self) -> SecurityStatus:
        """What the cluster's security is at."""
        return security_status_from_pb(await self._client.ask_message(MGMTD.GetSecurity, get_security_to_pb()))
