"""Which requests a server takes: one rule for all wires."""

import pytest

from fs3.base.status import Code
from fs3.core.security.state import SecurityState
from fs3.drivers.rpc.admission import RequestAdmission, RequestRefused
from fs3.model.principal import AuthContext, Principal, PrincipalKind, Right
from fs3.ports.rpc import Call
from fs3.runtime.ticket_gate import TicketGate
from fs3.wire.methods import MGMTD, STORAGE
from fs3.wire.pb import mgmtd_pb2, storage_pb2
from tests.unit.conftest import LoopClock

HEARTBEAT = mgmtd_pb2.HeartbeatRequest(node_id=3).SerializeToString()
UPDATE = storage_pb2.UpdateRequest(lengths=[5]).SerializeToString()


def handle(call: Call) -> None:
    raise AssertionError("only the admission is asked")


def make_admission() -> RequestAdmission:
    return RequestAdmission({MGMTD.Heartbeat: handle, STORAGE.Update: handle}, "tcp://here:1", calls_max=2)


def test_an_admitted_request_comes_with_its_binding_and_its_message() -> None:
    binding, request = make_admission().admit(MGMTD.Heartbeat.id, HEARTBEAT, 0, open_calls=1, auth=AuthContext(), now=0)
    assert (binding.method, binding.handler) == (MGMTD.Heartbeat, handle)
    assert request.node_id == 3
    binding, request = make_admission().admit(STORAGE.Update.id, UPDATE, 5, open_calls=0, auth=AuthContext(), now=0)
    assert binding.takes_payload
    assert list(request.lengths) == [5]


@pytest.mark.parametrize(
    ("method_id", "data", "payload_length", "open_calls", "code", "text"),
    [
        (0x7FFE, HEARTBEAT, 9, 2, Code.UNSUPPORTED, "no method 0x7ffe is served here"),
        (MGMTD.Heartbeat.id, HEARTBEAT, 9, 2, Code.INVALID, "carry no payload"),
        (MGMTD.Heartbeat.id, b"\xff", 0, 2, Code.BUSY, "2 calls of this connection are under way"),
        (MGMTD.Heartbeat.id, b"\xff", 0, 1, Code.INVALID, "cannot be read"),
    ],
)
def test_a_refused_request_is_told_the_first_reason(
    method_id: int, data: bytes, payload_length: int, open_calls: int, code: Code, text: str
) -> None:
    with pytest.raises(RequestRefused) as refusal:
        make_admission().admit(method_id, data, payload_length, open_calls, AuthContext(), 0)
    assert refusal.value.code is code
    assert text in refusal.value.message


def test_a_listener_that_closes_refuses_what_it_would_have_taken() -> None:
    admission = make_admission()
    admission.is_closing = True
    with pytest.raises(RequestRefused) as refusal:
        admission.admit(MGMTD.Heartbeat.id, HEARTBEAT, 0, open_calls=0, auth=AuthContext(), now=0)
    assert refusal.value.code is Code.SHUTTING_DOWN
    assert refusal.value.message == "tcp://here:1 is shutting down"


def test_who_may_not_call_is_told_to_the_audit_log() -> None:
    told = Told()
    gate = TicketGate(SecurityState(), LoopClock(), audit=told)
    admission = RequestAdmission({MGMTD.SetConfig: handle}, "tcp://here:1", calls_max=2, gate=gate)
    ann = Principal(PrincipalKind.USER, "ann", Right.USER)
    for auth in (AuthContext(Right.ANYONE, peer="tcp://a:1"), AuthContext(Right.USER | Right.ANYONE, ann, "tcp://b:1")):
        with pytest.raises(RequestRefused):
            admission.admit(MGMTD.SetConfig.id, b"", 0, open_calls=0, auth=auth, now=0)
    assert told.lines == [
        ("SetConfig", "", "tcp://a:1", "NOT_AUTHENTICATED"),
        ("SetConfig", "ann", "tcp://b:1", "PERMISSION"),
    ]


class Told:
    """An audit log that is kept."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, str]] = []

    def record(self, what: str, *, who: str = "", source: str = "", result: str = "ok", **details: str | int) -> None:
        self.lines.append((what, who, source, result))
