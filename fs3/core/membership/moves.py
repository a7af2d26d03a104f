"""Targets that move from one node to another while their chain is in use.

Intuition: a move makes a chain longer before it makes it shorter. A new, empty target joins at the end and is brought up to date
like any other that came back; once it serves, the one whose place it takes leaves. So at no time are there fewer replicas than
before.

    begun        the joiner is in the chain, OFFLINE; its node makes an empty store, and the public-state table does the rest
    complete     the joiner serves. The leaver is asked to leave, as a target with a broken link is: it says itself that it serves
                 no more (nothing is taken from a target whose lease runs)
    finished     the leaver does not serve any more, and the chain is known to go on without it (`departures`): its slot goes, and
                 its node deletes what it has

Where a chunk is damaged on those that serve, the leaver may have its last good copy: it stays, also while it is away, until the
others have repaired theirs.

A leaver that serves is only asked when without it no fewer targets serve than when the move began. A joiner whose node dies, or
whose disk does not work or is full, is given up, and another node is chosen; with such a disk it gets none for a while
(`move_backoff`).

Why something moves is stored apart from the moves: a node that is to hold nothing (`Departing`) gets moves for what it has, again
and again, until it has nothing; so does one of its disks (`disk_drains`). Everything is a row of the manager's store, so the next
manager goes on.

Limits: one move of each chain at a time, and `MoveSettings.per_node` from and to each node. How fast bytes travel is the business
of the storage nodes, which bring targets up to date beside what clients ask for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol

import msgspec

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.limits import repair_retry_max_ns
from fs3.base.units import MIB, SECOND
from fs3.core.membership.balance import Balance, ChainLoad, MoveChoice, NodeLoad
from fs3.core.membership.disk_drains import DiskDrains
from fs3.core.membership.lease_health import LeaseHealth
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.move_backoff import MoveBackoff
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.moves import Departing, Move, MoveReason, RemovedNode, RetiredTarget
from fs3.model.routing import Node, Role

joiner_patience_ns = 60 * SECOND
"""A joiner that is dead or does not work for so long is given up; a process that is started again is back sooner."""
damage_stands_ns = 2 * repair_retry_max_ns
"""Damage that was as it is for so long, while all targets of a move were there to repair it from, is there to stay."""
plan_again_ns = 5 * SECOND
"""After which the manager looks again for a node that takes what none could take."""
_EMPTY_BYTES = MIB
"""What a target counts for beside its chunks, so that empty ones are spread as well."""


class _Damage(NamedTuple):
    """Of a chain."""

    blocks: tuple[int, ...]
    """How many each of its targets has, as reported."""
    since: int
    """When that was seen first."""
    stands: bool
    """For `damage_stands_ns` by now."""


class ChainEditor(Protocol):
    """The manager, as far as moves need it."""

    def change_chain(self, now: int, before: Chain, after: Chain) -> None:
        """A chain goes on under another version."""
        ...

    def remove_node(self, node: Node, removed: RemovedNode) -> None:
        """A node is not one of the cluster any more."""
        ...

    def goes_on(self, chain: ChainId) -> bool:
        """Whether those that serve a chain are known to have heard who left it. False: they may have died before that."""
        ...

    def targets_of(self, node: NodeId) -> Mapping[TargetId, ChainId]:
        """The targets of a node, and the chain of each."""
        ...


class Moves:
    """Part of the manager's machine; what it changes is in the ledger."""

    def __init__(self, ledger: Ledger, health: LeaseHealth, editor: ChainEditor) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._health = health
        self._editor = editor
        self.drains = DiskDrains(ledger, health)
        self._silent_since: dict[NodeId, int] = {}
        """Storage nodes that are not alive, and since when this manager knows."""
        self._offline_since: dict[TargetId, int] = {}
        """Joiners that are OFFLINE, and since when."""
        self._backoff = MoveBackoff()
        self._damage: dict[ChainId, _Damage] = {}
        """Of chains of which a target moves, as long as there is some."""
        self._place_at: dict[ChainId, int] = {}
        """Moves of single targets that no node could take, and when to look again."""
        self._plan_at = 0
        """When to look again at what could not be placed."""
        self._balance: Balance | None = None
        """Measured in this step, for moves that need another destination."""
        self.unplaced: dict[ChainId, NodeId] = {}
        """Chains with a replica on a node that is to hold nothing, which no other node can take."""

    # --- the machine -------------------------------------------------------------------------------------------------

    def advance(self, now: int) -> None:
        """Begin, go on with and finish what can be."""
        self._note_silence(now)
        state = self._state
        if not (state.moves or state.departing or state.drained_disks):
            return
        self._balance = None
        for number in [number for number in self._damage if number not in state.moves]:
            del self._damage[number]
        self._remove_empty()
        self._plan_departing(now)
        busy = Counter(node for move in state.moves.values() if move.joiner for node in self._nodes_of(move))
        for move in list(state.moves.values()):
            if move.joiner:
                self._go_on(now, move)
            else:
                self._begin(now, move, busy)

    def finish(self, now: int, number: ChainId) -> None:
        """Retire the leaver of a chain when it has left."""
        move = self._state.moves.get(number)
        if move is not None and move.joiner:
            chain = self._state.chains[number]
            leaver = chain.slot(move.leaver)
            if leaver is not None and leaver.state is not PublicState.SERVING and _serves(chain, move.joiner):
                self._go_on(now, move)

    def drop(self, number: ChainId) -> None:
        """A move that has not begun is not to be made."""
        self._place_at.pop(number, None)
        self.unplaced.pop(number, None)
        self._ledger.set_move(number, None)

    def on_left_alone(self) -> None:
        """Chains are left as they are for now: no node is listened for here."""
        self._silent_since.clear()
        self._offline_since.clear()

    def on_process_paused(self, since: int, now: int) -> None:
        """The manager did nothing from `since` to `now`: that it heard no node then says nothing."""
        for node, silent in self._silent_since.items():
            self._silent_since[node] = silent + now - max(silent, since)
        for target, offline in self._offline_since.items():
            self._offline_since[target] = offline + now - max(offline, since)

    def leavers(self, own: Mapping[TargetId, ChainId]) -> list[tuple[TargetId, Chain]]:
        """Which of a node's targets are to leave their chains, because another one serves in their place."""
        found = []
        for target, number in own.items() if self._state.moves else ():
            move = self._state.moves.get(number)
            if move is not None and move.leaver == target and move.joiner:
                chain = self._state.chains[number]
                if _serves(chain, target) and self.may_leave(chain, move):
                    found.append((target, chain))
        return found

    def may_leave(self, chain: Chain, move: Move) -> bool:
        """The joiner serves, and without the leaver no fewer targets serve than when the move began, and no good copy is lost."""
        others = sum(slot.target != move.leaver for slot in chain.serving_slots())
        return _serves(chain, move.joiner) and others >= max(1, move.serving) and self._is_spare(chain, move)

    def waits_for_others(self, move: Move) -> bool:
        """The joiner serves, and the leaver stays because too few others do."""
        chain = self._state.chains[move.chain]
        stays = _serves(chain, move.joiner) and _serves(chain, move.leaver) and not self.may_leave(chain, move)
        return stays and self._is_spare(chain, move)

    def waits_for_repair(self, move: Move) -> bool:
        """The joiner serves, and the leaver stays because it may have the last good copy of a damaged chunk."""
        chain = self._state.chains[move.chain]
        return _serves(chain, move.joiner) and not self._is_spare(chain, move)

    def _is_spare(self, chain: Chain, move: Move) -> bool:
        """No target that serves lacks the good copy of a chunk that the leaver may have. What is damaged on the leaver as well,
        and was not repaired for long, is lost, and nothing to wait for; nor is a node that does not come back."""
        leaver = chain.slot(move.leaver)
        if leaver is None or self._is_forgotten(leaver):
            return True
        most = 0
        damage = self._damage.get(move.chain)
        # Until then the leaver may be damaged in other chunks than they are: each has what the other lacks.
        if damage is not None and damage.stands:
            own = self._health.report(leaver.node, leaver.target)
            most = own.upkeep.bad_blocks if own is not None else 0
        reports = [self._health.report(slot.node, slot.target) for slot in chain.serving_slots() if slot.target != move.leaver]
        return all(report is not None and report.upkeep.bad_blocks <= most for report in reports)

    def _note_damage(self, now: int, chain: Chain, move: Move) -> None:
        reports = [self._health.report(slot.node, slot.target) for slot in chain.slots]
        blocks = tuple(report.upkeep.bad_blocks if report is not None else 0 for report in reports)
        known = self._damage.get(chain.id)
        if not any(blocks):
            self._damage.pop(chain.id, None)
        elif known is None or known.blocks != blocks or not self._is_there(now, chain.slot(move.leaver)):
            self._damage[chain.id] = _Damage(blocks, now, stands=False)
        elif now - known.since >= damage_stands_ns:
            self._damage[chain.id] = known._replace(stands=True)

    def _is_there(self, now: int, slot: Slot | None) -> bool:
        return slot is not None and slot.node in self._state.nodes and self._health.is_alive(now, slot.node)

    def _begin(self, now: int, move: Move, busy: Counter[NodeId]) -> None:
        state, chain = self._state, self._state.chains[move.chain]
        if chain.slot(move.leaver) is None:
            self._ledger.set_move(move.chain, None)
            return
        if state.move_settings.is_paused or not chain.serving_slots():
            return
        if now < self._place_at.get(move.chain, 0):
            return
        if not self.can_receive(now, move.destination) or any(slot.node == move.destination for slot in chain.slots):
            self._choose_again(now, move)
            return
        self._place_at.pop(move.chain, None)
        self.unplaced.pop(move.chain, None)
        involved = self._nodes_of(move)
        if any(busy[node] >= state.move_settings.per_node for node in involved):
            return
        busy.update(involved)
        joiner = TargetId(state.counters.target + 1)
        self._ledger.set_counters(target=joiner)
        serving = len(chain.serving_slots())
        self._ledger.set_move(move.chain, msgspec.structs.replace(move, joiner=joiner, serving=serving))
        slots = (*chain.slots, Slot(joiner, move.destination, PublicState.OFFLINE))
        self._editor.change_chain(now, chain, Chain(chain.id, chain.version + 1, slots))

    def _go_on(self, now: int, move: Move) -> None:
        chain = self._state.chains[move.chain]
        self._note_damage(now, chain, move)
        joiner, leaver = chain.slot(move.joiner), chain.slot(move.leaver)
        if joiner is None or joiner.state is not PublicState.OFFLINE:
            self._offline_since.pop(move.joiner, None)
        if joiner is not None and joiner.state is PublicState.SERVING:
            self._backoff.on_joined(joiner.node)
        if joiner is None or leaver is None:
            self._ledger.set_move(move.chain, None)
        elif joiner.state is not PublicState.SERVING:
            # One that served last may have what no other target has: the chain waits for it, as for any other.
            if joiner.state is not PublicState.LASTSRV and self._is_hopeless(now, joiner):
                self._offline_since.pop(joiner.target, None)
                if joiner.node in self._state.nodes and self._health.is_alive(now, joiner.node):
                    self._backoff.on_given_up(now, joiner.node)
                    self._balance = None
                self._choose_again(now, msgspec.structs.replace(move, joiner=TargetId(0)))
                self._retire(now, chain, joiner)
        elif leaver.state is not PublicState.SERVING:
            if self._editor.goes_on(move.chain) and self._is_spare(chain, move):
                self._ledger.set_move(move.chain, None)
                self._retire(now, chain, leaver)
        elif not self.may_leave(chain, move):
            self._go_on_for_forgotten(now, chain, move)

    def _go_on_for_forgotten(self, now: int, chain: Chain, move: Move) -> None:
        """A target of the chain has died meanwhile, for good: the joiner takes its place, and the leaver moves later."""
        for slot in chain.slots:
            if self._is_forgotten(slot) and not chain.is_live(slot.target) and slot.state is not PublicState.LASTSRV:
                self._ledger.set_move(move.chain, None)
                self._retire(now, chain, slot)
                return

    def _is_forgotten(self, slot: Slot) -> bool:
        departing = self._state.departing.get(slot.node)
        return slot.node not in self._state.nodes or (departing is not None and departing.reason is MoveReason.FORGET)

    def _retire(self, now: int, chain: Chain, gone: Slot) -> None:
        """A target that does not serve is no member of its chain any more."""
        slots = tuple(slot for slot in chain.slots if slot.target != gone.target)
        self._ledger.set_retired(gone.target, RetiredTarget(gone.target, gone.node, chain.id))
        self._editor.change_chain(now, chain, Chain(chain.id, chain.version + 1, slots))

    def _choose_again(self, now: int, move: Move) -> None:
        """The destination cannot take it: another one, or no move, until one is planned again. A target that is drained by itself
        keeps its move, since it would not be."""
        balance = self._balance = self._balance or self.measure(now)
        members = tuple((slot.target, slot.node) for slot in self._state.chains[move.chain].slots)
        chain = replace(balance.chains[move.chain], members=members)
        source = next(node for target, node in members if target == move.leaver)
        destination = balance.choose(chain, source)
        if destination is not None:
            balance.take(chain, move.leaver, source, destination)
            move = msgspec.structs.replace(move, destination=destination.id)
        elif move.reason is MoveReason.DRAIN and source not in self._state.departing:
            self.unplaced[move.chain] = source
            self._place_at[move.chain] = now + plan_again_ns
        else:
            self._ledger.set_move(move.chain, None)
            return
        self._ledger.set_move(move.chain, move)

    def _nodes_of(self, move: Move) -> tuple[NodeId, ...]:
        """The nodes that read and write for a move."""
        reader = self._state.chains[move.chain].tail()
        return (move.destination,) if reader is None else (move.destination, reader.node)

    # --- nodes that are to hold nothing ------------------------------------------------------------------------------

    def can_receive(self, now: int, node: NodeId) -> bool:
        """Whether a node may be given targets: a storage node that is alive, is not to hold nothing, and took the last ones."""
        known = self._state.nodes.get(node)
        return (
            known is not None
            and known.role is Role.STORAGE
            and node not in self._state.departing
            and self._health.is_alive(now, node)
            and not self._backoff.rests(now, node)
            and not self.drains.has_no_disk(node)
        )

    def _is_hopeless(self, now: int, joiner: Slot) -> bool:
        if joiner.node not in self._state.nodes or joiner.node in self._state.departing:
            return True
        if joiner.state is PublicState.OFFLINE:
            offline = self._offline_since.setdefault(joiner.target, now)
            if now - offline >= joiner_patience_ns:
                return True
        silent = self._silent_since.get(joiner.node)
        return silent is not None and now - silent >= joiner_patience_ns

    def _note_silence(self, now: int) -> None:
        """Who is not heard; and who was not heard for so long that it is forgotten."""
        state, after = self._state, self._state.move_settings.forget_after_ns
        nodes = [node for node in state.nodes.values() if node.role is Role.STORAGE]
        for node in nodes:
            if node.alive:
                self._silent_since.pop(node.id, None)
            else:
                self._silent_since.setdefault(node.id, now)
        if not after or 2 * len(self._silent_since) > len(nodes):
            return  # when most are not heard, it is more likely that the manager hears nothing
        for number, since in list(self._silent_since.items()):
            if number not in state.nodes:
                del self._silent_since[number]
            elif now - since >= after and number not in state.departing and not self._may_lose(number):
                self._ledger.set_departing(number, Departing(number, MoveReason.FORGET))

    def _may_lose(self, node: NodeId) -> bool:
        """Whether a node that is dead may have what no other node has: the newest data of a chain, or the last good copy of a
        chunk."""
        chains = (self._state.chains[number] for number in self._editor.targets_of(node).values())
        return bool(self.would_lose([node])) or any(map(self.has_damage, chains))

    def has_damage(self, chain: Chain) -> bool:
        """A target that serves has a chunk without a good copy, or has not said yet that it has none."""
        reports = (self._health.report(slot.node, slot.target) for slot in chain.serving_slots())
        return any(report is None or report.upkeep.bad_blocks for report in reports)

    def would_lose(self, nodes: Iterable[NodeId]) -> list[Chain]:
        """Chains of which no target on another node than these serves."""
        gone = set(nodes)
        return [
            chain
            for chain in self._state.chains.values()
            if any(slot.node in gone for slot in chain.slots) and not any(slot.node not in gone for slot in chain.serving_slots())
        ]

    def _plan_departing(self, now: int) -> None:
        """Moves for everything that nodes have which are to hold nothing. What is forgotten comes first."""
        state = self._state
        waiting = {
            node
            for node in state.departing
            for chain in self._editor.targets_of(node).values()
            if chain not in state.moves and (chain not in self.unplaced or now >= self._plan_at)
        }
        on_disks = self._waiting_on_disks(now)
        if not waiting and not on_disks:
            return
        self._plan_at = now + plan_again_ns
        self.unplaced.clear()
        balance = self.measure(now)
        for number in sorted(waiting, key=lambda node: (state.departing[node].reason is not MoveReason.FORGET, node)):
            departing = state.departing[number]
            for choice in self.plan_departure(balance, departing):
                if choice.chain not in state.moves:
                    self._ledger.set_move(choice.chain, Move(choice.chain, choice.leaver, choice.destination, departing.reason))
        for target, chain, node in on_disks:
            if chain not in state.moves:
                destined = self.plan_target(balance, chain, target, node)
                if destined is None:
                    self.unplaced[chain] = node
                else:
                    self._ledger.set_move(chain, Move(chain, target, destined.destination, MoveReason.DRAIN))

    def _waiting_on_disks(self, now: int) -> list[tuple[TargetId, ChainId, NodeId]]:
        """Targets on disks that are to hold nothing, of chains of which nothing moves. A node that is to hold nothing has its own
        moves."""
        state = self._state
        return [
            (target, number, node)
            for node in state.drained_disks
            if node not in state.departing
            for target in sorted(self.drains.targets_of(node))
            if (number := self._editor.targets_of(node).get(target)) is not None
            and number not in state.moves
            and (number not in self.unplaced or now >= self._plan_at)
        ]

    def plan_target(self, balance: Balance, number: ChainId, target: TargetId, source: NodeId) -> MoveChoice | None:
        """Where one target should go; None: no node can take it, and it is `balance.unplaced`. What is planned and not begun of
        its chain gives way to it."""
        members = tuple((slot.target, slot.node) for slot in self._state.chains[number].slots)
        chain = replace(balance.chains[number], members=members)
        destination = balance.choose(chain, source)
        if destination is None:
            balance.unplaced.append(chain)
            return None
        return balance.take(chain, target, source, destination)

    def plan_departure(self, balance: Balance, departing: Departing) -> list[MoveChoice]:
        """Where everything that a node has should go; what no node can take is `unplaced`."""
        balance.unplaced.clear()
        choices = balance.plan_evacuation(departing.node, (departing.onto,) if departing.onto else ())
        if departing.onto and balance.unplaced:
            # The one that takes its place has a replica of these already.
            balance.unplaced.clear()
            left = {choice.chain for choice in choices}
            choices += [choice for choice in balance.plan_evacuation(departing.node) if choice.chain not in left]
        self.unplaced.update((chain.id, departing.node) for chain in balance.unplaced)
        return choices

    def _remove_empty(self) -> None:
        """Nodes that were forgotten, and of which nothing is missing any more."""
        for departing in list(self._state.departing.values()):
            node = self._state.nodes.get(departing.node)
            if node is None:
                self._ledger.set_departing(departing.node, None)
            elif departing.reason is MoveReason.FORGET and not self.holds_anything(departing.node):
                self.remove(node, was_forgotten=True)

    def holds_anything(self, node: NodeId) -> bool:
        """Whether a chain has a target on a node."""
        return bool(self._editor.targets_of(node))

    def remove(self, node: Node, *, was_forgotten: bool) -> None:
        """A node that holds nothing is not one of the cluster any more."""
        self._ledger.set_departing(node.id, None)
        for retired in list(self._state.retired.values()):
            if retired.node == node.id:
                self._ledger.set_retired(retired.target, None)
        self.drains.forget(node.id)
        self._silent_since.pop(node.id, None)
        self._backoff.forget(node.id)
        self._editor.remove_node(node, RemovedNode(node.name, node.id, was_forgotten))

    # --- sizes -------------------------------------------------------------------------------------------------------

    def size_of(self, chain: Chain) -> int:
        """Bytes that a replica of a chain has, as far as was reported."""
        reports = (self._health.report(slot.node, slot.target) for slot in chain.slots if slot.node in self._state.nodes)
        return max((report.used_bytes for report in reports if report is not None), default=0)

    def capacity_of(self, node: NodeId) -> int:
        """Bytes that the targets of a node could have, but for disks that are to hold nothing; 0: it has said nothing yet."""
        free, leaving = self.drains.free_bytes(node), self.drains.targets_of(node)
        stays = sum(report.used_bytes for report in self._health.reports(node) if report.target not in leaving)
        return free + stays if free else 0

    def used_by(self, node: NodeId) -> int:
        """Bytes of the targets of a node, as it has reported them."""
        return sum(report.used_bytes for report in self._health.reports(node))

    def measure(self, now: int) -> Balance:
        """Nodes and chains as they will be when all moves are finished."""
        state = self._state
        nodes = {
            node.id: NodeLoad(node.id, node.domain, self.capacity_of(node.id), self.can_receive(now, node.id))
            for node in state.nodes.values()
            if node.role is Role.STORAGE
        }
        chains = {}
        for chain in state.chains.values():
            move = state.moves.get(chain.id)
            members = [(slot.target, slot.node) for slot in chain.slots]
            if move is not None:
                destination = [] if move.joiner else [(TargetId(0), move.destination)]
                members = [(target, node) for target, node in members if target != move.leaver] + destination
            reader = chain.tail()
            chains[chain.id] = ChainLoad(
                chain.id, tuple(members), self.size_of(chain) + _EMPTY_BYTES, reader.node if reader else None
            )
        return Balance(nodes, chains)


def _serves(chain: Chain, target: TargetId) -> bool:
    slot = chain.slot(target)
    return slot is not None and slot.state is PublicState.SERVING
