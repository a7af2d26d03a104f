"""Requests about locks and their answers, to and from protobuf.

What arrives is not trusted: see `fs3.wire.meta`.
"""

from __future__ import annotations

from typing import Any

from fs3.base.ids import CLIENT_ID_BYTES, ClientId, InodeId
from fs3.model.lock import LOCK_END, FoundLock, GetLock, Lock, LockAnswer, LockKind, LockOwner, LockStep
from fs3.wire.malformed import malformed
from fs3.wire.pb import meta_pb2 as pb

_KINDS = {int(kind): kind for kind in LockKind}
_STEPS = {int(step): step for step in LockStep}


def fill_lock(message: pb.LockRequest, request: Lock) -> None:
    """Write a request about a lock into an empty message."""
    message.inode_id = request.inode
    message.step = request.step  # type: ignore[assignment]
    _fill_range(message.lock, request)
    message.epoch = request.epoch
    message.wait = request.wait
    message.asked = request.asked
    if request.process:
        message.process = request.process
        message.pid_space = request.pid_space


def lock_from_pb(message: pb.LockRequest) -> Lock:
    """The request of a message. Raises InvalidArgument for a step or a kind that this software does not know."""
    step = _STEPS.get(message.step)
    if step is None:
        raise malformed("step", f"{message.step} is not a step about a lock")
    if step in (LockStep.TRY, LockStep.WAIT, LockStep.WITHDRAW) and not message.wait:
        raise malformed("wait", "0, but what is asked for may have to be withdrawn")
    return Lock(
        InodeId(message.inode_id),
        step,
        *_range(message.lock),
        epoch=message.epoch,
        wait=message.wait,
        asked=message.asked,
        process=message.process,
        pid_space=message.pid_space,
    )


def fill_lock_answer(message: pb.LockReply, answer: LockAnswer, _room: int) -> None:
    """Write what came of such a request into an empty message."""
    message.epoch = answer.epoch


def lock_answer_from_pb(message: pb.LockReply) -> LockAnswer:
    """What came of such a request: a service answers one that is not granted yet with LOCKED."""
    return LockAnswer(message.epoch)


def fill_get_lock(message: pb.GetLockRequest, request: GetLock) -> None:
    """Write a question for a lock into an empty message."""
    message.inode_id = request.inode
    _fill_range(message.lock, request)
    message.epoch = request.epoch
    if request.pid_space:
        message.pid_space = request.pid_space


def get_lock_from_pb(message: pb.GetLockRequest) -> GetLock:
    """The question of a message. Raises InvalidArgument as `lock_from_pb`."""
    return GetLock(InodeId(message.inode_id), *_range(message.lock), epoch=message.epoch, pid_space=message.pid_space)


def fill_found_lock(message: pb.GetLockReply, answer: FoundLock | None, _room: int) -> None:
    """Write the lock that was found into an empty message."""
    if answer is None:
        return
    _fill_lock(message.lock, answer.kind, answer.owner.number, answer.owner.by_handle, answer.exclusive, answer.start, answer.end)
    message.client_id = answer.owner.client
    if answer.process:
        message.process = answer.process


def found_lock_from_pb(message: pb.GetLockReply) -> FoundLock | None:
    """The lock that was found; None: there is none."""
    if not message.HasField("lock"):
        return None
    if len(message.client_id) != CLIENT_ID_BYTES:
        raise malformed("client_id", f"{len(message.client_id)} bytes, {CLIENT_ID_BYTES} are needed")
    kind, owner, by_handle, exclusive, start, end = _range(message.lock)
    holder = LockOwner(ClientId(message.client_id), owner, by_handle)
    return FoundLock(kind, holder, start, end, exclusive, 0, message.process)


def _fill_range(message: pb.FileLock, request: Lock | GetLock) -> None:
    _fill_lock(message, request.kind, request.owner, request.by_handle, request.exclusive, request.start, request.end)


def _fill_lock(message: pb.FileLock, kind: LockKind, owner: int, by_handle: bool, exclusive: bool, start: int, end: int) -> None:
    message.kind = kind  # type: ignore[assignment]
    message.owner = owner
    message.by_handle = by_handle
    message.exclusive = exclusive
    message.start = start
    if end != LOCK_END:
        message.end = end


def _range(message: pb.FileLock) -> tuple[LockKind, int, bool, bool, int, int]:
    kind: Any = _KINDS.get(message.kind)
    if kind is None:
        raise malformed("lock.kind", f"{message.kind} is not a kind of lock")
    end = message.end if message.HasField("end") else LOCK_END
    return kind, message.owner, message.by_handle, message.exclusive, message.start, end
