"""Defects planted in who may do what: the suites that look for them find every one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fs3.base.ids import NodeId, TargetId
from fs3.core.membership import claims
from fs3.core.security import identity
from fs3.core.security.tickets import open_ticket
from fs3.drivers.rpc import admission
from fs3.drivers.rpc.admission import RequestAdmission
from fs3.drivers.rpc.server_call import MethodBinding, bindings_by_id
from fs3.model.inode import User
from fs3.model.principal import ALL_RIGHTS, AuthContext, Principal, Right
from fs3.runtime import ticket_gate
from fs3.runtime.ticket_gate import TicketGate
from fs3.services.storage import peer_guard
from fs3.wire.methods import META
from tests.conformance import test_authentication as suite
from tests.unit.core.security import test_identity, test_peers
from tests.unit.services.storage import test_peer_guard


def without_a_check_of_stat(bindings: Any, counts: Any) -> dict[int, MethodBinding]:
    """One verb is for everybody."""
    table = dict(bindings_by_id(bindings, counts))
    table[META.Stat.id] = table[META.Stat.id]._replace(rights=ALL_RIGHTS)
    return table


def check_with_or(self: RequestAdmission, binding: MethodBinding, auth: AuthContext, now: int) -> None:
    """A right that the method asks for, or one that the caller has."""
    if not binding.rights | auth.rights:
        raise self._refuse(admission.Code.PERMISSION, "")


def check_rights_alone(self: RequestAdmission, binding: MethodBinding, auth: AuthContext, now: int) -> None:
    """The time of a connection is not looked at."""
    if not binding.rights & auth.rights:
        raise self._refuse(admission.Code.NOT_AUTHENTICATED, f"{binding.method!r} is for those who have authenticated")


def look_at_the_switch_alone(self: TicketGate) -> None:
    """What was verified stays so."""
    if not self._security.is_on:
        for auth in self._tickets:
            self._decide(auth)


def count_from_when_it_is_shown(self: TicketGate, ticket: bytes) -> tuple[Principal, int]:
    """How long it is good is what it says, counted by the clock of the client that shows it."""
    principal = open_ticket(self._security.ring, ticket, 0)
    return principal, self._now() + principal.expires_ms * 1_000_000


def lapse_quietly(auth: AuthContext) -> None:
    """What goes on goes on."""
    auth.lapse()


def believe(principal: Principal, claimed: User, rights: int) -> User:
    """A request says who asks."""
    return claimed


def keep_root(user: User) -> User:
    """Root is root."""
    return user


def ask_for_the_right_alone(auth: AuthContext, chain: Any, target: TargetId, routing: Any) -> bool:
    """Any storage node speaks for any target."""
    return bool(auth.rights & Right.STORAGE)


def believe_the_node(principal: Principal, node: NodeId, routing: Any) -> bool:
    """A request says which node it is from."""
    return True


class GateBug(NamedTuple):
    """A defect, and the test that must find it."""

    place: Any
    name: str
    defect: Callable[..., Any]
    found_by: Callable[..., Any]
    wires: tuple[str, ...] = ("tcp", "grpc")
    """Those on which it does harm."""


BUGS = {
    "a verb without a check": GateBug(
        admission, "bindings_by_id", without_a_check_of_stat, suite.test_strangers_may_ask_only_what_anyone_may
    ),
    "rights compared with or": GateBug(
        RequestAdmission, "_check_rights", check_with_or, suite.test_users_and_services_may_ask_what_is_theirs_and_are_known
    ),
    "a connection whose time is not looked at": GateBug(
        RequestAdmission,
        "_check_rights",
        check_rights_alone,
        suite.test_rights_end_with_the_ticket_unless_it_is_renewed,
        ("tcp",),
    ),
    "a cached verification that outlives the key": GateBug(
        TicketGate, "_on_changed", look_at_the_switch_alone, suite.test_what_was_verified_with_a_key_ends_with_the_key
    ),
    "a cached verification that outlives the user": GateBug(
        TicketGate, "_on_changed", look_at_the_switch_alone, suite.test_a_revoked_user_is_refused_at_once_and_streams_of_it_end
    ),
    "expiry by the clock of the client": GateBug(
        TicketGate, "_verify", count_from_when_it_is_shown, suite.test_rights_end_with_the_ticket_unless_it_is_renewed
    ),
    "streams that outlive the rights": GateBug(
        ticket_gate, "_lose", lapse_quietly, suite.test_a_revoked_user_is_refused_at_once_and_streams_of_it_end
    ),
    "a user as the request says": GateBug(
        test_identity, "user_of", believe, test_identity.test_what_a_user_claims_counts_for_nothing
    ),
    "root for those who say so": GateBug(
        identity, "squash", keep_root, test_identity.test_one_that_acts_for_others_is_believed_but_is_not_root
    ),
    "any storage node for any target": GateBug(
        peer_guard, "speaks_for", ask_for_the_right_alone, test_peer_guard.test_each_chain_of_a_request_is_looked_at
    ),
    "heartbeats of another node": GateBug(
        claims, "is_node", believe_the_node, test_peers.test_a_node_sends_heartbeats_of_itself_alone
    ),
}


async def run(test: Callable[..., Any], wire: str, directory: Path) -> None:
    """Run a test, in a scene of this wire if it wants one."""
    wanted = inspect.signature(test).parameters
    scenes: dict[str, Any] = {"scene": suite.Scene(wire, directory)} if "scene" in wanted else {}
    if "claimed" in wanted:
        scenes["claimed"] = test_identity.ROOT_CLAIMED
    async with asyncio.timeout(5):
        found = test(**scenes)
        if inspect.isawaitable(found):
            await found


@pytest.mark.parametrize("wire", ["tcp", "grpc"])
@pytest.mark.parametrize("name", BUGS)
async def test_a_planted_bug_is_found(name: str, wire: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS[name]
    if wire not in bug.wires:
        pytest.skip("calls on gRPC bring their tickets with them")
    monkeypatch.setattr(bug.place, bug.name, bug.defect)
    with pytest.raises((AssertionError, TimeoutError, pytest.fail.Exception)):
        await run(bug.found_by, wire, tmp_path)
