"""Update requests that are being answered: whose bytes are needed by whom, and the reply once every result is there.

Why bytes are counted. The buffers requests arrive in are few (`receive_bytes_max`), and a node that has none left reads nothing
more. So no buffer may be kept by something that waits for another node, which may be waiting for us: a ring of full nodes would
stand still. What waits for the disk is fine, disks do not wait. What waits for a successor is not:

- forwarding uses the request's own buffer only while little is lent so (`lent_bytes_max`); else the buffer goes back as soon as
  its updates are staged, and the successor is sent the bytes from the store;
- an update that finds its chunk busy may wait with its bytes only while little does so (`parked_bytes_max`); else it is BUSY.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from fs3.base.limits import lent_bytes_max, parked_bytes_max
from fs3.model.chunk import Update, UpdateResult
from fs3.ports.rpc import Call
from fs3.wire.storage import update_reply_to_pb


class Payloads:
    """How much of a node's memory the buffers of its Update calls take, and what they wait for."""

    def __init__(self) -> None:
        self.bytes = 0
        """In the buffers of all calls that have theirs."""
        self.lent_bytes = 0
        """In buffers that forwards use."""
        self.parked_bytes = 0
        """In buffers with updates that wait behind another one of their chunk."""


class UpdateJobOwner(Protocol):
    """Who answers the Update calls of a node."""

    @property
    def routing_version(self) -> int:
        """Of the newest routing the node has; every reply names it."""
        ...

    def on_job_answered(self) -> None:
        """A job is about to send its reply."""
        ...


class UpdateJob:
    """One Update call: it is answered when each of its updates is, and when its buffer is in use no more."""

    __slots__ = (
        "_call", "_left", "_owner", "_results", "_unstaged", "buffer_bytes", "holds", "is_released", "lent", "parked", "payloads",
        "updates",
    )  # fmt: skip

    def __init__(self, owner: UpdateJobOwner, call: Call, updates: list[Update], payloads: Payloads) -> None:
        """`updates` are those of the request. The buffer is held once, until the owner has handed them all out: `drop`."""
        self._owner = owner
        self._call = call
        self._results: list[UpdateResult | None] = [None] * len(updates)
        self._left = len(updates)
        self.payloads = payloads
        self.buffer_bytes = len(call.payload) if call.payload is not None else 0
        self.holds = 1
        """Users of the buffer: stores and forwards."""
        self._unstaged = {index for index, update in enumerate(updates) if update.data is not None}
        """Updates whose bytes are not in the store yet, nor refused."""
        self.lent = 0
        """Forwards that use the buffer."""
        self.parked: set[int] = set()
        """Updates that wait behind another one of their chunk."""
        self.is_released = False
        """The buffer has gone back; its bytes may not be looked at any more."""
        payloads.bytes += self.buffer_bytes

    @property
    def is_cancelled(self) -> bool:
        """The caller has gone or has given up."""
        return self._call.is_cancelled

    def attach(self, update: Update, index: int) -> Update:
        """The update with the handle of its data, if it has any."""
        # The job itself keeps no handles: job and handle would be a cycle, and the garbage collector's business for every call.
        return msgspec.structs.replace(update, payload=Payload(self, index)) if update.data is not None else update

    def answer(self, index: int, result: UpdateResult) -> None:
        """The result of one update; each is answered once."""
        assert self._results[index] is None, "an update was answered twice"
        self._results[index] = result
        self._left -= 1
        self._unstaged.discard(index)
        if index in self.parked:
            self.unpark(index)
        self._settle()

    def unpark(self, index: int) -> None:
        """The turn of an update that was parked has come, or it was answered."""
        self.parked.discard(index)
        if not self.parked:
            self.payloads.parked_bytes -= self.buffer_bytes

    def drop(self, staged: int = -1) -> None:
        """One user of the buffer less. `staged`: it was the store, which has the bytes of that update now."""
        self._unstaged.discard(staged)
        self.holds -= 1
        self._settle()

    def _settle(self) -> None:
        """Answering the call gives its buffer back too, so the answer also waits until stores and forwards are done with it."""
        if self.holds:
            return
        if not self._left:
            self._release()
            self._owner.on_job_answered()
            self._call.reply(
                update_reply_to_pb([result for result in self._results if result is not None], self._owner.routing_version)
            )
        elif not self._unstaged and not self.is_released and self.buffer_bytes:
            self._release()
            self._call.release()

    def _release(self) -> None:
        if not self.is_released:
            self.is_released = True
            self.payloads.bytes -= self.buffer_bytes


class Payload:
    """The data of one update of a job: the `PayloadHandle` of a storage service."""

    __slots__ = ("_index", "job")

    def __init__(self, job: UpdateJob, index: int) -> None:
        self.job = job
        self._index = index

    @property
    def is_gone(self) -> bool:
        """See `PayloadHandle`."""
        return self.job.is_released

    def hold(self) -> None:
        """See `PayloadHandle`."""
        self.job.holds += 1

    def drop(self) -> None:
        """See `PayloadHandle`."""
        self.job.drop(self._index)

    def lend(self) -> bool:
        """See `PayloadHandle`."""
        job = self.job
        if job.is_released:
            return False
        if not job.lent:
            payloads = job.payloads
            if payloads.lent_bytes + job.buffer_bytes > lent_bytes_max:
                return False
            payloads.lent_bytes += job.buffer_bytes
        job.lent += 1
        job.holds += 1
        return True

    def give_back(self) -> None:
        """See `PayloadHandle`."""
        job = self.job
        job.lent -= 1
        if not job.lent:
            job.payloads.lent_bytes -= job.buffer_bytes
        job.drop()

    def park(self) -> bool:
        """See `PayloadHandle`."""
        job = self.job
        if not job.parked:
            payloads = job.payloads
            if payloads.parked_bytes + job.buffer_bytes > parked_bytes_max:
                return False
            payloads.parked_bytes += job.buffer_bytes
        job.parked.add(self._index)
        return True

    def unpark(self) -> None:
        """See `PayloadHandle`."""
        if self._index in self.job.parked:
            self.job.unpark(self._index)
