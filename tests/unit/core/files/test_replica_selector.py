from collections import Counter

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.limits import suspect_ns
from fs3.base.units import MIB, SECOND
from fs3.core.files.replica_selector import ReplicaSelector, candidates
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.routing import Node, Role, Routing

S, SYNC, OFF = PublicState.SERVING, PublicState.SYNCING, PublicState.OFFLINE


def routing_of(states, hosts=("a", "b", "c"), alive=(True, True, True)):
    slots = tuple(Slot(TargetId(10 + i), NodeId(i + 1), state) for i, state in enumerate(states))
    nodes = {
        NodeId(i + 1): Node(NodeId(i + 1), f"s{i}", Role.STORAGE, ("tcp://x:1",), hosts[i], 1, alive[i])
        for i in range(len(states))
    }
    chain = Chain(ChainId(7), 4, slots)
    return chain, Routing(b"c", 1, nodes, {chain.id: chain}, {})


def test_only_serving_replicas_are_candidates_in_chain_order():
    chain, routing = routing_of((S, S, SYNC))
    found = candidates(chain, routing, "")
    assert found.nodes == (1, 2)
    assert found.version == 4


def test_a_node_that_is_not_known_is_no_candidate():
    chain, routing = routing_of((S, S, S))
    del routing.nodes[NodeId(2)]
    assert candidates(chain, routing, "").nodes == (1, 3)


def test_reads_one_after_the_other_stay_with_one_replica():
    chain, routing = routing_of((S, S, S))
    who = candidates(chain, routing, "")
    choice = ReplicaSelector(5)
    picked = set()
    for _ in range(30):
        node = choice.pick(who, 0)
        choice.on_sent(node, 4096)
        choice.on_answered(node, 4096)
        picked.add(node)
    assert len(picked) == 1


def test_many_reads_at_a_time_spread_over_the_replicas():
    chain, routing = routing_of((S, S, S))
    who = candidates(chain, routing, "")
    choice = ReplicaSelector(5)
    picked = Counter()
    for _ in range(30):
        node = choice.pick(who, 0)
        picked[node] += 1
        choice.on_sent(node, 1 * MIB)
    assert sorted(picked.values()) == [9, 10, 11] or sorted(picked.values()) == [10, 10, 10]


def test_clients_begin_at_different_replicas():
    chain, routing = routing_of((S, S, S))
    who = candidates(chain, routing, "")
    assert {ReplicaSelector(seed).pick(who, 0) for seed in range(3)} == {1, 2, 3}


def test_a_node_that_owes_much_gets_less():
    chain, routing = routing_of((S, S, S))
    who = candidates(chain, routing, "")
    choice = ReplicaSelector(0)
    choice.on_sent(NodeId(1), 10 * MIB)
    choice.on_sent(NodeId(2), 5 * MIB)
    assert [choice.pick(who, 0) for _ in range(4)] == [3, 3, 3, 3]
    choice.on_answered(NodeId(1), 10 * MIB)
    choice.on_sent(NodeId(3), 1)
    assert choice.pick(who, 0) == 1  # the favourite of a client with seed 0


def test_this_host_is_preferred_until_it_is_busy():
    chain, routing = routing_of((S, S, S))
    who = candidates(chain, routing, "b")
    choice = ReplicaSelector(0)
    assert {choice.pick(who, 0) for _ in range(5)} == {2}
    choice.on_sent(NodeId(2), 1 * MIB)
    assert choice.pick(who, 0) != 2


def test_a_node_that_failed_is_asked_last_for_a_while():
    chain, routing = routing_of((S, S))
    who = candidates(chain, routing, "")
    choice = ReplicaSelector(0)
    choice.on_failed(NodeId(1), 5 * SECOND)
    assert {choice.pick(who, 5 * SECOND) for _ in range(4)} == {2}
    assert choice.pick(who, 5 * SECOND, exclude=(NodeId(2),)) == 1
    assert choice.pick(who, 5 * SECOND + suspect_ns) == 1
    choice.on_failed(NodeId(1), 5 * SECOND)
    choice.on_succeeded(NodeId(1))
    assert choice.pick(who, 5 * SECOND) == 1


def test_a_dead_node_is_asked_when_no_other_serves():
    chain, routing = routing_of((S, S), alive=(False, True))
    who = candidates(chain, routing, "")
    choice = ReplicaSelector(0)
    assert {choice.pick(who, 0) for _ in range(4)} == {2}
    assert choice.pick(who, 0, exclude=(NodeId(2),)) == 1


def test_nobody_is_left():
    chain, routing = routing_of((OFF, OFF))
    assert ReplicaSelector(0).pick(candidates(chain, routing, ""), 0) is None
    chain, routing = routing_of((S,))
    assert ReplicaSelector(0).pick(candidates(chain, routing, ""), 0, exclude={NodeId(1)}) is None
