"""Names of groups at the manager."""

from __future__ import annotations

import pytest

from fs3.base.status import Code
from fs3.core.membership import groups as module
from fs3.core.membership.events import Persist, Persisted
from fs3.core.membership.groups import Groups
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.node_admission import RequestRejected
from fs3.core.membership.security import Security
from fs3.core.membership.state import FORMAT, ClusterRow, State
from fs3.model.group import Group, ListGroups, PutGroup, RemoveGroup
from fs3.model.security import PutUser


class Bench:
    """Groups with a store that takes everything."""

    def __init__(self) -> None:
        self.state = State(ClusterRow(FORMAT, b"0123456789abcdef", "c"))
        self.ledger = Ledger(self.state, 10)
        self.groups = Groups(self.ledger)
        self.users = Security(0, self.ledger, b"e" * 16)
        self.stored = State(self.state.cluster)

    def store(self) -> None:
        while effects := self.ledger.flush():
            (persist,) = effects
            assert isinstance(persist, Persist)
            self.stored.apply(persist.rows)
            self.ledger.on_persisted(0, Persisted())

    def add(self, name: str, gid: int) -> None:
        assert self.groups.put(PutGroup(name, must_be_new=True, gid=gid)) == Group(name, gid)
        self.store()

    def refusal(self, event: PutGroup | RemoveGroup) -> tuple[Code, str]:
        """What it is refused with. Nothing is stored of it."""
        before = dict(self.state.groups)
        with pytest.raises(RequestRejected) as refused:
            self.groups.put(event) if isinstance(event, PutGroup) else self.groups.remove(event)
        assert not self.ledger.flush()
        assert self.state.groups == before
        return refused.value.rejection.code, refused.value.rejection.message


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.add("physics", 2001)
    made.add("staff", 2002)
    return made


def test_groups_are_stored_changed_and_forgotten(bench: Bench) -> None:
    assert bench.stored.groups == {"physics": Group("physics", 2001), "staff": Group("staff", 2002)}
    assert bench.groups.put(PutGroup("staff", must_be_new=False, gid=2003)) == Group("staff", 2003)
    assert bench.groups.remove(RemoveGroup("physics")) == Group("physics", 2001)
    bench.store()
    assert bench.stored.groups == {"staff": Group("staff", 2003)}
    bench.add("chemistry", 2001)
    bench.add("old-staff", 2002)
    assert bench.stored.groups["old-staff"].gid == 2002


def test_what_is_asked_again_is_answered_again_and_stored_once(bench: Bench) -> None:
    for must_be_new in (True, False):
        assert bench.groups.put(PutGroup("physics", must_be_new, 2001)) == Group("physics", 2001)
        assert not bench.ledger.flush()


def test_a_gid_has_one_name_and_a_name_one_gid(bench: Bench) -> None:
    taken = (Code.EXISTS, "gid 2001 is of group 'physics' already")
    assert bench.refusal(PutGroup("phys", must_be_new=True, gid=2001)) == taken
    assert bench.refusal(PutGroup("staff", must_be_new=False, gid=2001)) == taken
    known = (Code.EXISTS, "there is a group 'physics' already, with gid 2001")
    assert bench.refusal(PutGroup("physics", must_be_new=True, gid=9)) == known


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (PutGroup("a b", must_be_new=True, gid=1), Code.INVALID),
        (PutGroup("2001", must_be_new=True, gid=1), Code.INVALID),
        (PutGroup("-1", must_be_new=True, gid=1), Code.INVALID),
        (PutGroup("a,b", must_be_new=True, gid=1), Code.INVALID),
        (PutGroup("", must_be_new=True, gid=1), Code.INVALID),
        (PutGroup("x" * 64, must_be_new=True, gid=1), Code.INVALID),
        (PutGroup("chemistry", must_be_new=True, gid=(1 << 32) - 1), Code.INVALID),
        (PutGroup("chemistry", must_be_new=False, gid=1), Code.NOT_FOUND),
        (RemoveGroup("chemistry"), Code.NOT_FOUND),
    ],
)
def test_what_no_group_can_be_is_named(bench: Bench, event: PutGroup | RemoveGroup, code: Code) -> None:
    refused, told = bench.refusal(event)
    assert refused is code
    assert f"group {event.name!r}" in told


def test_a_group_that_users_have_keeps_its_gid_and_is_forgotten_only_by_force(bench: Bench) -> None:
    bench.users.put_user(0, PutUser("ann", must_be_new=True, uid=1, gid=2001))
    bench.users.put_user(0, PutUser("bob", must_be_new=True, uid=2, gid=5, groups=(7, 2001)))
    bench.users.put_user(0, PutUser("cat", must_be_new=True, uid=3, gid=2002))
    bench.store()
    users = "users have group 'physics' (gid 2001): ann, bob; "
    for event in (PutGroup("physics", must_be_new=False, gid=1), RemoveGroup("physics")):
        code, told = bench.refusal(event)
        assert (code, told[: len(users)]) == (Code.NOT_EMPTY, users)
    before = dict(bench.state.users)
    bench.groups.remove(RemoveGroup("physics", also_used=True))
    bench.store()
    assert list(bench.stored.groups) == ["staff"]
    assert bench.stored.users == before
    # The gid may have a name again, and what users have of it does not change.
    bench.add("fysics", 2001)
    bench.users.put_user(0, PutUser("ann", must_be_new=False, gid=5))
    bench.users.put_user(0, PutUser("bob", must_be_new=False, groups=(7,)))
    bench.groups.put(PutGroup("fysics", must_be_new=False, gid=1))
    assert bench.state.groups["fysics"].gid == 1


def test_some_of_many_users_are_named(bench: Bench) -> None:
    count = module.group_users_told_max + 3
    for number in range(count):
        bench.users.put_user(0, PutUser(f"u{number:02}", must_be_new=True, uid=number, gid=2001))
    bench.store()
    _, told = bench.refusal(RemoveGroup("physics"))
    assert "u00, u01" in told
    assert "and 3 more" in told
    assert f"u{count - 1:02}" not in told


def test_there_are_so_many_groups_at_most(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "groups_max", 2)
    code, told = bench.refusal(PutGroup("third", must_be_new=True, gid=1))
    assert (code, told) == (Code.TOO_LARGE, "there are 2 groups, the most there can be")
    bench.groups.put(PutGroup("staff", must_be_new=False, gid=1))


def test_groups_are_listed_by_pages_in_the_order_of_their_names(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.add("chemistry", 1)
    first = bench.groups.list_groups(ListGroups(limit=2))
    assert ([group.name for group in first.groups], first.has_more) == (["chemistry", "physics"], True)
    rest = bench.groups.list_groups(ListGroups(after="physics"))
    assert (rest.groups, rest.has_more) == ((Group("staff", 2002),), False)
    monkeypatch.setattr(module, "groups_per_page_max", 1)
    assert len(bench.groups.list_groups(ListGroups(limit=9)).groups) == 1


def test_the_next_primary_knows_names_and_gids(bench: Bench) -> None:
    again = Groups(Ledger(bench.stored, 10))
    assert [group.name for group in again.list_groups(ListGroups()).groups] == ["physics", "staff"]
    with pytest.raises(RequestRejected, match="gid 2001 is of group 'physics'"):
        again.put(PutGroup("other", must_be_new=True, gid=2001))
