"""The stage of a scenario: targets and everything around them, moved by commands. See `scenario` for the commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any

import msgspec

from fs3.base.ids import ChainId, ChunkId, ClientId, NodeId, TargetId
from fs3.base.units import MILLISECOND
from fs3.core.craq import invariants
from fs3.core.craq.admission.table import UNTAGGED
from fs3.core.craq.effects import Effect
from fs3.core.craq.events import Event
from fs3.core.craq.lanes import ReplicaLimits
from fs3.core.craq.resync.plan import ResyncLimits
from fs3.core.craq.resync.steps import ResyncEffect, ResyncEvent
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.chunk import Tag, Update, UpdateKind
from fs3.sim.ring1.chunks import newest_lost
from fs3.sim.ring1.messages import FIRST_CLIENT, ChainNotice, Message, SimReadAnswer, SimReadCall, SimUpdateAnswer, SimUpdateCall
from fs3.sim.ring1.show import show_chunk, show_effect, show_event, show_message, show_result, show_tag
from fs3.sim.ring1.target_host import Parts, TargetHost

LIMITS = ReplicaLimits(
    lane_waiting_max=4,
    flight_deadline_ns=1000 * MILLISECOND,
    forward_timeout_min_ns=100 * MILLISECOND,
    forward_timeout_max_ns=400 * MILLISECOND,
    forward_backoff_min_ns=10 * MILLISECOND,
    forward_backoff_max_ns=40 * MILLISECOND,
)
RESYNC_LIMITS = ResyncLimits(range_chunks=4, finish_ns=1000 * MILLISECOND)
_LEASE_NS = 1 << 60
_QUERY_TIMEOUT_NS = 500 * MILLISECOND
_CHAIN = ChainId(7)
_Link = tuple[int, int]


class ScenarioError(Exception):
    """A command that makes no sense; says which."""


class ScenarioRunner:
    """The targets of a scenario and everything around them, moved by commands."""

    def __init__(self, parts: Parts) -> None:
        self.now = 0
        self.lines: list[str] = []
        self._parts = parts
        self._hosts: dict[int, TargetHost] = {}
        self._chain = Chain(_CHAIN, 0, ())
        self._messages: list[tuple[int, int, int, Message]] = []
        self._kept: dict[_Link, tuple[int, int, int, Message]] = {}
        self._held: set[_Link] = set()
        self._slow: set[int] = set()
        self._timers: list[tuple[int, int, TargetHost, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._unborn: set[int] = set()
        """The manager has not stored yet that they are there."""
        self._opening: list[TargetHost] = []
        self._last: dict[int, Update] = {}
        self._seqs: dict[int, int] = {}
        self._calls = 0

    # --- surroundings of the hosts -----------------------------------------------------------------------------------

    def send(self, source: int, target: int, message: Message) -> None:
        """Queue a message."""
        host = self._hosts.get(target)
        if host is None or host.up:
            self._messages.append((source, target, host.process if host is not None else 0, message))

    def on_store_opening(self, host: TargetHost) -> None:
        """The store is open as soon as the chain has been learned."""
        self._opening.append(host)

    def on_barrier_begin(self, host: TargetHost) -> None:
        """The barrier waits for a command."""

    def clock(self, host: TargetHost) -> int:
        """All clocks are alike."""
        return self.now

    def call_at(self, host: TargetHost, due_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        """Remember the deadline."""
        self._order += 1
        heappush(self._timers, (due_ns, self._order, host, host.process, action, arguments))

    def on_resync_finished(self, host: TargetHost) -> None:
        """It would tell the manager."""
        self.lines.append(f"{host.target}: is up to date")

    def on_acknowledged(self, update: Update) -> None:
        """The answer is in the trace."""

    def on_admitted(self) -> None:
        """The step is in the trace."""

    def record(self, host: TargetHost, event: Event | ResyncEvent | str, effects: list[Effect] | list[ResyncEffect]) -> None:
        """A line of the trace."""
        shown = "; ".join(show_effect(effect) for effect in effects)
        self.lines.append(f"{host.target}: {show_event(event)} ⇒ {shown or 'nothing'}")

    # --- commands ----------------------------------------------------------------------------------------------------

    def command(self, line: str) -> None:
        """Carry out one command. Raises ScenarioError when there is no such command or it has the wrong operands."""
        name, *operands = shlex.split(line)
        method = getattr(self, f"_do_{name}", None)
        if method is None:
            raise ScenarioError(f"no such command: {line}")
        try:
            method(*operands)
        except (TypeError, KeyError, IndexError, ValueError) as wrong:
            raise ScenarioError(f"{line}: {wrong!r}") from wrong
        for host in self._hosts.values():
            if host.up:
                invariants.check(host.replica, host.chunks.list_pending())

    def _do_chain(self, *targets: str) -> None:
        self._change({int(target): PublicState.SERVING for target in targets})
        for target in map(int, targets):
            self._new_host(target)
        self.lines.clear()

    def _do_newborn(self, *targets: str) -> None:
        self._unborn.update(map(int, targets))
        self._do_chain(*targets)

    def _do_born(self, target: str) -> None:
        self._unborn.discard(int(target))
        self._hosts[int(target)].on_birth_stored()

    def _do_write(self, client: str, chunk: str, text: str, *rest: str) -> None:
        self._update(client, chunk, UpdateKind.WRITE, text, rest)

    def _do_put(self, client: str, chunk: str, text: str, *rest: str) -> None:
        self._update(client, chunk, UpdateKind.PUT, text, rest)

    def _do_truncate(self, client: str, chunk: str, *rest: str) -> None:
        self._update(client, chunk, UpdateKind.TRUNCATE, "", rest)

    def _do_remove(self, client: str, chunk: str, *rest: str) -> None:
        self._update(client, chunk, UpdateKind.REMOVE, "", rest)

    def _do_retry(self, client: str, target: str = "") -> None:
        node = _client(client)
        self._last[node] = msgspec.structs.replace(self._last[node], chain_version=self._chain.version)
        self._ask(node, int(target) if target else self._head())

    def _do_read(self, chunk: str, target: str) -> None:
        host = self._hosts[int(target)]
        answer = show_message(host.read(SimReadCall(0, _chunk(chunk), self._chain.version))) if host.up else "nobody answers"
        self.lines.append(f"{target}: read {chunk} ⇒ {answer}")

    def _do_deliver(self, *link: str) -> None:
        if link:
            self._arrive(self._messages.pop(self._oldest(link)))
            return
        while self._deliver_next():
            pass

    def _do_drop(self, *link: str) -> None:
        source, target, _, message = self._messages.pop(self._oldest(link))
        self.lines.append(f"{_name(source)} → {_name(target)} lost: {show_message(message)}")

    def _do_keep(self, *link: str) -> None:
        self._kept[_link(link)] = self._messages[self._oldest(link)]

    def _do_late(self, *link: str) -> None:
        self._arrive(self._kept.pop(_link(link)))

    def _do_hold(self, *link: str) -> None:
        self._held.add(_link(link))

    def _do_free(self, *link: str) -> None:
        self._held.remove(_link(link))

    def _do_slow(self, target: str) -> None:
        self._slow.add(int(target))

    def _do_disk(self, target: str) -> None:
        self._slow.discard(int(target))
        host = self._hosts[int(target)]
        host.finish_barrier()

    def _do_crash(self, target: str, lost: str = "0") -> None:
        host = self._hosts[int(target)]
        host.crash(newest_lost(host.chunks, int(lost)))

    def _do_restart(self, target: str) -> None:
        self._start(self._hosts[int(target)])

    def _do_serving(self, *targets: str) -> None:
        keep = [int(target) for target in targets]
        self._change(
            {slot.target: PublicState.SERVING if slot.target in keep else PublicState.OFFLINE for slot in self._chain.slots}
        )

    def _do_lost(self, *targets: str) -> None:
        last = [int(target) for target in targets]
        self._change(
            {slot.target: PublicState.LASTSRV if slot.target in last else PublicState.OFFLINE for slot in self._chain.slots}
        )

    def _do_join(self, target: str) -> None:
        states: dict[int, PublicState] = {slot.target: slot.state for slot in self._chain.slots if slot.target != int(target)}
        states[int(target)] = PublicState.SYNCING
        self._change(states)
        if int(target) not in self._hosts:
            self._new_host(int(target))

    def _do_bump(self) -> None:
        self._change({slot.target: slot.state for slot in self._chain.slots})

    def _do_tell(self, *targets: str) -> None:
        for target in targets:
            self._tell(self._hosts[int(target)])

    def _do_wait(self, milliseconds: str) -> None:
        until = self.now + int(milliseconds) * MILLISECOND
        while self._timers and self._timers[0][0] <= until:
            due, _, host, process, action, arguments = heappop(self._timers)
            self.now = max(self.now, due)
            if host.up and host.process == process:
                action(*arguments)
        self.now = until

    def _do_corrupt(self, target: str) -> None:
        self._hosts[int(target)].chunks.corrupt_next = True

    def _do_rot(self, target: str, chunk: str) -> None:
        self._hosts[int(target)].chunks.rot(_chunk(chunk))

    def _do_repair(self, target: str) -> None:
        self._hosts[int(target)].repairs.ask()

    def _do_full(self, target: str) -> None:
        self._hosts[int(target)].chunks.is_full = True

    def _do_empty(self, target: str) -> None:
        self._hosts[int(target)].chunks.is_full = False

    def _do_exchange(self, target: str) -> None:
        self._hosts[int(target)].replace_disk(node_too=False)

    def _do_expire(self, target: str) -> None:
        self._hosts[int(target)].lease_until_ns = 0

    def _do_state(self) -> None:
        for target, host in self._hosts.items():
            self.lines.append(f"{target}: {host.replica.describe() if host.up else 'down'}")
            for chunk, record in sorted(host.chunks.records.items()):
                meta = record.meta
                pending = f", pending {meta.pending} {show_tag(meta.pending_tag)}" if meta.pending else ""
                self.lines.append(f"   {show_chunk(chunk)} committed {meta.committed} {record.content.decode()!r}{pending}")
            for (client, channel), row in sorted(host.chunks.rows.items()):
                tag = show_tag(Tag(client, channel, row.seq))
                self.lines.append(f"   row {tag} {show_chunk(row.chunk)} {show_result(row.result)}")

    # --- how ---------------------------------------------------------------------------------------------------------

    def _change(self, states: Mapping[int, PublicState]) -> None:
        slots = tuple(Slot(TargetId(target), NodeId(target), state) for target, state in states.items())
        self._chain = Chain(_CHAIN, self._chain.version + 1, slots)

    def _head(self) -> int:
        head = self._chain.head()
        if head is None:
            raise ScenarioError("nobody serves")
        return head.target

    def _new_host(self, target: int) -> None:
        self._hosts[target] = TargetHost(TargetId(target), self, LIMITS, self._parts, RESYNC_LIMITS, _QUERY_TIMEOUT_NS)
        self._start(self._hosts[target])

    def _start(self, host: TargetHost) -> None:
        host.start()
        host.begin(host.incarnation, is_born=host.process > 1 and host.target not in self._unborn)
        host.lease_until_ns = _LEASE_NS
        self._tell(host)

    def _tell(self, host: TargetHost) -> None:
        host.receive(0, ChainNotice(self._chain))
        while self._opening:
            self._opening.pop().open()
        if host.target not in self._unborn:
            host.on_birth_stored()

    def _update(self, client: str, chunk: str, kind: UpdateKind, text: str, rest: Sequence[str]) -> None:
        node = _client(client)
        words = list(rest)
        tag = UNTAGGED
        if "untagged" in words:
            words.remove("untagged")
        else:
            self._seqs[node] = self._seqs.get(node, 0) + 1
            tag = Tag(ClientId(node.to_bytes(16, "big")), 0, self._seqs[node])
        offset = int(words[1]) if words else 0
        data = memoryview(text.encode()) if text else None
        version = self._chain.version
        self._last[node] = Update(_chunk(chunk), kind, _CHAIN, version, 0, offset, len(text), tag, data=data)
        self._ask(node, self._head())

    def _ask(self, node: int, target: int) -> None:
        self._calls += 1
        self.send(node, target, SimUpdateCall(self._calls, self._last[node]))

    def _oldest(self, link: Sequence[str]) -> int:
        wanted = _link(link)
        for index, (source, target, _, _) in enumerate(self._messages):
            if (source, target) == wanted:
                return index
        raise ScenarioError(f"nothing is on its way from {link[0]} to {link[1]}")

    def _deliver_next(self) -> bool:
        """Deliver one message, or let one disk finish."""
        for index, (source, target, _, _) in enumerate(self._messages):
            if (source, target) not in self._held:
                self._arrive(self._messages.pop(index))
                return True
        for target, host in self._hosts.items():
            if host.up and host.is_disk_busy and target not in self._slow:
                host.finish_barrier()
                return True
        return False

    def _arrive(self, sent: tuple[int, int, int, Message]) -> None:
        source, target, process, message = sent
        host = self._hosts.get(target)
        if host is None:
            assert isinstance(message, SimUpdateAnswer | SimReadAnswer)
            self.lines.append(f"{_name(target)}: {show_message(message)}{_why(message)}")
        elif host.up and host.process == process:
            host.receive(source, message)
        else:
            self.lines.append(f"{_name(source)} → {target} lost with its connection: {show_message(message)}")


def _why(message: SimUpdateAnswer | SimReadAnswer) -> str:
    text = message.result.message if isinstance(message, SimUpdateAnswer) else ""
    return f" ({text})" if text else ""


def _client(name: str) -> int:
    return FIRST_CLIENT + int(name.removeprefix("c"))


def _name(node: int) -> str:
    return f"c{node - FIRST_CLIENT}" if node >= FIRST_CLIENT else str(node)


def _chunk(name: str) -> ChunkId:
    number = int(name[1:]) | (0x80 << 120 if name[0] == "p" else 0)
    return ChunkId(number.to_bytes(16, "big"))


def _link(names: Sequence[str]) -> _Link:
    one, other = (_client(name) if name[0] == "c" else int(name) for name in names)
    return one, other
