"""Requests about locks that are malformed."""

from __future__ import annotations

import pytest

from fs3.base.errors import InvalidArgument
from fs3.model.lock import LOCK_END, LockKind, LockStep
from fs3.wire.meta_locks import found_lock_from_pb, get_lock_from_pb, lock_from_pb
from fs3.wire.pb import meta_pb2 as pb

FILE_LOCK = pb.FileLock(kind="LOCK_KIND_FLOCK")


def test_what_is_malformed_is_named() -> None:
    for message, named in (
        (pb.LockRequest(inode_id=1, lock=FILE_LOCK), "step"),
        (pb.LockRequest(inode_id=1, lock=FILE_LOCK, step=99), "step"),  # type: ignore[arg-type]
        (pb.LockRequest(inode_id=1, step="LOCK_STEP_UNLOCK"), "kind"),
        (pb.LockRequest(inode_id=1, step="LOCK_STEP_TRY", lock=FILE_LOCK), "wait"),
        (pb.LockRequest(inode_id=1, step="LOCK_STEP_WAIT", lock=FILE_LOCK), "wait"),
        (pb.LockRequest(inode_id=1, step="LOCK_STEP_WITHDRAW", lock=FILE_LOCK), "wait"),
    ):
        with pytest.raises(InvalidArgument, match=named):
            lock_from_pb(message)
    with pytest.raises(InvalidArgument, match="kind"):
        get_lock_from_pb(pb.GetLockRequest(inode_id=1))
    with pytest.raises(InvalidArgument, match="client_id"):
        found_lock_from_pb(pb.GetLockReply(lock=FILE_LOCK, client_id=b"x"))


def test_a_lock_to_the_end_says_no_end() -> None:
    request = lock_from_pb(pb.LockRequest(inode_id=5, step="LOCK_STEP_UNLOCK", lock=FILE_LOCK))
    assert (request.inode, request.step, request.kind, request.start, request.end) == (
        5,
        LockStep.UNLOCK,
        LockKind.FLOCK,
        0,
        LOCK_END,
    )
