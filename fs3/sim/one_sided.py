"""One-sided transfers between a client and a server, on an event heap: the product's `Lending` and `Fetching`, and what a network
does to reads that the other end does not see.

Each update has a payload, which the client lends in one of a few slots that are used again and again, and the server reads it in
pieces, by as many credits as there are. A read is carried out in two halves at different times (torn), may be carried out again
when it was long answered (a packet that was sent twice), and is answered late. Paths die in the middle; the stream, which keeps
its order, then carries what was under way. Connections break too: what was not answered is asked again under its tag, which the
server knows. Clients give calls up.

What must hold, whatever happens:

1. the bytes of an update that is applied are those the client meant, all of them;
2. an update is applied once, however often it was sent;
3. no read finds anything by a key whose loan has ended;
4. every call is answered.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import NamedTuple

from fs3.base.prng import Prng
from fs3.core.rdma.fetching import Fetching, PayloadFetch, ReadPiece
from fs3.core.rdma.lending import Lending
from fs3.model.rdma import RemoteRegion

SLOTS = 5
SLOT_BYTES = 64
CREDITS = 4
PIECE_BYTES = 16
STALL = 400
UPDATES = 60
SPAN = 4000
"""Within which they begin."""
STEPS_MAX = 20_000


class Violation(AssertionError):
    """Something that must hold did not."""


class Memory:
    """A slot that is lent: `fs3.core.rdma.lending.Loan`."""

    def __init__(self, world: World, slot: bytearray, key: int, length: int) -> None:
        self._world = world
        self.slot = slot
        self.key = key
        self.length = length

    def revoke(self) -> None:
        """See `Loan.revoke`."""
        self._world.keys.pop(self.key, None)

    def release(self) -> None:
        """See `Loan.release`."""
        self._world.slots.append(self.slot)


class WantedUpdate(NamedTuple):
    """What the client wants once."""

    number: int
    tag: int

    @property
    def data(self) -> bytes:
        """Its payload: of which no two are alike."""
        return bytes((self.number * 37 + index * 11) % 251 + 1 for index in range(SLOT_BYTES - self.number % 23))


class World:
    """Both ends and what is between them."""

    def __init__(self, seed: int) -> None:
        self.prng = Prng(seed)
        self.now = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        # What the client has.
        self.slots = [bytearray(SLOT_BYTES) for _ in range(SLOTS)]
        self.keys: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        """Keys of loans that the protocol has ended."""
        self.lending: Lending[Memory] = Lending(100, 1 << 20)
        self._next = 1
        self._calls: dict[int, WantedUpdate] = {}
        self._loans: dict[int, int] = {}
        self.answered: set[int] = set()
        self.given_up: set[int] = set()
        # What is between them.
        self.connection = 1
        self._stream_at = {True: 0, False: 0}
        self.path = 1
        self.is_path_up = True
        self._is_path_alive = True
        # What the server has.
        self.fetching = Fetching(CREDITS, PIECE_BYTES, STALL)
        self.applied: dict[int, bytes] = {}
        self.counted: dict[int, int] = {}

    # --- time ----------------------------------------------------------------------------------------------------------

    def later(self, delay: int, what: Callable[[], None]) -> None:
        """Do it after so long."""
        self._order += 1
        heapq.heappush(self._heap, (self.now + delay, self._order, what))

    def run(self) -> None:
        """Until every update is answered, or nothing more can happen. Raises Violation."""
        for number in range(UPDATES):
            self.later(self.prng.below(SPAN), lambda number=number: self.begin(WantedUpdate(number, number + 1)))  # type: ignore[misc]
        for _ in range(self.prng.below(3)):
            self.later(self.prng.below(SPAN), self.kill_path)
        for _ in range(self.prng.below(3)):
            self.later(self.prng.below(SPAN), self.break_connection)
        self.later(50, self.watch)
        for _ in range(STEPS_MAX):
            if len(self.answered) == UPDATES or not self._heap:
                break
            self.now, _, what = heapq.heappop(self._heap)
            what()
        if len(self.answered) < UPDATES:
            raise Violation(f"{UPDATES - len(self.answered)} updates were never answered")

    # --- the stream ----------------------------------------------------------------------------------------------------

    def send(self, to_server: bool, what: Callable[[], None]) -> None:
        """A frame: in order, unless the connection breaks first."""
        connection = self.connection
        self._stream_at[to_server] = at = max(self._stream_at[to_server], self.now + 1 + self.prng.below(30))

        def arrive() -> None:
            if connection == self.connection:
                what()

        self.later(at - self.now, arrive)

    def break_connection(self) -> None:
        """Both ends notice; the client makes another one and asks again."""
        self.connection += 1
        self._stream_at = {True: self.now, False: self.now}
        self._end_loans(self.lending.close)
        self.fetching.close()
        self.path += 1
        self._begin_path()
        calls, self._calls = self._calls, {}
        for update in calls.values():
            self.begin(self.repeat(update))

    def repeat(self, update: WantedUpdate) -> WantedUpdate:
        """What is asked again: the same, under the same tag."""
        return update

    # --- the client ----------------------------------------------------------------------------------------------------

    def begin(self, update: WantedUpdate) -> None:
        """Send an update, by the path if there is one and a slot is free."""
        self._next += 1
        call = self._next
        self._calls[call] = update
        data = update.data
        if self.is_path_up and self.slots and self.lending.has_room(call, len(data)):
            slot = self.slots.pop(0)
            slot[: len(data)] = data
            loan = Memory(self, slot, 1000 + call, len(data))
            self.keys[loan.key] = slot
            self.lending.lend(call, loan)
            self._loans[call] = loan.key
            self.send(True, lambda: self.on_offer(call, update.tag, RemoteRegion(0, loan.key, len(data))))
        else:
            self.send(True, lambda: self.on_payload(call, update.tag, data))
        if not self.prng.below(8):
            self.later(self.prng.below(60), lambda: self.give_up(call, update))

    def give_up(self, call: int, update: WantedUpdate) -> None:
        """The caller waits no longer. The slot stays lent."""
        if self._calls.pop(call, None) is not None:
            self.given_up.add(update.number)
            self.answered.add(update.number)

    def on_taken(self, call: int, is_fetched: bool) -> None:
        """The server has done with an offer."""
        if is_fetched:
            self._end_loan(call, lambda: self.lending.on_fetched(call))
            return
        loan = self._end_loan(call, lambda: self.lending.on_refused(call))
        update = self._calls.get(call)
        if update is not None:
            data = bytes(loan.slot[: loan.length])
            self.send(True, lambda: self.on_payload(call, update.tag, data))
        loan.release()

    def on_answer(self, call: int) -> None:
        """It is done."""
        update = self._calls.pop(call, None)
        if update is not None:
            self.answered.add(update.number)

    def _end_loan(self, call: int, end: Callable[[], object]) -> Memory:
        key = self._loans.pop(call)
        self.ended.add(key)
        return end()  # type: ignore[return-value]

    def _end_loans(self, end: Callable[[], None]) -> None:
        self.ended.update(self._loans.values())
        self._loans.clear()
        end()

    # --- the path ------------------------------------------------------------------------------------------------------

    def kill_path(self) -> None:
        """From now on no read completes."""
        self._is_path_alive = False

    def _begin_path(self) -> None:
        self.fetching = Fetching(CREDITS, PIECE_BYTES, STALL)
        self.is_path_up = self._is_path_alive = True

    def watch(self) -> None:
        """The server looks whether its fetches get on."""
        if self.fetching.is_stalled(self.now):
            self.leave_path()
        self.later(50, self.watch)

    def leave_path(self) -> None:
        """It is dead: what was under way goes by the stream, and the client is told. After a while there is another."""
        self.path += 1
        self.is_path_up = self._is_path_alive = False
        lost = self.fetching.close()
        for fetch in lost:
            call = fetch.item[0]
            self.send(False, lambda call=call: self.on_taken(call, False))  # type: ignore[misc]
        path = self.path

        def again() -> None:
            if path == self.path:
                self._begin_path()

        self.send(False, lambda: self.later(self.prng.below(200), again))

    def post(self) -> None:
        """Reads, as far as there are credits."""
        for piece in self.fetching.next_pieces(self.now):
            self._read(piece, self.path)

    def _read(self, piece: ReadPiece, path: int) -> None:
        half = piece.length // 2
        cuts = ((0, half), (half, piece.length - half))
        first, second = sorted(1 + self.prng.below(80) for _ in range(2))
        for delay, (offset, length) in zip((first, second), cuts, strict=True):
            self.later(delay, lambda o=offset, n=length: self._carry_out(piece, path, o, n, counts=True))  # type: ignore[misc]
        if not self.prng.below(3):  # a packet that was sent twice
            self.later(second + self.prng.below(300), lambda: self._carry_out(piece, path, 0, piece.length, counts=False))
        self.later(second + self.prng.below(60), lambda: self._complete(piece, path))

    def _carry_out(self, piece: ReadPiece, path: int, offset: int, length: int, *, counts: bool) -> None:
        """The client's device reads memory. A queue pair that was closed does nothing more."""
        if path != self.path or not self._is_path_alive:
            return
        slot = self.keys.get(piece.key)
        if slot is None:
            return
        if piece.key in self.ended:
            raise Violation(f"a read found {length} bytes by a key whose loan had ended")
        if counts:
            at = piece.address + offset
            place: bytearray = piece.fetch.item[2]
            place[piece.offset + offset : piece.offset + offset + length] = slot[at : at + length]

    def _complete(self, piece: ReadPiece, path: int) -> None:
        if path != self.path or not self._is_path_alive:
            return
        fetch = self.fetching.on_completed(piece.number, self.now)
        if fetch is not None:
            call, tag, place = fetch.item
            self.send(False, lambda: self.on_taken(call, True))
            self.apply(call, tag, bytes(place))
        self.post()

    # --- the server ----------------------------------------------------------------------------------------------------

    def on_offer(self, call: int, tag: int, region: RemoteRegion) -> None:
        """PayloadFetch the payload of a request, or have it sent."""
        if not self.is_path_up:
            self.send(False, lambda: self.on_taken(call, False))
            return
        self.fetching.begin(PayloadFetch([region], (call, tag, bytearray(region.length))))
        self.post()

    def on_payload(self, call: int, tag: int, data: bytes) -> None:
        """A request whose payload came with it."""
        self.apply(call, tag, data)

    def apply(self, call: int, tag: int, data: bytes) -> None:
        """Once for each tag; answered each time."""
        number = (tag - 1) % UPDATES
        if data != WantedUpdate(number, tag).data:
            raise Violation(f"update {number} was applied with bytes that are not its own")
        if tag not in self.applied:
            self.applied[tag] = data
            self.counted[number] = self.counted.get(number, 0) + 1
            if self.counted[number] > 1:
                raise Violation(f"update {number} was applied twice")
        self.send(False, lambda: self.on_answer(call))


def run(seed: int) -> World:
    """One run. Raises Violation."""
    world = World(seed)
    world.run()
    return world
