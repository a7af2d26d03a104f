"""Pages, facts and problems survive the wire; what is malformed is refused with the name of its field."""

from __future__ import annotations

import pytest

from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.ids import ChainId, InodeId
from fs3.base.limits import inspect_inodes_max
from fs3.base.prng import Prng
from fs3.model.check import CheckPage, DirectoryPart, InodeFacts, Inspection, Problem, ProblemKind, RowTable
from fs3.model.inode import InodeType
from fs3.wire.check import (
    check_rows_from_pb,
    fill_inspection,
    fill_page,
    inspect_inodes_from_pb,
    inspection_from_pb,
    page_from_pb,
    problem_from_pb,
    problem_to_pb,
)
from fs3.wire.pb import meta_pb2 as pb


def some_problem(prng: Prng) -> Problem:
    kind = prng.pick(list(ProblemKind))
    number = prng.pick([0, 1, -1, (1 << 56) - 1])
    return Problem(
        kind, prng.below(1 << 56), prng.below(1 << 56), b"\xff\0name", b"KEY\0", prng.below(1 << 60), number, -number, 7, -8
    )


@pytest.mark.parametrize("seed", range(30))
def test_everything_comes_back_as_it_was_sent(seed: int) -> None:
    prng = Prng(seed)
    problem = some_problem(prng)
    assert problem_from_pb(problem_to_pb(problem)) == problem
    part = DirectoryPart(InodeId(3), 4, -1, 2, 5, 1, bool(prng.below(2)), True)
    page = CheckPage(
        b"next\xff", 3, [problem], [1, 2, 1 << 60], [0, 9, 1 << 60], [0, 1, 65_535], [0, 1, 1], [b"", b"\0k"], [part]
    )
    message = pb.CheckPageReply()
    fill_page(message, page, 0)
    assert page_from_pb(pb.CheckPageReply.FromString(message.SerializeToString())) == page
    facts = InodeFacts(InodeId(9), InodeType.FILE, -1, -3, -5, 1, 0, True, 65_536, (ChainId(1), ChainId(7)))
    inspection = Inspection(77, [facts, InodeFacts(InodeId(10), InodeType.DIRECTORY, 5, 2, 1, 1, 0, False, 0, ())])
    reply = pb.InspectReply()
    fill_inspection(reply, inspection, 0)
    assert inspection_from_pb(pb.InspectReply.FromString(reply.SerializeToString())) == inspection


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: problem_from_pb(pb.Problem(kind=999)), "problem.kind"),
        (lambda: problem_from_pb(pb.Problem(kind=1, key=b"x" * 1000)), "problem.key"),
        (lambda: problem_from_pb(pb.Problem(kind=1, name=b"x" * 1000)), "problem.key"),
        (lambda: check_rows_from_pb(pb.CheckPageRequest(table=99)), "table"),
        (lambda: check_rows_from_pb(pb.CheckPageRequest(table=RowTable.INODES, begin=b"x" * 1000)), "begin"),
        (lambda: inspect_inodes_from_pb(pb.InspectRequest(inodes=[1] * (inspect_inodes_max + 1))), "inodes"),
        (lambda: inspect_inodes_from_pb(pb.InspectRequest(inodes=[1 << 56])), "inodes"),
    ],
)
def test_what_is_malformed_is_named(call, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        call()


def test_an_inode_of_a_type_from_the_future() -> None:
    (facts,) = inspection_from_pb(pb.InspectReply(facts=[pb.InodeFacts(inode=1, type=77)])).facts
    assert facts.type is InodeType.OTHER
    with pytest.raises(FS3Error, match="of no type"):
        inspection_from_pb(pb.InspectReply(facts=[pb.InodeFacts(inode=1)]))
