"""What a change of the routing info tells."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.core.health.events import events_per_change_max, happenings_of
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.routing import Delta, Node, Role, Routing

S, OFF, LAST, SYNC = PublicState.SERVING, PublicState.OFFLINE, PublicState.LASTSRV, PublicState.SYNCING


def node(number: int, *, alive: bool = True, incarnation: int = 1) -> Node:
    return Node(NodeId(number), f"storage-{number}", Role.STORAGE, (), "", incarnation, alive)


def chain(version: int, *states: PublicState, number: int = 7) -> Chain:
    slots = (Slot(TargetId(index), NodeId(index), state) for index, state in enumerate(states, 1))
    return Chain(ChainId(number), version, tuple(slots))


def routing(*parts: Node | Chain) -> Routing:
    nodes = {part.id: part for part in parts if isinstance(part, Node)}
    return Routing(b"c", 4, nodes, {part.id: part for part in parts if isinstance(part, Chain)})  # type: ignore[misc]


def tell(before: Routing, *parts: Node | Chain) -> list[tuple[str, str, str]]:
    nodes = tuple(part for part in parts if isinstance(part, Node))
    return [*happenings_of(before, Delta(4, 5, nodes, tuple(part for part in parts if isinstance(part, Chain))))]


def test_nodes_come_and_go() -> None:
    assert tell(routing(), node(1)) == [("joined", "notice", "node storage-1 (storage) has joined the cluster")]
    dead = ("node-dead", "degraded", "node storage-1 (storage) has stopped, or its lease has run out")
    assert tell(routing(node(1)), node(1, alive=False)) == [dead]
    assert tell(routing(node(1, alive=False)), node(1, incarnation=2)) == [("well", "notice", "node storage-1 (storage) is back")]
    assert tell(routing(node(1)), node(1, incarnation=2)) == [("well", "notice", "node storage-1 (storage) was started again")]
    assert tell(routing(node(1)), replace(node(1), endpoints=("tcp://h:2",))) == []


def test_a_chain_that_loses_targets_and_gets_them_back() -> None:
    nodes = [node(number) for number in (1, 2, 3)]
    made = tell(routing(*nodes), chain(1, S, S, S))
    assert made == [("joined", "notice", "1 chains were made")]
    codes = [code for code, _, _ in tell(routing(*nodes, chain(1, S, S, S)), chain(2, S, S, OFF))]
    assert codes == ["target-behind"]
    found = tell(routing(*nodes, chain(2, S, S, OFF)), chain(3, S, OFF, OFF))
    assert found == [
        ("target-behind", "degraded", "chain 7: target 2 on storage-2 was serving and is offline (version 3)"),
        ("chain-one-copy", "degraded", "chain 7: 1 of 3 replicas serves"),
    ]
    codes = [(code, severity) for code, severity, _ in tell(routing(*nodes, chain(3, S, OFF, OFF)), chain(4, LAST, OFF, OFF))]
    assert codes == [("last-serving-missing", "down"), ("chain-unserved", "down")]
    healed = tell(routing(*nodes, chain(4, S, SYNC, OFF)), chain(5, S, S, OFF))
    assert healed == [("well", "notice", "chain 7: target 2 on storage-2 was syncing and is serving (version 5)")]


def test_a_large_change_is_told_in_so_many_events() -> None:
    before = [chain(1, S, S, number=number) for number in range(1, 200)]
    after = [chain(2, S, OFF, number=number) for number in range(1, 200)]
    found = tell(routing(*before), *after)
    assert len(found) == events_per_change_max + 1
    assert found[-1] == ("chain-one-copy", "degraded", f"and {2 * 199 - events_per_change_max} more changes with it")
