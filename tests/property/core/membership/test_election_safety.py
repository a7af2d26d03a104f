"""Managers, a shared store that is slow and fails, processes that are stopped and killed, clocks that run apart: at no moment may
two managers act, nothing is stored under an epoch that is over, and in quiet times there is exactly one primary, soon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.membership.election import (
    Election,
    ElectionEffect,
    ElectionEvent,
    ElectionTick,
    ElectionTimes,
    Holder,
    Lead,
    LeaseConflict,
    LeaseIOFailed,
    LeaseRead,
    LeaseRecord,
    LeaseWritten,
    ReadLease,
    Resign,
    StepDown,
    TermFailed,
    WriteLease,
)

TIMES = ElectionTimes()


@dataclass
class Store:
    """The shared record. Transactions are serial; when they run, and when their answers arrive, is up to the world."""

    record: LeaseRecord | None = None
    accepted: list[int] = field(default_factory=list)
    """Epochs of writes of primaries, in the order they were stored."""


class Process:
    """One management process: its election, and a clock that is as wrong as clocks may be."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.starts = 0
        self.up = False
        self.stopped_until = 0
        self.stuck: list[Callable[[], None]] = []
        self.epoch = 0
        self.leads = False
        self.election: Election | None = None

    def clock(self) -> int:
        """Runs up to drift_ns per lease too slow or too fast."""
        return self.offset + self.world.now + self.world.now * self.skew // TIMES.lease_ns

    def start(self) -> None:
        prng = self.world.prng
        self.starts += 1
        self.up, self.leads = True, False
        self.offset = prng.below(1000 * SECOND)
        # Two clocks may disagree by drift_ns in one lease, so each may be wrong by half of it.
        self.skew = prng.between(-TIMES.drift_ns // 2, TIMES.drift_ns // 2)
        self.stuck.clear()
        self.election = Election(self.clock(), Holder(self.name, f"{self.name}.{self.starts}".encode()), TIMES)

    def kill(self) -> None:
        self.up = self.leads = False
        self.stuck.clear()
        self.stopped_until = 0

    def deliver(self, starts: int, action: Callable[[], None]) -> None:
        """Run an action in this process: never when it was killed meanwhile, later when it is stopped."""
        if not self.up or starts != self.starts:
            return
        if self.world.now < self.stopped_until:
            self.stuck.append(lambda: self.deliver(starts, action))
        else:
            action()

    def step(self, event: ElectionEvent) -> None:
        assert self.election is not None
        for effect in self.election.step(self.clock(), event):
            self.carry_out(effect)

    def carry_out(self, effect: ElectionEffect) -> None:
        world, store, starts = self.world, self.world.store, self.starts
        match effect:
            case Lead():
                self.leads, self.epoch = True, effect.epoch
                if world.trouble and world.prng.chance(1, 10):
                    world.later(lambda: self.deliver(starts, lambda: self.step(TermFailed("cannot load"))))
            case StepDown():
                self.leads = False
            case ReadLease():

                def look() -> None:
                    failed = world.trouble and world.prng.chance(1, 20)
                    answer = LeaseIOFailed("cannot read") if failed else LeaseRead(store.record)
                    world.later(lambda: self.deliver(starts, lambda: self.step(answer)))

                world.later(look)
            case WriteLease():

                def write() -> None:
                    answer: ElectionEvent = LeaseConflict(store.record)
                    fate = world.prng.below(20) if world.trouble else 9
                    if fate == 0:
                        answer = LeaseIOFailed("nothing was stored")
                    elif store.record == effect.expected:
                        store.record = effect.record
                        answer = LeaseIOFailed("the answer was lost") if fate == 1 else LeaseWritten()
                    world.later(lambda: self.deliver(starts, lambda: self.step(answer)))

                # A process that is killed may leave a transaction behind that is still carried out.
                world.later(write)

    def act(self) -> None:
        """Once in a while the primary stores something, and checks its epoch in the same transaction."""
        assert self.election is not None
        if self.leads and self.election.may_act(self.clock()):
            epoch, instance = self.epoch, f"{self.name}.{self.starts}".encode()

            def commit() -> None:
                record = self.world.store.record
                if record and record.epoch == epoch and record.holder and record.holder.instance == instance:
                    self.world.store.accepted.append(epoch)

            self.world.later(commit)


class World:
    """Everything, stepped by a seed."""

    def __init__(self, seed: int, managers: int) -> None:
        self.prng = Prng(seed)
        self.now = 0
        self.trouble = False
        self.slow = 20 * MILLISECOND
        self.store = Store()
        self.mail: list[tuple[int, int, Callable[[], None]]] = []
        self.serial = 0
        self.processes = [Process(self, f"mgmtd-{index}") for index in range(managers)]
        for process in self.processes:
            process.start()

    def later(self, action: Callable[[], None]) -> None:
        self.serial += 1
        self.mail.append((self.now + self.prng.below(self.slow), self.serial, action))

    def acting(self) -> list[Process]:
        """Who may act as the primary now. A stopped process cannot do anything; what it would do on waking counts."""
        return [
            process
            for process in self.processes
            if process.up and process.election is not None and process.election.may_act(process.clock())
        ]

    def check(self) -> None:
        acting = self.acting()
        assert len(acting) <= 1, f"two primaries at {self.now}: {[process.name for process in acting]}"
        assert self.store.accepted == sorted(self.store.accepted), "something was stored under an epoch that was over"

    def run(self, duration: int) -> None:
        end = self.now + duration
        while self.now < end:
            self.now += self.prng.between(1, 10 * MILLISECOND)
            due = sorted((item for item in self.mail if item[0] <= self.now), key=lambda item: item[:2])
            self.mail = [item for item in self.mail if item[0] > self.now]
            for _, _, action in due:
                action()
                self.check()
            for process in self.processes:
                self.turn(process)
                self.check()
            if self.trouble:
                self.disturb()

    def turn(self, process: Process) -> None:
        if not process.up:
            if self.prng.chance(1, 100):
                process.start()
            return
        if self.now < process.stopped_until:
            return
        stuck, process.stuck = process.stuck, []
        for action in stuck:
            action()
        assert process.election is not None
        deadline = process.election.next_deadline()
        if deadline is not None and process.clock() >= deadline:
            process.step(ElectionTick())
        if self.prng.chance(1, 5):
            process.act()

    def disturb(self) -> None:
        process = self.prng.pick(self.processes)
        if self.prng.chance(1, 300):
            process.kill()
        if self.prng.chance(1, 200):
            process.stopped_until = self.now + self.prng.below(4 * SECOND)
        if self.prng.chance(1, 500) and process.up and self.now >= process.stopped_until:
            process.step(Resign())
        if self.prng.chance(1, 200):
            self.slow = self.prng.pick((MILLISECOND, 20 * MILLISECOND, 200 * MILLISECOND, 3 * SECOND))


@pytest.mark.parametrize("seed", range(25))
def test_never_two_primaries_and_soon_exactly_one(seed: int) -> None:
    world = World(seed, managers=2 + seed % 3)
    world.run(3 * SECOND)
    assert len(world.acting()) == 1, "nobody leads a cluster that just began"
    world.trouble = True
    world.run(40 * SECOND)
    world.trouble = False
    world.slow = 20 * MILLISECOND
    for process in world.processes:
        process.stopped_until = 0
        # One that has resigned is about to stop; the others go on.
        if process.up and process.election is not None and process.election.next_deadline() is None:
            process.kill()
    world.run(8 * SECOND)
    stored = len(world.store.accepted)
    [primary] = world.acting()
    record = world.store.record
    assert record is not None
    assert record.holder is not None
    assert record.holder.name == primary.name
    world.run(2 * SECOND)
    assert world.acting() == [primary], "it stays when nothing happens"
    assert len(world.store.accepted) > stored
    assert world.store.accepted[-1] == record.epoch


def test_a_killed_primary_is_replaced_within_its_lease_and_a_little() -> None:
    world = World(7, managers=3)
    world.run(5 * SECOND)
    [primary] = world.acting()
    primary.kill()
    primary.start = lambda: None  # type: ignore[method-assign]
    killed_at = world.now
    while not world.acting():
        world.run(10 * MILLISECOND)
    assert world.now - killed_at < TIMES.lease_ns + 2 * TIMES.drift_ns + 2 * TIMES.poll_ns


def test_one_that_resigns_is_replaced_at_once() -> None:
    world = World(8, managers=2)
    world.run(5 * SECOND)
    [primary] = world.acting()
    primary.step(Resign())
    resigned_at = world.now
    while primary in world.acting() or not world.acting():
        world.run(10 * MILLISECOND)
    assert world.now - resigned_at < 2 * TIMES.poll_ns


def test_who_cannot_begin_its_term_lets_the_others_try_first() -> None:
    me = Holder("a", b"a")
    election = Election(0, me, TIMES)
    assert election.step(0, ElectionTick()) == [ReadLease()]
    [write] = election.step(1, LeaseRead(None))
    assert isinstance(write, WriteLease)
    assert election.step(2, LeaseWritten()) == [Lead(1)]
    assert election.step(3, TermFailed("no disk")) == [StepDown("no disk")]
    assert not election.may_act(3)
    again = election.next_deadline()
    assert again is not None
    assert again > 3 + TIMES.lease_ns + TIMES.drift_ns + TIMES.poll_ns, "by then another candidate may take over"
    assert election.step(4, TermFailed("no disk")) == [], "it leads no more"
    assert election.step(again, ElectionTick()) == [ReadLease()]
    [write] = election.step(again, LeaseRead(write.record))
    assert isinstance(write, WriteLease)
    assert write.record.epoch == 2, "a term of its own"
