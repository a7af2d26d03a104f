"""Update requests that are being answered: whose bytes are needed by whom, and the reply once every result is there.

Why bytes are counted. The buffers requests arrive in are few (`receive_bytes_max`), and a node that has none left reads nothing
more. So no buffer may be kept by something that waits for another node, which may be waiting for us: a ring of full nodes would
stand still. What waits for the disk is fine, disks do not wait. What waits for a successor is not:

- forwarding uses the request's own buffer only while little is lent so (`lent_bytes_max`); else the buffer goes back as soon as
  its updates are staged, and the successor is sent the bytes from the store;
- an update that finds its chunk busy may wait with its bytes only while little does so (`parked_bytes_max`); else it is BUSY.
"""

from __future__ import annotations

from collections.abc import Callable

from fs3.base.limits import lent_bytes_max, parked_bytes_max
from fs3.model.chunk import Update, UpdateResult
from fs3.ports.rpc import Call
from fs3.wire.storage import update_reply_to_pb


class UpdateJob:
    """One Update call."""

    __slots__ = (
        "_call",
        "_holds",
        "_left",
        "_on_done",
        "_payloads",
        "_results",
        "_routing_version",
        "_unstaged",
        "bytes",
        "datas",
        "is_released",
        "lent",
        "parked",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        updates: list[Update],
        payloads: Payloads,
        routing_version: Callable[[], int],
        on_done: Callable[[], None],
    ) -> None:
        self._call = call
        self._results: list[UpdateResult | None] = [None] * len(updates)
        self._left = len(updates)
        self._holds = 0
        self._payloads = payloads
        self._routing_version = routing_version
        self._on_done = on_done
        self.bytes = len(call.payload) if call.payload is not None else 0
        self.datas = {index: update.data for index, update in enumerate(updates) if update.data is not None}
        self._unstaged = set(self.datas)
        """Updates whose bytes are not in the store yet, nor refused."""
        self.lent = 0
        """Forwards that use the buffer."""
        self.parked: set[int] = set()
        """Updates that wait behind another one of their chunk."""
        self.is_released = False
        """The buffer has gone back; nobody may look at the bytes any more."""
        payloads.add(self)

    def answer(self, index: int, result: UpdateResult) -> None:
        """The result of one update; each is answered once."""
        assert self._results[index] is None, "an update was answered twice"
        self._results[index] = result
        self._left -= 1
        self._unstaged.discard(index)
        if index in self.parked:
            self._payloads.unpark(self, index)
        self._settle()

    def on_staged(self, index: int) -> None:
        """The bytes of one update are in the store."""
        self._unstaged.discard(index)
        self._settle()

    def hold(self) -> None:
        """Somebody uses the buffer."""
        self._holds += 1

    def drop(self) -> None:
        """Somebody is done with it."""
        self._holds -= 1
        self._settle()

    def _settle(self) -> None:
        """Answering the call gives its buffer back too, so the answer also waits until nobody uses that any more."""
        if self._holds:
            return
        if not self._left:
            self._payloads.remove(self)
            self._on_done()
            self._call.reply(
                update_reply_to_pb([result for result in self._results if result is not None], self._routing_version())
            )
        elif not self._unstaged and not self.is_released and self.bytes:
            self.is_released = True
            self._payloads.on_released(self)
            self._call.release()


class Payloads:
    """The buffers of all Update calls of a node. The machine replaces updates as it numbers them; their data stays the same."""

    def __init__(self) -> None:
        self._owners: dict[int, tuple[UpdateJob, int]] = {}
        """id of an update's data -> whose it is. (The job keeps the view alive, so no other object has its id meanwhile.)"""
        self.bytes = 0
        """In the buffers of all calls that have theirs."""
        self.lent_bytes = 0
        """In buffers that forwards use."""
        self.parked_bytes = 0
        """In buffers with updates that wait behind another one of their chunk."""

    def add(self, job: UpdateJob) -> None:
        """A request has arrived."""
        self.bytes += job.bytes
        for index, data in job.datas.items():
            self._owners[id(data)] = (job, index)

    def on_released(self, job: UpdateJob) -> None:
        """Its buffer has gone back before its answer."""
        self.bytes -= job.bytes

    def remove(self, job: UpdateJob) -> None:
        """It is answered."""
        if not job.is_released:
            self.bytes -= job.bytes
        for data in job.datas.values():
            del self._owners[id(data)]

    def find_owner(self, update: Update) -> tuple[UpdateJob, int] | None:
        """The request whose bytes an update has, and which of its updates it is."""
        return self._owners.get(id(update.data)) if update.data is not None else None

    def lend(self, update: Update) -> Callable[[], None] | None:
        """Let a forward use the bytes of an update; call what is returned when it is done. None: take them from the store."""
        owner = self.find_owner(update)
        if owner is None or owner[0].is_released:
            return None
        job = owner[0]
        if not job.lent:
            if self.lent_bytes + job.bytes > lent_bytes_max:
                return None
            self.lent_bytes += job.bytes
        job.lent += 1
        job.hold()

        def give_back() -> None:
            job.lent -= 1
            if not job.lent:
                self.lent_bytes -= job.bytes
            job.drop()

        return give_back

    def park(self, job: UpdateJob, index: int) -> bool:
        """An update has to wait behind another one; False when there is no room for that."""
        if index not in job.datas:
            return True
        if not job.parked:
            if self.parked_bytes + job.bytes > parked_bytes_max:
                return False
            self.parked_bytes += job.bytes
        job.parked.add(index)
        return True

    def unpark(self, job: UpdateJob, index: int) -> None:
        """Its turn has come, or it was answered."""
        job.parked.discard(index)
        if not job.parked:
            self.parked_bytes -= job.bytes
