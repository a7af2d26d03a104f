"""What the planted bugs of appends exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from fs3.core.files.append_plan import AppendPlan
from fs3.core.files.write_plan import WriteIO
from fs3.core.meta import operations
from fs3.core.meta.context import OpContext
from fs3.core.meta.operations import Operation
from fs3.core.meta.ops import append as append_op
from fs3.model.inode import AppendTurn, FileSession, Inode
from fs3.model.requests import Append, Request
from fs3.ports.kv import OnDone
from fs3.services.meta import change_executor
from fs3.services.meta.append_queue import AppendQueue, TurnCaller
from fs3.services.meta.duties.sessions import SessionsDuty
from fs3.sim.ring2.service_bug import ServiceBug


def plan_without_tags(self: AppendPlan, number: int, at: int, data: memoryview) -> list[WriteIO]:
    """Each client sends its updates under names of its own."""
    return [replace(write, tag=None) for write in _real_plan(self, number, at, data)]


_real_plan = AppendPlan.plan


def grant_always(inode: Inode, request: Append) -> Inode:
    """No appender waits for another one."""
    serial = inode.appends + 1
    return replace(inode, append=AppendTurn(serial, request.session), appends=serial)


def submit_at_once(self: AppendQueue, ctx: OpContext, request: Append, done: OnDone[Inode], caller: TurnCaller) -> None:
    """Nor in the queue of the service, which alone would hide the former."""
    self._changes.submit(ctx, request, done)


def has_any_turn(inode: Inode, request: Append) -> bool:
    """Whose turn it is does not matter, nor whether the end was moved."""
    return request.length == 0 or request.length > inode.length


def take_behind_reserved(inode: Inode, request: Append) -> Inode:
    """Each turn has reserved a place: an appender that takes it over writes behind that place, which stays empty."""
    return _real_take(replace(inode, length=inode.length + RESERVED_BYTES) if request.serial else inode, request)


RESERVED_BYTES = 100
_real_take = append_op._take


async def prune_with_length(self: SessionsDuty, session: FileSession, heartbeats: int) -> bool:
    """A dead appender is taken for any other writer."""
    return await _real_prune(self, replace(session, append=False), heartbeats)


_real_prune = SessionsDuty._prune


def forget_appends(request: Request[Any]) -> Operation:
    """A step of an append that is sent again is carried out again."""
    return append_op.append.__wrapped__ if isinstance(request, Append) else _real_operation(request)  # type: ignore[attr-defined]


_real_operation = operations.operation_of


APPEND_BUGS: dict[str, ServiceBug] = {
    "appends_unfenced": ServiceBug(
        "the chunk updates of an append are not ordered behind those of later turns",
        [(AppendPlan, "plan", plan_without_tags)],
        scene="append_while_updates_of_an_appender_are_late",
    ),
    "appends_at_once": ServiceBug(
        "whoever wants the turn to append gets it, and all of them publish",
        [
            (append_op, "_take", grant_always),
            (append_op, "_has_turn", has_any_turn),
            (AppendQueue, "submit", submit_at_once),
        ],
        scene="several_appenders_of_one_file",
    ),
    "publishes_lost_turn": ServiceBug(
        "an append is published although its turn was taken over",
        [(append_op, "_has_turn", has_any_turn)],
        scene="append_while_an_appender_cannot_publish",
    ),
    "appends_reserve": ServiceBug(
        "the place of an append that was given up stays reserved",
        [(append_op, "_take", take_behind_reserved)],
        scene="append_while_updates_of_an_appender_are_late",
    ),
    "appends_twice": ServiceBug(
        "an append whose answer was lost is carried out once more",
        [(change_executor, "operation_of", forget_appends)],
        scene="append_while_the_answer_is_lost",
    ),
    "buries_append": ServiceBug(
        "the repair of a dead appender's file takes its length from storage",
        [(SessionsDuty, "_prune", prune_with_length)],
        scene="bury_an_appender",
    ),
}
