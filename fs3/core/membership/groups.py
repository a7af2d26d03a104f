"""Names of groups. A user has gids, so that tickets and permissions know nothing of names; a name is for people.

A gid has one name at most. A group that users have keeps its gid, for files belong to the number.
"""

from __future__ import annotations

from bisect import bisect_right

from fs3.base.status import Code
from fs3.core.membership.account_names import check_id, check_name
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.node_admission import RequestRejected
from fs3.model.group import Group, GroupPage, ListGroups, PutGroup, RemoveGroup

groups_max = 65_536
"""Groups that have a name."""
groups_per_page_max = 1024
group_users_told_max = 8
"""So many users of a group are named where it may not be changed because of them."""


class Groups:
    """Part of the manager's machine; what it changes is in the ledger. Requests that cannot be granted raise RequestRejected."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._names = sorted(self._state.groups)
        self._by_gid = {group.gid: group.name for group in self._state.groups.values()}

    def put(self, event: PutGroup) -> Group:
        """Add a group, or give it another gid."""
        check_name("group", event.name)
        check_id(f"group {event.name!r}", "gid", event.gid)
        known = self._state.groups.get(event.name)
        group = Group(event.name, event.gid)
        if not event.must_be_new and known is None:
            raise _no_group(event.name)
        if group == known:
            return group  # perhaps it asks again
        if event.must_be_new and known is not None:
            raise RequestRejected(Code.EXISTS, f"there is a group {known.name!r} already, with gid {known.gid}")
        owner = self._by_gid.get(event.gid)
        if owner is not None:
            raise RequestRejected(Code.EXISTS, f"gid {event.gid} is of group {owner!r} already")
        if known is not None:
            self._check_unused(known, "files belong to the number, so take it from them first, or add another group")
        elif len(self._names) >= groups_max:
            raise RequestRejected(Code.TOO_LARGE, f"there are {groups_max} groups, the most there can be")
        self._store(known, group)
        return group

    def remove(self, event: RemoveGroup) -> Group:
        """Forget a group."""
        group = self._state.groups.get(event.name)
        if group is None:
            raise _no_group(event.name)
        if not event.also_used:
            self._check_unused(group, "--force forgets the name, and they keep the number")
        self._store(group, None)
        return group

    def list_groups(self, wanted: ListGroups) -> GroupPage:
        """A page of groups by name."""
        limit = min(wanted.limit or groups_per_page_max, groups_per_page_max)
        at = bisect_right(self._names, wanted.after) if wanted.after else 0
        names = self._names[at : at + limit]
        return GroupPage(tuple(self._state.groups[name] for name in names), at + limit < len(self._names))

    def _check_unused(self, group: Group, way_out: str) -> None:
        users = sorted(user.name for user in self._state.users.values() if group.gid in (user.gid, *user.groups))
        if users:
            more = f" and {len(users) - group_users_told_max} more" if len(users) > group_users_told_max else ""
            named = f"{', '.join(users[:group_users_told_max])}{more}"
            raise RequestRejected(Code.NOT_EMPTY, f"users have group {group.name!r} (gid {group.gid}): {named}; {way_out}")

    def _store(self, known: Group | None, group: Group | None) -> None:
        if known is not None:
            del self._by_gid[known.gid]
        if group is None:
            assert known is not None
            self._ledger.remove_group(known.name)
        else:
            self._ledger.put_group(group)
            self._by_gid[group.gid] = group.name
        if (known is None) != (group is None):
            self._names = sorted(self._state.groups)


def _no_group(name: str) -> RequestRejected:
    return RequestRejected(Code.NOT_FOUND, f"there is no group {name!r}; `fs3 group list` shows them")
