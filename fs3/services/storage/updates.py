"""Update calls: each update goes to the target of its chain, or is refused here."""

from __future__ import annotations

import asyncio

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.model.chunk import FILLS, Update, UpdateResult
from fs3.ports.rpc import Call
from fs3.runtime.tracing import OpenSpan
from fs3.services.storage.foreground_load import ForegroundLoad
from fs3.services.storage.forwarding.payloads import Payloads, UpdateJob
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_map import TargetMap
from fs3.services.storage.update_trace import trace_updates
from fs3.wire.storage import update_request_from_pb


class UpdateHandler:
    """Answers Update calls for the targets of one node, of clients and of predecessors."""

    def __init__(self, targets: TargetMap, context: NodeContext, foreground: ForegroundLoad, name: str) -> None:
        """`name` of the node, for messages."""
        self.payloads = Payloads()
        self.jobs = 0
        """Calls that are not answered yet."""
        self._by_chain = targets.by_chain
        self._context = context
        self._clock = context.clock
        self._foreground = foreground
        self._name = name
        self._all_answered: asyncio.Event | None = None
        """Set when the last call has been answered; there while `wait_answered` waits for that."""

    @property
    def routing_version(self) -> int:
        """See `UpdateJobOwner`."""
        return self._context.routing_version

    def update(self, call: Call) -> None:
        """The handler of Update."""
        try:
            updates = update_request_from_pb(call.request, call.payload)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._context.routing_version)
            return
        if isinstance(call.span, OpenSpan):
            updates = trace_updates(updates, call.span)
        forwarded = bool(call.request.from_target)
        job = UpdateJob(self, call, updates, self.payloads)
        self.jobs += 1
        if not forwarded or (updates and updates[0].kind not in FILLS):
            self._foreground.touch()
        by_chain = self._by_chain
        for index, update in enumerate(updates):
            shell = by_chain.get(update.chain)
            if forwarded and shell is not None and not update.push:
                shell.submit(job.attach(update, index), job, index)
            else:
                self._submit(update, shell, job, index, forwarded)
        job.drop()

    async def wait_answered(self) -> None:
        """Until every call that is under way has been answered."""
        if self.jobs:
            self._all_answered = asyncio.Event()
            await self._all_answered.wait()

    def on_job_answered(self) -> None:
        """See `UpdateJobOwner`."""
        self.jobs -= 1
        if not self.jobs and self._all_answered is not None:
            self._all_answered.set()

    def _submit(self, update: Update, shell: TargetShell | None, job: UpdateJob, index: int, forwarded: bool) -> None:
        """To its target; or the answer why not.

        Updates of a predecessor are fenced by the chain version alone: it waits for this node's answer under a version in which
        this node takes part, and a chain that goes on without this node does so under another one, in which the answer counts
        for nothing. For the same reason a head may answer its client after its lease has run out: every target behind it has the
        update under the present version, and the chain that goes on consists of those. A head that is alone asks for its lease
        once more when it answers (`TargetShell`).
        """
        if not forwarded and self._context.config.read_only:
            job.answer(index, UpdateResult(Code.PERMISSION, message=f"storage node {self._name} is read-only"))
        elif shell is None:
            message = f"storage node {self._name} has no target of chain {update.chain}"
            job.answer(index, UpdateResult(Code.NO_SUCH_TARGET, message=message))
        elif not forwarded and self._clock.now() >= shell.lease_until():
            job.answer(index, UpdateResult(Code.LEASE, message=f"target {shell.target} may have lost its lease"))
        elif update.push:
            pushed = shell.pushes.find(update.from_target, update.push)
            if pushed is None:
                message = f"target {shell.target} has not what was pushed for chunk {update.chunk.hex()}"
                job.answer(index, UpdateResult(Code.BUSY, message=message))
            else:
                shell.submit(msgspec.structs.replace(update, pushed=pushed), job, index)
        else:
            shell.submit(job.attach(update, index), job, index)
