"""Requests to the management service and their answers survive the wire."""

from __future__ import annotations

from typing import Any

import pytest

from fs3.base.errors import InvalidArgument
from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.base.units import MILLISECOND, SECOND
from fs3.model.chain import Chain, ChainTable, LocalState, PublicState, Slot
from fs3.model.cluster import (
    CacheNamespace,
    ClearNamespace,
    ClusterInfo,
    ClusterStatus,
    DeleteNamespace,
    DiskSpace,
    EnsureTable,
    GetConfig,
    GetRouting,
    Heartbeat,
    HeartbeatAck,
    LeaveRequest,
    ListNamespaces,
    ManagerInfo,
    NamespaceChanges,
    NamespacePage,
    NamespaceSettings,
    NodeStatus,
    OpenNamespace,
    RegisterNode,
    RegistrationAck,
    RoleConfig,
    RoutingUpdate,
    SetConfig,
    SetNamespace,
    TargetStatus,
)
from fs3.model.domain import Domain
from fs3.model.generation import Generation, TargetClaim, TargetGeneration
from fs3.model.group import Group, GroupPage, ListGroups, PutGroup, RemoveGroup
from fs3.model.machine import (
    JoinAck,
    JoinCluster,
    JoinToken,
    Machine,
    MachineList,
    MachineProof,
    MakeToken,
    RemoveMachine,
    RevokeToken,
)
from fs3.model.moves import (
    Departing,
    DiskDrain,
    ListMoves,
    Move,
    MoveAction,
    MoveOverview,
    MoveProgress,
    MoveReason,
    MoveSettings,
    NodeShare,
    PlanMoves,
    SetMoves,
)
from fs3.model.routing import Node, Role, Routing
from fs3.model.security import (
    Account,
    AddUserToken,
    BeginLogin,
    Challenge,
    Claimant,
    ListUsers,
    Login,
    LoginKind,
    NodeKey,
    NodeSecurity,
    PutUser,
    RemoveUser,
    RevokeUser,
    RotateKeys,
    SealingKey,
    SecurityPhase,
    SecurityStatus,
    SetSecurity,
    UserPage,
    UserToken,
)
from fs3.model.settings import SetSettings, SettingsHistory, SettingsVersion
from fs3.model.target_report import TargetReport, UpkeepProgress
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import routing_from_pb, routing_to_pb
from fs3.wire.mgmtd_groups import group_page_from_pb, group_page_to_pb, list_groups_from_pb, list_groups_to_pb
from fs3.wire.mgmtd_machines import (
    machines_from_pb,
    machines_to_pb,
    set_settings_from_pb,
    settings_history_from_pb,
    settings_history_to_pb,
)
from fs3.wire.mgmtd_queries import (
    cluster_info_from_pb,
    cluster_info_to_pb,
    get_config_from_pb,
    get_config_to_pb,
    get_routing_from_pb,
    get_routing_to_pb,
    list_namespace_changes_from_pb,
    list_namespace_changes_to_pb,
    list_namespaces_from_pb,
    list_namespaces_to_pb,
    namespace_changes_from_pb,
    namespace_changes_to_pb,
    namespace_page_from_pb,
    namespace_page_to_pb,
    role_config_from_pb,
    role_config_to_pb,
    status_from_pb,
    status_to_pb,
)
from fs3.wire.mgmtd_security import (
    begin_login_from_pb,
    begin_login_to_pb,
    challenge_from_pb,
    challenge_to_pb,
    grant_from_pb,
    grant_to_pb,
    list_users_from_pb,
    list_users_to_pb,
    login_from_pb,
    login_to_pb,
    security_status_from_pb,
    security_status_to_pb,
    user_page_from_pb,
    user_page_to_pb,
)
from fs3.wire.mgmtd_verbs import VERBS

CLUSTER = b"0123456789abcdef"
UPKEEP = UpkeepProgress(*range(1, 1 + len(UpkeepProgress.__struct_fields__)))
REPORT = TargetReport(TargetId(5), LocalState.ONLINE, 3, 10, 20, 30, "why", UPKEEP, unreachable=TargetId(6))
GENERATION = Generation(3, b"8 bytes!")
WELL = TargetReport(TargetId(7), LocalState.UPTODATE, 3, generation=GENERATION)
MANAGERS = (ManagerInfo("m1", ("tcp://m:1",), is_primary=True), ManagerInfo("m2"))
NODES = (
    Node(NodeId(1), "storage-1", Role.STORAGE, ("tcp://s:1",), "h", 2, alive=True, pid=9),
    Node(NodeId(2), "meta", Role.META, (), "h", 1, alive=False, by_directory=True),
)
CHAIN = Chain(
    ChainId(8), 2, (Slot(TargetId(5), NodeId(1), PublicState.SERVING), Slot(TargetId(6), NodeId(1), PublicState.OFFLINE))
)
TABLE = ChainTable(TableId(1), 1, 2, (CHAIN.id,))
ROUTING = Routing(CLUSTER, 12, {node.id: node for node in NODES}, {CHAIN.id: CHAIN}, {TABLE.id: TABLE}, 5, 6)
UPDATE = RoutingUpdate(ROUTING.to_full_delta(), CLUSTER, MANAGERS)

TARGETS = (TargetId(5), TargetId(7))
CLAIMS = (TargetClaim(TargetId(5), (GENERATION, Generation(4, b"another!"))), TargetClaim(TargetId(7)))
REMEMBERED = (TargetGeneration(TargetId(5), GENERATION),)
DISKS = (DiskSpace("/data", 1000, 17), DiskSpace("/more", 2000, 0, 7, (TargetId(3), TargetId(5)), is_drained=True))
NAMESPACE = CacheNamespace(
    11, "dsv3", 4096, 2, TableId(2), 1 << 40, 3_600_000, 1 << 30, "team", first_id=3, salt=b"saltsalt", tenant="t"
)
PROOF = MachineProof("h1", b"k" * 32)
TOKEN = JoinToken("0123abcd", b"", 3, 9000, 1000, ("h2", "h3"), revoked=True)
REQUESTS = [
    RegisterNode(
        "storage-1",
        Role.STORAGE,
        CLUSTER,
        4,
        ("tcp://s:1",),
        "h",
        9,
        TARGETS,
        CLAIMS,
        "1:2",
        proof=PROOF,
        by_directory=True,
        domain=Domain("z1", "r7"),
        key_digest=b"D" * 32,
        disks=DISKS,
    ),
    Heartbeat(
        NodeId(1), 4, 17, (REPORT, WELL), 12, leaving=True, config_version=3, disks=DISKS, config_problem="no", security_version=5
    ),
    EnsureTable(3),
    OpenNamespace("dsv3", 4096, 2, NamespaceSettings(budget_bytes=1 << 40, ttl_ms=1, pin_bytes=0, owner="team")),
    SetNamespace("dsv3", NamespaceSettings(ttl_ms=0, owner="")),
    ClearNamespace("dsv3", 3),
    DeleteNamespace("dsv3", 3),
    SetConfig(Role.STORAGE, "a = 1", 7),
    PlanMoves(MoveAction.REPLACE, "storage-1", "storage-2", is_dry_run=True, accept_loss=True),
    PlanMoves(MoveAction.DRAIN_TARGETS, "storage-1", targets=(TargetId(3), TargetId(4))),
    PlanMoves(MoveAction.DRAIN_DISK, "storage-1", disk="/more"),
    SetMoves(is_paused=False, per_node=3, forget_after_ns=90 * SECOND),
    ListMoves(),
    JoinCluster("fs3-0-0-0", "h2", b"K" * 32),
    MakeToken(PROOF, "0123abcd", b"d" * 32, 3, 1000),
    RevokeToken(PROOF, "0123abcd"),
    RemoveMachine(PROOF, "h2", comes_back=True),
    SetSettings(
        {"storage.read_only": True, "meta.stripe": 4, "storage.cache_share_max": 0.5, "meta.space_age_ms": None}, 3, "me"
    ),
    PutUser(
        "ann",
        must_be_new=True,
        uid=1000,
        gid=0,
        groups=(),
        tenant="",
        is_admin=False,
        is_service=True,
        acts_for_others=True,
        is_disabled=False,
        certificates=("CN=ann", "CN=ann,O=x"),
        reads_metrics=True,
    ),
    RemoveUser("ann"),
    AddUserToken("ann", "0123abcd", b"d" * 32, "laptop", 1000),
    RevokeUser("ann", "0123abcd", is_node=True),
    SetSecurity(SecurityPhase.ON, (NodeKey("storage-1", b"d" * 32),), keeps_phase=True, unready=True),
    RotateKeys(at_once=True),
    PutGroup("physics", must_be_new=True, gid=(1 << 32) - 2),
    RemoveGroup("physics", also_used=True),
]
ACCOUNT = Account(
    "ann",
    1000,
    100,
    (7, 8),
    "lab",
    is_admin=True,
    is_service=True,
    acts_for_others=True,
    is_disabled=True,
    certificates=("CN=ann",),
    reads_metrics=True,
    tokens=(UserToken("0123abcd", b"", "laptop", 1, 2, revoked=True),),
)
GROUP = Group("physics", 2001)
SECURITY = SecurityStatus(
    SecurityPhase.ON,
    7,
    3,
    60_000,
    (SealingKey(1, b"", 0, 5), SealingKey(2, b"", 9)),
    2,
    (NodeSecurity("meta", is_alive=True, version=7), NodeSecurity("storage-1", is_alive=False, version=0)),
    2,
    ("mgmtd", "storage-9"),
)
MOVES = MoveOverview(
    MoveSettings(is_paused=True, per_node=3, forget_after_ns=90 * SECOND),
    (MoveProgress(Move(CHAIN.id, TargetId(5), NodeId(2), MoveReason.DRAIN, TargetId(9)), NodeId(1), 1 << 40, 1 << 39, 7),),
    (Departing(NodeId(1), MoveReason.REPLACE, NodeId(2)),),
    (NodeShare(NodeId(1), 1 << 40, 1 << 42, 3, 1),),
    ("something to know",),
    (DiskDrain(NodeId(1), "/more", 2, 1 << 40, is_known=True, is_empty=True), DiskDrain(NodeId(2), "/data")),
)
ANSWERS = [
    RegistrationAck(NodeId(1), CLUSTER, 3 * SECOND, 500 * MILLISECOND, 4, (TargetId(5),), REMEMBERED, ("/more",)),
    HeartbeatAck(
        17, 3 * SECOND, 12, 3, (LeaveRequest(TargetId(5), 2, is_replaced=True),), (TargetId(7),), 6, 70_000, ("/more", "/old")
    ),
    TableId(2),
    NAMESPACE,
    NAMESPACE,
    NAMESPACE,
    None,
    8,
    MOVES,
    MOVES,
    MOVES,
    MOVES,
    MOVES,
    JoinAck(CLUSTER, "prod"),
    TOKEN,
    TOKEN,
    None,
    9,
    ACCOUNT,
    ACCOUNT,
    ACCOUNT,
    4,
    SECURITY,
    SECURITY,
    GROUP,
    GROUP,
]


def sent(message: Any) -> Any:
    """As it arrives."""
    return type(message).FromString(message.SerializeToString())


def test_every_verb_is_asked_here() -> None:
    assert {type(request) for request in REQUESTS} == set(VERBS)
    methods = {verb.method for verb in VERBS.values()}
    assert set(MGMTD.methods) - methods == {
        MGMTD.GetCluster,
        MGMTD.GetRouting,
        MGMTD.ReadRouting,
        MGMTD.WatchRouting,
        MGMTD.GetConfig,
        MGMTD.GetStatus,
        MGMTD.ReadStatus,
        MGMTD.ListNamespaces,
        MGMTD.ListNamespaceChanges,
        MGMTD.GetNamespaceCapabilities,
        MGMTD.ListMachines,
        MGMTD.GetSettings,
        MGMTD.ListEvents,
        MGMTD.BeginLogin,
        MGMTD.Login,
        MGMTD.ListUsers,
        MGMTD.ListGroups,
        MGMTD.GetSecurity,
        MGMTD.JoinMachine,
        MGMTD.AskAsMachine,
    }


@pytest.mark.parametrize(("request_", "answer"), list(zip(REQUESTS, ANSWERS, strict=True)))
def test_requests_and_answers_survive(request_: Any, answer: Any) -> None:
    verb = VERBS[type(request_)]
    message = sent(verb.to_pb(request_))
    assert type(message) is verb.method.request
    assert verb.from_pb(message) == request_
    reply = sent(verb.answer_to_pb(answer, routing_to_pb(UPDATE) if verb.has_routing else None))
    assert type(reply) is verb.method.reply
    assert verb.answer_from_pb(reply) == answer
    if verb.has_routing:
        assert routing_from_pb(reply.routing) == UPDATE


def test_questions_survive() -> None:
    asked = GetRouting(12, CLUSTER, in_parts=True)
    assert get_routing_from_pb(sent(get_routing_to_pb(asked))) == asked
    assert get_config_from_pb(sent(get_config_to_pb(GetConfig(Role.META)))) == GetConfig(Role.META)
    wanted = ListNamespaces("m/", "m/1", 10)
    assert list_namespaces_from_pb(sent(list_namespaces_to_pb(wanted))) == wanted
    page = NamespacePage((NAMESPACE,), more=True, version=7, next_id=12)
    assert namespace_page_from_pb(sent(namespace_page_to_pb(page))) == page
    assert list_namespace_changes_from_pb(sent(list_namespace_changes_to_pb(7))) == 7
    changes = NamespaceChanges(True, 9, 12, (NAMESPACE,), (3, 5))
    assert namespace_changes_from_pb(sent(namespace_changes_to_pb(changes))) == changes
    with pytest.raises(InvalidArgument, match=r"ListNamespacesRequest\.after: longer than 255 bytes"):
        list_namespaces_from_pb(list_namespaces_to_pb(ListNamespaces(after="x" * 256)))
    config = RoleConfig(Role.META, 3, "a = 1")
    assert role_config_from_pb(sent(role_config_to_pb(config)), Role.META) == config
    info = ClusterInfo(CLUSTER, "0.1.0", 1, is_primary=True, primary=("tcp://m:1",), managers=MANAGERS, epoch=4, disks=DISKS)
    assert cluster_info_from_pb(sent(cluster_info_to_pb(info))) == info


STATUS = ClusterStatus(
    software="0.1.0",
    routing=ROUTING,
    nodes=(
        NodeStatus(NODES[0], 2 * SECOND, 300 * MILLISECOND, disks=DISKS),
        NodeStatus(NODES[1], -7 * MILLISECOND, None, "damaged"),
    ),
    targets=(
        TargetStatus(CHAIN.id, 2, CHAIN.slots[0], LocalState.UPTODATE, True, 10, 20, 30, "why", UPKEEP),
        TargetStatus(CHAIN.id, 2, CHAIN.slots[1], None, False),
    ),
    namespaces=7,
    managers=MANAGERS,
    epoch=4,
    primary_for_ns=5 * SECOND,
    is_secured=True,
)


def test_the_status_survives() -> None:
    assert status_from_pb(sent(status_to_pb(STATUS, routing_to_pb(UPDATE)))) == STATUS


def test_a_status_that_does_not_fit_together_is_refused_by_field() -> None:
    message = status_to_pb(STATUS, routing_to_pb(UPDATE))
    message.targets[1].local_state = 9  # type: ignore[assignment]
    with pytest.raises(InvalidArgument, match=r"GetStatusReply.targets\[1\].local_state: 9 is not a LocalState"):
        status_from_pb(message)
    message.targets[1].local_state = 0  # type: ignore[assignment]
    message.silent_ms.pop()
    with pytest.raises(InvalidArgument, match="2 leases, 1 ages, 2 problems and 2 lists of disks of 2 nodes"):
        status_from_pb(message)


def test_machines_and_settings_survive() -> None:
    found = MachineList((Machine("h1", b"", 5), Machine("h2", b"", 7, "0123abcd")), (TOKEN,), is_closed=True)
    assert machines_from_pb(sent(machines_to_pb(found))) == found
    history = SettingsHistory(
        (SettingsVersion(3, 7, "me", {"meta.stripe": 4, "storage.read_only": False}),), {"cluster.replicas": 1}
    )
    assert settings_history_from_pb(sent(settings_history_to_pb(history))) == history


@pytest.mark.parametrize("value", ["x", "[1]", '"text"', "9" * 100])
def test_a_setting_that_is_no_value_is_refused(value: str) -> None:
    message = MGMTD.SetSettings.request()
    message.changes.add(key="meta.stripe", value=value)
    with pytest.raises(InvalidArgument, match=r"SetSettingsRequest\.changes\[0\]\.value"):
        set_settings_from_pb(message)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (JoinCluster("t", "h2", b"short"), "JoinClusterRequest.key"),
        (JoinCluster("t" * 300, "h2", b"K" * 32), "JoinClusterRequest.token"),
        (MakeToken(PROOF, "0123abcd", b"", 1, 0), "MakeTokenRequest.digest"),
        (MakeToken(PROOF, "xyz", b"d" * 32, 1, 0), "MakeTokenRequest.id"),
        (RevokeToken(MachineProof("h1", b""), "0123abcd"), "RevokeTokenRequest.proof.key"),
        (RemoveMachine(MachineProof("", b"k" * 32), "h1"), "RemoveMachineRequest.proof.machine"),
    ],
)
def test_what_no_machine_sends_is_refused(request_: Any, field: str) -> None:
    verb = VERBS[type(request_)]
    with pytest.raises(InvalidArgument, match=field):
        verb.from_pb(sent(verb.to_pb(request_)))


@pytest.mark.parametrize("name", ["", "x" * 300, "a\nb"])
def test_a_group_without_a_name_is_refused(name: str) -> None:
    for request in (PutGroup(name, must_be_new=True, gid=1), RemoveGroup(name)):
        verb = VERBS[type(request)]
        with pytest.raises(InvalidArgument, match=rf"{type(request).__name__}Request\.name"):
            verb.from_pb(sent(verb.to_pb(request)))


def test_logins_survive() -> None:
    claimant = Claimant(LoginKind.NODE, "h1", "h1-storage")
    begin = BeginLogin(claimant, b"n" * 32)
    assert begin_login_from_pb(sent(begin_login_to_pb(begin))) == begin
    challenge = Challenge(CLUSTER, b"c" * 56)
    assert challenge_from_pb(sent(challenge_to_pb(challenge))) == challenge
    login = Login(claimant, b"n" * 32, b"c" * 56, b"p" * 32)
    assert login_from_pb(sent(login_to_pb(login))) == login
    assert login_from_pb(sent(login_to_pb(Login(Claimant(LoginKind.CERTIFICATE, ""), b"", b"", b"")))).proof == b""
    assert grant_from_pb(sent(grant_to_pb(b"locked"))) == b"locked"
    assert list_users_from_pb(sent(list_users_to_pb(ListUsers("ann", 3)))) == ListUsers("ann", 3)
    page = UserPage((ACCOUNT,), has_more=True)
    assert user_page_from_pb(sent(user_page_to_pb(page))) == page
    assert list_groups_from_pb(sent(list_groups_to_pb(ListGroups("physics", 3)))) == ListGroups("physics", 3)
    groups = GroupPage((GROUP, Group("staff", 0)), has_more=True)
    assert group_page_from_pb(sent(group_page_to_pb(groups))) == groups
    assert security_status_from_pb(sent(security_status_to_pb(SECURITY))) == SECURITY


@pytest.mark.parametrize(
    ("login", "told"),
    [
        (Login(Claimant(LoginKind.TOKEN, "x" * 300), b"n" * 32, b"", b"p" * 32), "identity"),
        (Login(Claimant(LoginKind.TOKEN, "x"), b"n" * 31, b"", b"p" * 32), "client_nonce"),
        (Login(Claimant(LoginKind.TOKEN, "x"), b"n" * 32, b"c" * 129, b"p" * 32), "server_nonce"),
        (Login(Claimant(LoginKind.TOKEN, "x"), b"n" * 32, b"", b"p" * 33), "proof"),
    ],
)
def test_malformed_logins_are_named(login: Login, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        login_from_pb(sent(login_to_pb(login)))
