"""Who the metadata service takes a caller for: the one that has authenticated, not who a request says it is."""

from __future__ import annotations

from typing import Final

from fs3.model.inode import User
from fs3.model.principal import Principal, Right

_ADMIN, _USER, _ACT_FOR = int(Right.ADMIN), int(Right.USER), int(Right.ACT_FOR)
"""As plain numbers: every request is looked at with them, and operators of an IntFlag take a microsecond each."""

ROOT: Final = User(0, 0)
SQUASHED_ID: Final = 65_534
"""Of the user, and of the group, that those are taken for who claim to be root and are not trusted with it."""


def user_of(principal: Principal, claimed: User, rights: int) -> User:
    """Who asks. `claimed`: what the request says. `rights`: of the method.

    The user of the ticket, as the manager knows it. One with the right ACT_FOR is taken at its word: it asks for the users of a
    machine that is trusted with them. To be root takes more than to claim it: that takes the right ADMIN as well. What only
    administrators may ask, they ask as root.
    """
    is_admin = bool(principal.rights & _ADMIN)
    if is_admin and not rights & _USER:
        return ROOT
    user = claimed if principal.rights & _ACT_FOR else User(principal.uid, principal.gid, principal.groups)
    return user if is_admin else squash(user)


def squash(user: User) -> User:
    """The user without what root has: uid 0, and group 0, which owns what root makes."""
    if user.uid and user.gid and 0 not in user.groups:
        return user
    return User(user.uid or SQUASHED_ID, user.gid or SQUASHED_ID, tuple(group for group in user.groups if group))
