"""Requests that the machine is stepped for: what the service adds to them, who is told of the answers.

Every verb of `VERBS` is one: of nodes, namespaces, machines, moves, settings, users and security.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import msgspec

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.base.version import Release
from fs3.core.membership.claims import claim_by
from fs3.core.membership.events import Answer, ManagerRequest, Rejection, Respond
from fs3.core.membership.manager import Manager
from fs3.core.membership.node_admission import RequestRejected
from fs3.core.security.proved import REGISTER, digest_of_registration
from fs3.model.cluster import ClearNamespace, DeleteNamespace, Heartbeat, OpenNamespace, RegisterNode, SetConfig, SetNamespace
from fs3.model.machine import JoinCluster, MachineProof, MakeToken, RemoveMachine, RevokeToken
from fs3.model.moves import MoveOverview
from fs3.model.principal import PrincipalKind
from fs3.model.security import AddUserToken, LoginKind, SecurityPhase
from fs3.model.settings import SetSettings
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, Call
from fs3.runtime.audit import Audit
from fs3.services.mgmtd.logins import Logins
from fs3.services.mgmtd.namespace_handlers import tenant_of
from fs3.services.mgmtd.node_notes import NodeNotes
from fs3.services.mgmtd.primary import Primary
from fs3.services.mgmtd.routing_handlers import RoutingHandlers
from fs3.services.mgmtd.schemas import Schemas, check_config
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_verb import MgmtdVerb
from fs3.wire.mgmtd_verbs import VERBS, known_routing_of

log = logging.getLogger("fs3.mgmtd")

AnswerWriter: TypeAlias = Callable[[Any], Any]
"""The message that answers a request, of what the machine has answered."""

_UNTOLD = (MGMTD.Heartbeat, MGMTD.EnsureTable, MGMTD.OpenNamespace, MGMTD.ListMoves)
"""Verbs of the machine that the audit log does not tell of."""


_UNTOLD_OF_NODES = ("ok", Code.BUSY.name, Code.STALE.name)
"""Answers to registrations that it does not tell of either."""


def _is_proved(call: Call, registration: RegisterNode) -> bool:
    """The connection has proved that it is the node."""
    principal = call.auth.principal
    return principal is not None and principal.kind is PrincipalKind.SERVICE and principal.name == registration.name


def _about(request: Any) -> str:
    """Whom or what a request names, for the audit log; "" when it names nothing. Requests have secrets in other fields."""
    names = (getattr(request, field, "") for field in ("name", "user", "machine", "id"))
    return " ".join(str(name) for name in names if name)


def _shows_secret(body: Any) -> bool:
    """A token or the key of a machine has travelled as it is."""
    return isinstance(body, JoinCluster | MakeToken | RevokeToken | RemoveMachine) or (
        isinstance(body, RegisterNode) and body.proof is not None
    )


class MachineRequests:
    """Those that the machine has not answered yet."""

    def __init__(
        self,
        primary: Primary,
        routing: RoutingHandlers,
        notes: NodeNotes,
        schemas: Schemas,
        clock: Clock,
        audit: Audit,
        logins: Logins,
        release: Release,
    ) -> None:
        """`routing`: what goes with answers. `schemas`: what SetConfig accepts for each role. `logins`: proofs of registrations.
        `release`: what this manager runs."""
        self._primary = primary
        self._routing = routing
        self._notes = notes
        self._schemas = schemas
        self._clock = clock
        self._audit = audit
        self._logins = logins
        self._release = release
        self._calls: dict[int, tuple[Call, MgmtdVerb, Any, str]] = {}
        """By token: with what names whom or what it is about, and the machine that has proved itself by it, "" for none."""
        self._last_token = 0

    def bindings(self) -> Bindings:
        """One handler for every verb: it posts the request to the machine, and answers when that does."""
        return {verb.method: partial(self._handle, verb) for verb in VERBS.values()}

    def _handle(self, verb: MgmtdVerb, call: Call) -> None:
        manager = self._primary.admit(call)
        if manager is None:
            return
        try:
            body = claim_by(call.auth, verb.from_pb(call.request), manager.published)
            if manager.security.phase is SecurityPhase.ON and _shows_secret(body):
                told = "it shows a token or the key of a machine to those who listen, and this cluster has security"
                raise error(Code.UNSUPPORTED, f"{told}; {self._release}, and later ones, prove them: install it there")
            body = self._complete(call, manager, body)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        except RequestRejected as refusal:
            self._note_audit(call, verb, refusal.rejection, call.request)
            call.fail(refusal.rejection.code, refusal.rejection.message)
            return
        if isinstance(body, Heartbeat):
            self._notes.note(body, manager.published)
        self._post(call, verb, body, call.request)

    def post(self, call: Call, body: Any, answer_to_pb: AnswerWriter, who: str) -> None:
        """Have the machine answer a request of `VERBS` that came in another form: proved by `who`, and answered by the message
        that `answer_to_pb` makes."""
        verb = VERBS.get(type(body)) or dataclasses.replace(VERBS[JoinCluster], method=call.method)
        if isinstance(body, MakeToken):
            body = msgspec.structs.replace(body, at_ms=self.wall_ms())
        self._post(call, dataclasses.replace(verb, answer_to_pb=lambda answer, _: answer_to_pb(answer)), body, body, who)

    def _post(self, call: Call, verb: MgmtdVerb, body: Any, about: Any, who: str = "") -> None:
        self._last_token += 1
        self._calls[self._last_token] = (call, verb, about, who)
        self._primary.step(ManagerRequest(self._last_token, body))

    def wall_ms(self) -> int:
        """The time of day, since 1970."""
        return self._clock.wall() // MILLISECOND

    def _complete(self, call: Call, manager: Manager, body: Any) -> Any:
        """A request with what the service alone knows of it: the time, the tenant, what was proved. Raises FS3Error,
        RequestRejected."""
        if isinstance(body, SetConfig):
            check_config(self._schemas, body)
        elif isinstance(body, JoinCluster | MakeToken | SetSettings | AddUserToken):
            return msgspec.structs.replace(body, at_ms=self.wall_ms())
        elif isinstance(body, OpenNamespace | SetNamespace | ClearNamespace | DeleteNamespace):
            return msgspec.structs.replace(body, tenant=tenant_of(call.auth))
        elif isinstance(body, RegisterNode):
            return msgspec.structs.replace(
                body, is_proved=_is_proved(call, body), proof=self._proof_of(manager, body) if body.login else body.proof
            )
        return body

    def _proof_of(self, manager: Manager, body: RegisterNode) -> MachineProof:
        """What a node has proved of its machine. Raises FS3Error, RequestRejected."""
        assert body.login is not None
        claimant = body.login.claimant
        if claimant.kind is not LoginKind.NODE or claimant.node != body.name:
            raise error(Code.INVALID, f"the proof of node {body.name!r} is of another one")
        secret = self._logins.prove(manager, body.login, REGISTER, digest_of_registration(body)).secret
        return MachineProof(claimant.identity, secret)

    def answer(self, effect: Respond, manager: Manager) -> None:
        """The machine has answered one."""
        call, verb, about, who = self._calls.pop(effect.token)
        self._note_audit(call, verb, effect.answer, about, who)
        if isinstance(effect.answer, Rejection):
            call.fail(effect.answer.code, effect.answer.message, manager.published.version)
        else:
            if isinstance(effect.answer, MoveOverview) and verb.method is MGMTD.PlanMoves:
                for note in effect.answer.notes:
                    log.warning("moves: %s", note)
            routing = self._routing.encode_message(manager, known_routing_of(call.request)) if verb.has_routing else None
            call.reply(verb.answer_to_pb(effect.answer, routing))

    def end(self, code: Code, why: str) -> None:
        """The machine answers none any more."""
        calls = list(self._calls.values())
        self._calls.clear()
        for call, *_ in calls:
            call.fail(code, why)

    def _note_audit(self, call: Call, verb: MgmtdVerb, answer: Answer | Rejection, names: Any, who: str = "") -> None:
        """Changes of the cluster are told, with whom they are about, and what was refused to nodes."""
        result = answer.code.name if isinstance(answer, Rejection) else "ok"
        if verb.method in _UNTOLD or (verb.method is MGMTD.RegisterNode and result in _UNTOLD_OF_NODES):
            return
        who = call.auth.principal.name if call.auth.principal is not None else who
        about = _about(names)
        self._audit.record(verb.method.name, who=who, source=call.peer, result=result, **({"about": about} if about else {}))
