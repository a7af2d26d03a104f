"""Logins as the manager answers them: what a flood of those that fail leaves to others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from fs3.base.limits import stranger_calls_max
from fs3.base.status import Code
from fs3.core.membership.manager import Manager
from fs3.core.security.login import make_proof, stored_of, transcript_of
from fs3.drivers.os.clock import OsClock
from fs3.model.principal import AuthContext
from fs3.model.security import AddUserToken, BeginLogin, Claimant, Login, LoginKind
from fs3.runtime.audit import NoAudit
from fs3.services.mgmtd.logins import Logins
from fs3.wire.mgmtd_security import begin_login_to_pb, challenge_from_pb, login_to_pb
from tests.unit.core.membership.test_security import ADD_ANN, CLUSTER, Bench

SECRET = b"s" * 32
NONCE = b"n" * 32


class Asked:
    """A call, and what it was answered."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.peer = "tcp://10.0.0.9:4711"
        self.auth = AuthContext()
        self.answer: Any = None

    def reply(self, message: Any) -> None:
        self.answer = message

    def fail(self, code: Code, message: str) -> None:
        self.answer = code


class Desk:
    """A manager at which ann has a token."""

    def __init__(self) -> None:
        bench = Bench()
        bench.put(ADD_ANN)
        bench.security.add_token(0, AddUserToken("ann", "0123abcd", stored_of(SECRET), "", 0))
        bench.store()
        self.logins = Logins(OsClock(), lambda count: b"e" * count, NoAudit())
        self.manager = cast("Manager", SimpleNamespace(cluster=CLUSTER, security=bench.security))

    def log_in(self, secret: bytes) -> Any:
        begin = BeginLogin(Claimant(LoginKind.TOKEN, "0123abcd"), NONCE)
        asked = Asked(begin_login_to_pb(begin))
        self.logins.begin(cast("Any", asked), self.manager)
        nonce = challenge_from_pb(asked.answer).server_nonce
        proof = make_proof(secret, transcript_of(CLUSTER, begin, nonce))
        asked = Asked(login_to_pb(Login(begin.claimant, NONCE, nonce, proof)))
        self.logins.login(cast("Any", asked), self.manager)
        return asked.answer


async def test_a_flood_of_failed_logins_leaves_places_to_others() -> None:
    desk = Desk()
    answers = [desk.log_in(b"wrong" + bytes(27)) for _ in range(2 * stranger_calls_max)]
    assert answers[0] is Code.NOT_ADMITTED
    assert answers[-1] is Code.BUSY
    assert answers.count(None) <= stranger_calls_max // 2, "each that waits takes the place of a request of a stranger"
    assert not isinstance(desk.log_in(SECRET), Code | None)
