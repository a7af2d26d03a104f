"""What administrators ask, and pages, facts and problems of a check, to and from protobuf.

What arrives is not trusted: see `fs3.wire.meta`.
"""

from __future__ import annotations

from fs3.base.ids import INODE_IDS_END, ChainId, InodeId
from fs3.base.limits import inspect_inodes_max, key_bytes_stored_max
from fs3.model.check import CheckPage, DirectoryPart, InodeFacts, Inspection, Problem, ProblemKind, RepairResult, RowTable
from fs3.model.requests import CheckRows, InspectInodes, Repair
from fs3.wire.malformed import malformed
from fs3.wire.meta import inode_type
from fs3.wire.pb import meta_pb2 as pb

_KINDS = {int(kind): kind for kind in ProblemKind}
_TABLES = {int(table): table for table in RowTable}


def problem_to_pb(problem: Problem) -> pb.Problem:
    """The message of a problem."""
    return pb.Problem(
        kind=problem.kind,
        inode=problem.inode,
        parent=problem.parent,
        name=problem.name,
        key=problem.key,
        change=problem.change,
        found=problem.found,
        expected=problem.expected,
        found_too=problem.found_too,
        expected_too=problem.expected_too,
    )


def problem_from_pb(message: pb.Problem) -> Problem:
    """The problem of a message. Raises InvalidArgument for a kind that this software does not know, and for an endless key."""
    kind = _KINDS.get(message.kind)
    if kind is None:
        raise malformed("problem.kind", f"{message.kind} is none this software knows")
    if max(len(message.key), len(message.name)) > key_bytes_stored_max:
        raise malformed("problem.key", f"is longer than {key_bytes_stored_max} bytes")
    return Problem(
        kind,
        message.inode,
        message.parent,
        message.name,
        message.key,
        message.change,
        message.found,
        message.expected,
        message.found_too,
        message.expected_too,
    )


def fill_check_rows(message: pb.CheckPageRequest, request: CheckRows) -> None:
    """Write the request for a page into an empty message."""
    message.table = request.table
    message.begin = request.begin


def check_rows_from_pb(message: pb.CheckPageRequest) -> CheckRows:
    """The request for a page. Raises InvalidArgument for a table that this software does not know, and for an endless key."""
    table = _TABLES.get(message.table)
    if table is None:
        raise malformed("table", f"{message.table} is none this software knows")
    if len(message.begin) > key_bytes_stored_max:
        raise malformed("begin", f"is longer than {key_bytes_stored_max} bytes")
    return CheckRows(table, message.begin)


def fill_page(message: pb.CheckPageReply, page: CheckPage, _room: int) -> None:
    """Write a page into an empty message."""
    message.next = page.next
    message.rows = page.rows
    message.problems.extend([problem_to_pb(problem) for problem in page.problems])
    message.inodes.extend(page.inodes)
    message.changes.extend(page.changes)
    message.names.extend(page.names)
    message.queued = bytes(page.queued)
    message.keys.extend(page.keys)
    for part in page.parts:
        message.parts.add(
            inode=part.inode,
            change=part.change,
            length=part.length,
            nlink=part.nlink,
            entries=part.entries,
            subdirectories=part.subdirectories,
            begins=part.begins,
            ends=part.ends,
        )


def page_from_pb(message: pb.CheckPageReply) -> CheckPage:
    """The page of a message."""
    parts = [
        DirectoryPart(
            InodeId(part.inode),
            part.change,
            part.length,
            part.nlink,
            part.entries,
            part.subdirectories,
            part.begins,
            part.ends,
        )
        for part in message.parts
    ]
    problems = [problem_from_pb(problem) for problem in message.problems]
    columns = message.inodes[:], message.changes[:], message.names[:], list(message.queued), message.keys[:]
    return CheckPage(message.next, message.rows, problems, *columns, parts)


def fill_inspect_inodes(message: pb.InspectRequest, request: InspectInodes) -> None:
    """Write the request for facts into an empty message."""
    message.inodes.extend(request.inodes)
    message.contents = request.contents


def inspect_inodes_from_pb(message: pb.InspectRequest) -> InspectInodes:
    """The request for facts. Raises InvalidArgument for too many, and for an id that no inode has."""
    if len(message.inodes) > inspect_inodes_max:
        raise malformed("inodes", f"{len(message.inodes)} in one request, at most {inspect_inodes_max} are allowed")
    if any(inode >= INODE_IDS_END for inode in message.inodes):
        raise malformed("inodes", "one is not below 2**56")
    return InspectInodes(message.inodes[:], message.contents)


def fill_inspection(message: pb.InspectReply, inspection: Inspection, _room: int) -> None:
    """Write facts into an empty message."""
    message.next_id = inspection.next_id
    for facts in inspection.facts:
        message.facts.add(
            inode=facts.inode,
            type=facts.type,
            change=facts.change,
            nlink=facts.nlink,
            length=facts.length,
            names=facts.names,
            queued=facts.queued,
            open=facts.open,
            chunk_size=facts.chunk_size,
            chains=facts.chains,
            content_id=facts.content,
        )


def inspection_from_pb(message: pb.InspectReply) -> Inspection:
    """The facts of a message. Raises FS3Error PROTOCOL for an inode without a type."""
    found = []
    for facts in message.facts:
        chains = tuple(ChainId(chain) for chain in facts.chains)
        found.append(
            InodeFacts(
                InodeId(facts.inode),
                inode_type(facts.type),
                facts.change,
                facts.nlink,
                facts.length,
                facts.names,
                facts.queued,
                facts.open,
                facts.chunk_size,
                chains,
                InodeId(facts.content_id),
            )
        )
    return Inspection(message.next_id, found)


def fill_repair(message: pb.RepairRequest, request: Repair) -> None:
    """Write the request for a repair into an empty message."""
    message.problem.CopyFrom(problem_to_pb(request.problem))


def repair_from_pb(message: pb.RepairRequest) -> Repair:
    """The request for a repair. Errors as of `problem_from_pb`."""
    return Repair(problem_from_pb(message.problem))


def fill_repair_result(message: pb.RepairReply, result: RepairResult, _room: int) -> None:
    """Write what came of a repair into an empty message."""
    message.done = result.done
    message.what = result.what


def repair_result_from_pb(message: pb.RepairReply) -> RepairResult:
    """The outcome of a message."""
    return RepairResult(message.done, message.what)
