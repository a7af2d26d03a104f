"""Scenarios: scripted runs of a chain in text files, with the trace they must produce.

A file is a sequence of blocks: commands, a line `----`, and what they lead to, up to an empty line. Lines that begin with `#`
are comments. Nothing happens by itself: messages, disks and clocks move when a command says so. `python -m fs3.sim.scenario
--rewrite FILES` writes what happens now in place of what was expected; the difference is for a person to look at.

    chain 1 2 3              start these targets as one chain, in this order
    write c1 x0 TEXT [at N]  client c1 sends an update to the head; also put, truncate … at N, remove; `untagged` at the end
    retry c1 [TARGET]        the client sends its last update again, to the head or to another target
    read x0 TARGET           ask a target for a chunk
    deliver [A B]            deliver the oldest message from A to B; without operands everything, disks too, until all is quiet
    drop A B                 lose the oldest message from A to B
    keep A B                 put a copy of the oldest message from A to B aside …
    late A B                 … and deliver it now
    hold A B, free A B       `deliver` passes over this link; no more
    slow N, disk N           `deliver` passes over the disk of target N; what it works on is on the disk now
    crash N [LOST]           target N dies, with the newest LOST commits
    restart N                … and comes back, and is told the chain
    serving 1 3              a new chain version in which these serve and no others
    join 4                   a new chain version with target 4, which may be new, syncing
    bump                     a new chain version with the same targets
    tell N …                 these targets learn of the present chain
    wait MS                  time passes; deadlines are kept
    corrupt N                the next stage of target N stores other bytes
    expire N                 the lease of target N runs out
    state                    targets, chunks and channel rows
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from fs3.base.ids import ChainId, ChunkId, ClientId, NodeId, TargetId
from fs3.base.units import MILLISECOND
from fs3.core.craq import invariants
from fs3.core.craq.admission import UNTAGGED
from fs3.core.craq.effects import Effect
from fs3.core.craq.events import Event
from fs3.core.craq.lanes import ReplicaLimits
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.chunk import Tag, Update, UpdateKind
from fs3.sim.messages import FIRST_CLIENT, ChainTold, Message, ReadAnswer, ReadCall, UpdateAnswer, UpdateCall
from fs3.sim.show import show_chunk, show_effect, show_event, show_message, show_result, show_tag
from fs3.sim.target_host import Parts, TargetHost

LIMITS = ReplicaLimits(
    lane_waiting_max=4,
    flight_deadline_ns=1000 * MILLISECOND,
    forward_timeout_min_ns=100 * MILLISECOND,
    forward_timeout_max_ns=400 * MILLISECOND,
    forward_backoff_min_ns=10 * MILLISECOND,
    forward_backoff_max_ns=40 * MILLISECOND,
)
_LEASE_NS = 1 << 60
_CHAIN = ChainId(7)
_Link = tuple[int, int]


class ScenarioError(Exception):
    """A command that makes no sense; says which."""


class Stage:
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
        self._due: dict[int, int] = {}
        self._opening: list[TargetHost] = []
        self._last: dict[int, Update] = {}
        self._seqs: dict[int, int] = {}
        self._calls = 0

    # --- surroundings of the hosts -----------------------------------------------------------------------------------

    def send(self, source: int, target: int, message: Message) -> None:
        """Queue a message."""
        host = self._hosts.get(target)
        if host is None or host.up:
            self._messages.append((source, target, host.incarnation if host is not None else 0, message))

    def opens(self, host: TargetHost) -> None:
        """The store is open as soon as the chain has been learned."""
        self._opening.append(host)

    def disk_begins(self, host: TargetHost) -> None:
        """The barrier waits for a command."""

    def arm(self, host: TargetHost, due_ns: int) -> None:
        """Remember the deadline."""
        self._due[host.target] = min(due_ns, self._due.get(host.target, due_ns))

    def note(self, host: TargetHost, event: Event | str, effects: list[Effect]) -> None:
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
                invariants.check(host.replica, host.chunks.pending())

    def _do_chain(self, *targets: str) -> None:
        self._change({int(target): PublicState.SERVING for target in targets})
        for target in map(int, targets):
            self._new_host(target)
        self.lines.clear()

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
        answer = show_message(host.read(ReadCall(0, _chunk(chunk), self._chain.version))) if host.up else "nobody answers"
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
        host.disk_ends(host.incarnation)

    def _do_crash(self, target: str, lost: str = "0") -> None:
        self._due.pop(int(target), None)
        self._hosts[int(target)].crash(int(lost))

    def _do_restart(self, target: str) -> None:
        self._start(self._hosts[int(target)])

    def _do_serving(self, *targets: str) -> None:
        keep = [int(target) for target in targets]
        self._change(
            {slot.target: PublicState.SERVING if slot.target in keep else PublicState.OFFLINE for slot in self._chain.slots}
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
        while self._due and min(self._due.values()) <= until:
            target = min(self._due, key=lambda target: (self._due[target], target))
            self.now = max(self.now, self._due.pop(target))
            self._hosts[target].tick(self._hosts[target].incarnation)
        self.now = until

    def _do_corrupt(self, target: str) -> None:
        self._hosts[int(target)].chunks.corrupt_next = True

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
        self._hosts[target] = TargetHost(TargetId(target), self, _LEASE_NS, LIMITS, self._parts)
        self._start(self._hosts[target])

    def _start(self, host: TargetHost) -> None:
        host.start()
        host.lease_until_ns = _LEASE_NS
        self._tell(host)

    def _tell(self, host: TargetHost) -> None:
        host.receive(0, ChainTold(self._chain))
        while self._opening:
            opening = self._opening.pop()
            opening.open(opening.incarnation)

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
        self.send(node, target, UpdateCall(self._calls, self._last[node]))

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
            if host.up and host.disk_is_busy and target not in self._slow:
                host.disk_ends(host.incarnation)
                return True
        return False

    def _arrive(self, sent: tuple[int, int, int, Message]) -> None:
        source, target, incarnation, message = sent
        host = self._hosts.get(target)
        if host is None:
            assert isinstance(message, UpdateAnswer | ReadAnswer)
            self.lines.append(f"{_name(target)}: {show_message(message)}{_why(message)}")
        elif host.up and host.incarnation == incarnation:
            host.receive(source, message)
        else:
            self.lines.append(f"{_name(source)} → {target} lost with its connection: {show_message(message)}")


def _why(message: UpdateAnswer | ReadAnswer) -> str:
    text = message.result.message if isinstance(message, UpdateAnswer) else ""
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


# --- files -----------------------------------------------------------------------------------------------------------


def play(text: str, parts: Parts | None = None) -> str:
    """The text of a scenario with what happens now in place of what was expected.

    Raises ScenarioError naming a bad command, AssertionError when an invariant breaks.
    """
    stage = Stage(parts if parts is not None else Parts())
    out: list[str] = []
    expected = False
    for line in text.splitlines():
        if expected:
            expected = bool(line)
            if line:
                continue
        out.append(line)
        if line == "----":
            out += stage.lines
            stage.lines.clear()
            expected = True
        elif line and not line.startswith("#"):
            stage.command(line)
    return "\n".join(out) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check scenario files, or rewrite them."""
    parser = argparse.ArgumentParser(prog="python -m fs3.sim.scenario", description="Play scenario files.")
    parser.add_argument("--rewrite", action="store_true", help="write what happens now in place of what was expected")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    differ = 0
    for path in options.files:
        text = path.read_text()
        now = play(text)
        if now != text:
            differ += 1
            if options.rewrite:
                path.write_text(now)
            sys.stdout.write(f"{path}: {'rewritten' if options.rewrite else 'differs'}\n")
    return 1 if differ and not options.rewrite else 0


if __name__ == "__main__":
    sys.exit(main())
