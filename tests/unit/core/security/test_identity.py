"""Who the metadata service takes a caller for."""

import pytest

from fs3.core.security.identity import ROOT, SQUASHED_ID, user_of
from fs3.model.inode import User
from fs3.model.principal import Principal, PrincipalKind, Right

ROOT_CLAIMED, BOB_CLAIMED = User(0, 0, (0, 27)), User(1001, 1001, (50,))
USERS, ADMINISTRATION = int(Right.USER), int(Right.ADMIN)
ANN = Principal(PrincipalKind.USER, "ann", Right.USER, 1000, 100, (7, 8))


def with_rights(rights: int, uid: int = 1000, gid: int = 100) -> Principal:
    """A user with these rights beside USER."""
    return Principal(PrincipalKind.USER, "ann", Right.USER | rights, uid, gid, (7, 8))


@pytest.mark.parametrize("claimed", [ROOT_CLAIMED, BOB_CLAIMED, User(1000, 0)])
def test_what_a_user_claims_counts_for_nothing(claimed: User) -> None:
    assert user_of(ANN, claimed, USERS) == User(1000, 100, (7, 8))


def test_one_that_acts_for_others_is_believed_but_is_not_root() -> None:
    mount = with_rights(Right.ACT_FOR)
    assert user_of(mount, BOB_CLAIMED, USERS) == BOB_CLAIMED
    assert user_of(mount, ROOT_CLAIMED, USERS) == User(SQUASHED_ID, SQUASHED_ID, (27,))
    assert user_of(mount, User(1001, 0, (0,)), USERS) == User(1001, SQUASHED_ID, ())


def test_root_is_who_may_administer_and_has_its_uid() -> None:
    assert user_of(with_rights(0, uid=0, gid=0), BOB_CLAIMED, USERS) == User(SQUASHED_ID, SQUASHED_ID, (7, 8))
    assert user_of(with_rights(Right.ADMIN, uid=0, gid=0), BOB_CLAIMED, USERS) == User(0, 0, (7, 8))
    assert user_of(with_rights(Right.ADMIN | Right.ACT_FOR), ROOT_CLAIMED, USERS) == ROOT_CLAIMED


def test_an_administrator_administers_as_root_and_does_all_else_as_itself() -> None:
    admin = with_rights(Right.ADMIN)
    assert user_of(admin, BOB_CLAIMED, ADMINISTRATION) == ROOT
    assert user_of(admin, BOB_CLAIMED, USERS) == User(1000, 100, (7, 8))
