"""What the planted bugs about targets that go on without another one exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from fs3.client.mgmtd import member
from fs3.model.cluster import HeartbeatAck
from fs3.sim.ring2.service_bug import ServiceBug


def hear_any(ack: HeartbeatAck) -> bool:
    """Any answer counts."""
    return True


DEPARTURE_BUGS: dict[str, ServiceBug] = {
    "heard_without_a_lease": ServiceBug(
        "a target goes on without another one when the manager has answered, though it grants no lease",
        [(member, "is_heard", hear_any)],
        scene="heard_when_the_chain_has_gone_on",
    ),
}
