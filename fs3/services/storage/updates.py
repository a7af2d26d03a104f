"""Update requests that are being answered: results are collected until the last one is there, then the reply leaves."""

from __future__ import annotations

from collections.abc import Callable

from fs3.model.chunk import Update, UpdateResult
from fs3.ports.rpc import Call
from fs3.wire.storage import update_reply


class UpdateJob:
    """One Update call. Its payload is used by staging and by forwarding, and answering the call gives it back to the transport:
    so the answer waits until every update has a result *and* nobody holds the payload any more."""

    __slots__ = ("_call", "_holds", "_left", "_on_done", "_results", "_routing_version", "bytes", "datas")

    def __init__(
        self, call: Call, updates: list[Update], routing_version: Callable[[], int], on_done: Callable[[UpdateJob], None]
    ) -> None:
        self._call = call
        self._results: list[UpdateResult | None] = [None] * len(updates)
        self._left = len(updates)
        self._holds = 0
        self._routing_version = routing_version
        self._on_done = on_done
        self.bytes = len(call.payload) if call.payload is not None else 0
        self.datas = [update.data for update in updates if update.data is not None]

    @property
    def deadline(self) -> int:
        """When the caller stops waiting."""
        return self._call.deadline

    def answer(self, index: int, result: UpdateResult) -> None:
        """The result of one update; each is answered once."""
        assert self._results[index] is None, "an update was answered twice"
        self._results[index] = result
        self._left -= 1
        if not self._left and not self._holds:
            self._finish()

    def hold(self) -> None:
        """Somebody uses the payload."""
        self._holds += 1

    def drop(self) -> None:
        """Somebody is done with it."""
        self._holds -= 1
        if not self._left and not self._holds:
            self._finish()

    def _finish(self) -> None:
        results = [result for result in self._results if result is not None]
        self._on_done(self)
        self._call.reply(update_reply(results, self._routing_version()))


class Payloads:
    """Which job the bytes of an update belong to. The machine replaces updates as it numbers them; their data stays the same."""

    def __init__(self) -> None:
        self._jobs: dict[int, UpdateJob] = {}
        self.bytes = 0
        """Payload bytes of all requests that are being answered."""

    def add(self, job: UpdateJob) -> None:
        """A request has arrived."""
        self.bytes += job.bytes
        for data in job.datas:
            self._jobs[id(data)] = job

    def remove(self, job: UpdateJob) -> None:
        """It has been answered. (The job keeps its views alive, so no other object has had their ids meanwhile.)"""
        self.bytes -= job.bytes
        for data in job.datas:
            del self._jobs[id(data)]

    def hold(self, update: Update) -> Callable[[], None]:
        """Keep the bytes of an update; call what is returned when they are not needed any more."""
        job = self._jobs.get(id(update.data)) if update.data is not None else None
        if job is None:
            return _nothing
        job.hold()
        return job.drop


def _nothing() -> None:
    """There is no payload to give back."""
