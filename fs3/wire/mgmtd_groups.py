"""Named groups, to and from protobuf, and their verbs. What arrives is not trusted: InvalidArgument names the malformed field."""

from __future__ import annotations

from typing import Any

from fs3.model.group import Group, GroupPage, ListGroups, PutGroup, RemoveGroup
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import EncodedRouting, name_from_pb
from fs3.wire.mgmtd_verb import MgmtdVerb
from fs3.wire.pb import mgmtd_pb2 as pb


def _group_to_pb(group: Group) -> pb.Group:
    return pb.Group(name=group.name, gid=group.gid)


def _group_from_pb(message: pb.Group) -> Group:
    return Group(message.name, message.gid)


def _group_answer_to_pb(group: Group, routing: EncodedRouting | None) -> pb.GroupReply:
    return pb.GroupReply(group=_group_to_pb(group))


def _group_answer_from_pb(message: pb.GroupReply) -> Group:
    return _group_from_pb(message.group)


def _put_group_to_pb(request: PutGroup) -> pb.PutGroupRequest:
    return pb.PutGroupRequest(name=request.name, must_be_new=request.must_be_new, gid=request.gid)


def _put_group_from_pb(message: pb.PutGroupRequest) -> PutGroup:
    return PutGroup(name_from_pb(message.name, "PutGroupRequest.name"), message.must_be_new, message.gid)


def _remove_group_to_pb(request: RemoveGroup) -> pb.RemoveGroupRequest:
    return pb.RemoveGroupRequest(name=request.name, also_used=request.also_used)


def _remove_group_from_pb(message: pb.RemoveGroupRequest) -> RemoveGroup:
    return RemoveGroup(name_from_pb(message.name, "RemoveGroupRequest.name"), message.also_used)


def list_groups_to_pb(request: ListGroups) -> pb.ListGroupsRequest:
    """The request of ListGroups."""
    return pb.ListGroupsRequest(after=request.after, limit=request.limit)


def list_groups_from_pb(message: pb.ListGroupsRequest) -> ListGroups:
    """The request of ListGroups."""
    return ListGroups(message.after, message.limit)


def group_page_to_pb(page: GroupPage) -> pb.ListGroupsReply:
    """The answer to ListGroups."""
    return pb.ListGroupsReply(groups=[_group_to_pb(group) for group in page.groups], has_more=page.has_more)


def group_page_from_pb(message: pb.ListGroupsReply) -> GroupPage:
    """The answer to ListGroups."""
    return GroupPage(tuple(_group_from_pb(group) for group in message.groups), message.has_more)


GROUP_VERBS: dict[type[Any], MgmtdVerb] = {
    PutGroup: MgmtdVerb(MGMTD.PutGroup, _put_group_to_pb, _put_group_from_pb, _group_answer_to_pb, _group_answer_from_pb),
    RemoveGroup: MgmtdVerb(
        MGMTD.RemoveGroup, _remove_group_to_pb, _remove_group_from_pb, _group_answer_to_pb, _group_answer_from_pb
    ),
}
"""Type of the request -> how it is written."""
