"""Whatever version somebody has, what the log gives leads to the newest; and the log stays bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.core.membership.deltas import DeltaLog, routing_bytes
from fs3.model.chain import Chain, ChainTable, PublicState, Slot
from fs3.model.cluster import RoutingUpdate
from fs3.model.routing import Delta, Node, Role, Routing
from fs3.wire.mgmtd import routing_to_pb

CLUSTER = b"c" * 16

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
nodes = st.builds(
    Node,
    id=st.integers(1, 5).map(NodeId),
    name=names,
    role=st.sampled_from(Role),
    endpoints=st.lists(names.map(lambda text: f"tcp://{text}"), max_size=3).map(tuple),
    host=names,
    incarnation=st.integers(1, 1 << 63),
    alive=st.booleans(),
    pid=st.integers(0, 1 << 22),
)
slots = st.builds(
    Slot, st.integers(1, 1 << 32 - 1).map(TargetId), st.integers(1, 1 << 20).map(NodeId), st.sampled_from(PublicState)
)
chains = st.builds(
    Chain, st.integers(1, 5).map(ChainId), st.integers(1, 1 << 31), st.lists(slots, min_size=1, max_size=4).map(tuple)
)
tables = st.builds(
    ChainTable,
    st.integers(1, 3).map(TableId),
    st.just(1),
    st.integers(1, 4),
    st.lists(st.integers(1, 1 << 20).map(ChainId), min_size=1, max_size=5).map(tuple),
)


def unique(entities: list) -> tuple:  # type: ignore[type-arg]
    return tuple({entity.id: entity for entity in entities}.values())


changes = st.tuples(
    st.lists(nodes, max_size=2).map(unique),
    st.lists(chains, max_size=2).map(unique),
    st.lists(tables, max_size=1).map(unique),
    st.lists(st.integers(1, 5).map(NodeId), max_size=1).map(tuple),
)


@given(st.integers(0, 4), st.lists(changes, max_size=10))
def test_any_version_is_led_to_the_newest(kept: int, history: list) -> None:  # type: ignore[type-arg]
    log = DeltaLog(Routing(CLUSTER), kept)
    snapshots = [log.routing]
    for version, (some_nodes, some_chains, some_tables, removed) in enumerate(history):
        removed = tuple(node for node in removed if node not in {other.id for other in some_nodes})
        log.append(Delta(version, version + 1, some_nodes, some_chains, some_tables, removed))
        snapshots.append(log.routing)
    newest = snapshots[-1]
    for snapshot in snapshots:
        delta = log.since(snapshot.version)
        assert snapshot.apply(delta, CLUSTER) == newest
        behind = newest.version - snapshot.version
        if snapshot.version > 0 and behind <= kept:
            assert delta.from_version == snapshot.version, "a delta was enough"
        # What arrives late or twice does no harm.
        assert newest.apply(delta, CLUSTER) is newest
    assert log.since(newest.version + 5) == newest.to_full_delta()


@given(
    st.lists(nodes, max_size=5).map(unique), st.lists(chains, max_size=5).map(unique), st.lists(tables, max_size=3).map(unique)
)
def test_the_size_is_never_underestimated(some_nodes, some_chains, some_tables) -> None:  # type: ignore[no-untyped-def]
    delta = Delta(0, 1 << 40, some_nodes, some_chains, some_tables)
    # 32: the update's own fields.
    assert routing_to_pb(RoutingUpdate(delta, CLUSTER)).ByteSize() <= 32 + routing_bytes(some_nodes, some_chains, some_tables)
