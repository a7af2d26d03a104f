"""What people ask for about where targets are: drain, forget, replace, remove, rebalance; and what is told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import format_size
from fs3.core.membership.balance import Balance, MoveChoice, full_percent
from fs3.core.membership.lease_health import LeaseHealth
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.moves import ChainEditor, Moves
from fs3.core.membership.node_admission import RequestRejected
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.cluster import DiskSpace
from fs3.model.moves import (
    Departing,
    Move,
    MoveAction,
    MoveOverview,
    MoveProgress,
    MoveReason,
    NodeShare,
    PlanMoves,
    RetiredTarget,
    SetMoves,
)
from fs3.model.routing import Node, Role

moves_per_node_max = 64
moves_planned_max = 4096
"""Moves that one rebalance plans; what is left to do is planned by the next one."""


class MoveRequests:
    """Part of the manager's machine. Requests that cannot be granted raise RequestRejected."""

    def __init__(self, ledger: Ledger, health: LeaseHealth, moves: Moves, editor: ChainEditor) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._health = health
        self._moves = moves
        self._editor = editor

    def plan(self, now: int, request: PlanMoves) -> MoveOverview:
        """Do what is asked for, or tell what would be done."""
        match request.action:
            case MoveAction.REBALANCE:
                return self._rebalance(now, request)
            case MoveAction.DRAIN:
                return self._depart(now, request, MoveReason.DRAIN)
            case MoveAction.REPLACE:
                return self._depart(now, request, MoveReason.REPLACE)
            case MoveAction.FORGET:
                return self._forget(now, request)
            case MoveAction.UNDRAIN:
                return self._undrain(request)
            case MoveAction.REMOVE:
                return self._remove(request)
            case MoveAction.DRAIN_TARGETS:
                return self._drain_targets(now, request)
            case MoveAction.UNDRAIN_TARGETS:
                return self._undrain_targets(request)
            case MoveAction.DRAIN_DISK:
                return self._drain_disk(now, request)
            case MoveAction.UNDRAIN_DISK:
                return self._undrain_disk(request)

    def set(self, request: SetMoves) -> MoveOverview:
        """Change how targets move."""
        settings = self._state.move_settings
        named = {field: value for field in request.__struct_fields__ if (value := getattr(request, field)) is not None}
        per_node = named.get("per_node", settings.per_node)
        if not 1 <= per_node <= moves_per_node_max:
            raise RequestRejected(Code.INVALID, f"{per_node} moves of one node at a time: 1 to {moves_per_node_max}")
        changed = msgspec.structs.replace(settings, **named)
        if changed != settings:
            self._ledger.put_move_settings(changed)
        return self.describe()

    # --- what is asked for -------------------------------------------------------------------------------------------

    def _storage_node(self, name: str) -> Node:
        node = self._find(name)
        if node.role is not Role.STORAGE:
            raise RequestRejected(Code.INVALID, f"node {name!r} is a {node.role.name.lower()} process: it holds no targets")
        return node

    def _find(self, name: str) -> Node:
        for node in self._state.nodes.values():
            if node.name == name:
                return node
        removed = self._state.removed.get(name)
        if removed is not None:
            raise RequestRejected(Code.UNKNOWN_NODE, f"node {name!r} was {_how(was_forgotten=removed.was_forgotten)} already")
        names = ", ".join(sorted(node.name for node in self._state.nodes.values() if node.role is Role.STORAGE))
        raise RequestRejected(Code.UNKNOWN_NODE, f"there is no node {name!r}; storage nodes are {names or 'none'}")

    def _depart(self, now: int, request: PlanMoves, reason: MoveReason) -> MoveOverview:
        node = self._storage_node(request.node)
        departing = Departing(node.id, reason)
        if reason is MoveReason.REPLACE:
            other = self._storage_node(request.other)
            if other.id == node.id:
                raise RequestRejected(Code.INVALID, f"node {node.name!r} cannot replace itself")
            if not self._moves.can_receive(now, other.id):
                raise RequestRejected(Code.BUSY, f"node {other.name!r} takes no targets: {self._why_not(now, other)}")
            departing = Departing(node.id, reason, other.id)
        known = self._state.departing.get(node.id)
        if known == departing:
            return self.describe()
        if known is not None and known.reason is MoveReason.FORGET:
            raise RequestRejected(Code.BUSY, f"node {node.name!r} is being forgotten")
        choices = self._check_places(now, departing)
        if not request.is_dry_run:
            self._ledger.set_departing(node.id, departing)
        return self.describe(choices, departing.reason) if request.is_dry_run else self.describe()

    def _why_not(self, now: int, node: Node) -> str:
        if node.id in self._state.departing:
            return "it is to hold nothing"
        if self._moves.drains.has_no_disk(node.id):
            return "all its disks are drained"
        return "the last target that it was given did not come up" if self._health.is_alive(now, node.id) else "it is not alive"

    def _check_places(self, now: int, departing: Departing) -> list[MoveChoice]:
        """Where everything that a node has would go. NO_SPACE with the numbers when some of it has no place."""
        balance = self._moves.measure(now)
        leaver = balance.nodes[departing.node]
        leaver.takes = False
        choices = self._moves.plan_departure(balance, departing)
        self._check_unplaced(balance, leaver.id, choices)
        return choices

    def _check_unplaced(self, balance: Balance, node: NodeId, choices: Sequence[MoveChoice]) -> None:
        left = balance.unplaced
        if left:
            takers = [other for other in balance.nodes.values() if other.takes and other.id != node]
            room = sum(max(0, other.capacity * full_percent // 100 - other.used) for other in takers)
            largest = max(len(chain.members) for chain in left)
            raise RequestRejected(
                Code.NO_SPACE,
                f"{len(left)} of {len(left) + len(choices)} targets of node {self._state.nodes[node].name!r}, "
                f"{format_size(sum(chain.size for chain in left))}, have no other place: chains have {largest} replicas "
                f"on as many nodes, and {len(takers)} other nodes take targets, with room for {format_size(room)}",
            )

    def _drain_targets(self, now: int, request: PlanMoves) -> MoveOverview:
        """Some targets of a node go elsewhere, as those of a disk that is to be taken out; the node may be given others."""
        node = self._storage_node(request.node)
        chains = self._find_targets(node, request.targets)
        balance = self._moves.measure(now)
        choices: list[MoveChoice] = []
        for target, number in chains.items():
            move = self._state.moves.get(number)
            if move is not None and move.leaver == target:
                continue
            if move is not None and move.joiner:
                raise RequestRejected(
                    Code.BUSY, f"target {move.leaver} of chain {number} is moving: target {target} may when that is over"
                )
            choice = self._moves.plan_target(balance, number, target, node.id)
            if choice is not None:
                choices.append(choice)
        self._check_unplaced(balance, node.id, choices)
        if request.is_dry_run:
            return self.describe(choices, MoveReason.DRAIN)
        for choice in choices:
            self._ledger.set_move(choice.chain, Move(choice.chain, choice.leaver, choice.destination, MoveReason.DRAIN))
        return self.describe()

    def _drain_disk(self, now: int, request: PlanMoves) -> MoveOverview:
        """All targets on one disk of a node go elsewhere, and it is given none any more."""
        node = self._storage_node(request.node)
        drains = self._moves.drains
        if request.disk in drains.paths_of(node.id):
            return self.describe()
        disk = self._find_disk(node, request.disk)
        own = self._editor.targets_of(node.id)
        balance = self._moves.measure(now)
        choices: list[MoveChoice] = []
        for target in sorted(set(disk.targets) & own.keys()):
            move = self._state.moves.get(own[target])
            if move is None or move.leaver != target:
                choice = self._moves.plan_target(balance, own[target], target, node.id)
                if choice is not None:
                    choices.append(choice)
        self._check_unplaced(balance, node.id, choices)
        if request.is_dry_run:
            return self.describe(choices, MoveReason.DRAIN)
        drains.add(node.id, disk.path)
        return self.describe()

    def _find_disk(self, node: Node, path: str) -> DiskSpace:
        disks = self._health.disks(node.id)
        if not disks:
            raise RequestRejected(Code.BUSY, f"node {node.name!r} has not said yet which disks it has")
        disk = next((disk for disk in disks if disk.path == path), None)
        if disk is None:
            has = ", ".join(disk.path for disk in disks)
            raise RequestRejected(Code.NOT_FOUND, f"node {node.name!r} has no disk {path!r}; its disks are {has}")
        if self._editor.targets_of(node.id) and not any(disk.targets for disk in disks):
            runs = self._health.release(node.id)
            software = f", it runs fs3 {runs.software}" if runs is not None and runs.software else ""
            told = f"node {node.name!r} does not say which targets are on its disks{software}: drain them by --target"
            raise RequestRejected(Code.UNSUPPORTED, told)
        return disk

    def _undrain_disk(self, request: PlanMoves) -> MoveOverview:
        node = self._storage_node(request.node)
        drains = self._moves.drains
        paths = drains.paths_of(node.id)
        if request.disk not in paths:
            has = f"; drained are {', '.join(paths)}" if paths else ""
            raise RequestRejected(Code.INVALID, f"disk {request.disk!r} of node {node.name!r} is not being drained{has}")
        stays = {target for disk in drains.disks_of(node.id) if disk.path == request.disk for target in disk.targets}
        for move in list(self._state.moves.values()):
            if not move.joiner and move.leaver in stays and not request.is_dry_run:
                self._moves.drop(move.chain)
        if not request.is_dry_run:
            drains.take_back(node.id, request.disk)
        return self.describe()

    def _undrain_targets(self, request: PlanMoves) -> MoveOverview:
        node = self._storage_node(request.node)
        for target, number in self._find_targets(node, request.targets).items():
            move = self._state.moves.get(number)
            if move is not None and move.leaver == target and not move.joiner and not request.is_dry_run:
                self._moves.drop(number)
        return self.describe()

    def _find_targets(self, node: Node, targets: Sequence[TargetId]) -> dict[TargetId, ChainId]:
        own = self._editor.targets_of(node.id)
        for target in targets:
            if target not in own:
                has = ", ".join(map(str, sorted(own))) or "none"
                raise RequestRejected(Code.NO_SUCH_TARGET, f"node {node.name!r} has no target {target}; its targets are {has}")
        return {target: own[target] for target in targets}

    def _forget(self, now: int, request: PlanMoves) -> MoveOverview:
        node = self._storage_node(request.node)
        if self._health.is_alive(now, node.id):
            raise RequestRejected(Code.BUSY, f"node {node.name!r} is alive: drain it, or stop it and wait for its lease to end")
        lost = self._moves.would_lose([node.id])
        notes = [self._describe_loss(chain, node) for chain in lost]
        damaged = sum(map(self._moves.has_damage, self._chains_of(node)))
        if damaged:
            notes.append(
                f"{damaged} chains of node {node.name!r} have damaged chunks, and it may have the last good copies of them"
            )
        if lost and not request.accept_loss and not request.is_dry_run:
            self._refuse_loss(node, lost)
        departing = Departing(node.id, MoveReason.FORGET)
        if request.is_dry_run:
            balance = self._moves.measure(now)
            return self.describe(self._moves.plan_departure(balance, departing), MoveReason.FORGET, notes)
        for chain in lost:
            self._accept_loss(now, chain, node)
        self._ledger.set_departing(node.id, departing)
        # It is more urgent than what else was planned for these chains.
        for move in list(self._state.moves.values()):
            if not move.joiner and any(slot.node == node.id for slot in self._state.chains[move.chain].slots):
                self._ledger.set_move(move.chain, None)
        return self.describe(notes=notes)

    def _chains_of(self, node: Node) -> list[Chain]:
        return [self._state.chains[number] for number in self._editor.targets_of(node.id).values()]

    def _refuse_loss(self, node: Node, lost: Sequence[Chain]) -> None:
        total = format_size(sum(self._moves.size_of(chain) for chain in lost))
        raise RequestRejected(
            Code.BUSY,
            f"the newest data of {len(lost)} chains, {total}, is on node {node.name!r} only: bring it back, or accept the loss. "
            f"{self._describe_loss(lost[0], node)}",
        )

    def _describe_loss(self, chain: Chain, node: Node) -> str:
        size = format_size(self._moves.size_of(chain))
        others = [slot for slot in chain.slots if slot.node != node.id]
        if not others:
            return f"chain {chain.id}, {size}: everything is lost, it begins empty"
        may = ", ".join(f"target {slot.target} on {self._state.nodes[slot.node].name}" for slot in others)
        way = f"`fs3 admin accept-loss {others[0].target}`"
        return f"chain {chain.id}, {size}: {may} may have older data, and serves it after {way}"

    def _accept_loss(self, now: int, chain: Chain, node: Node) -> None:
        """A chain goes on without the node that has its newest data: with what others have, or empty."""
        gone = [slot for slot in chain.slots if slot.node == node.id]
        slots = [slot for slot in chain.slots if slot.node != node.id]
        if slots and not any(slot.state is PublicState.LASTSRV for slot in slots):
            slots = [msgspec.structs.replace(slot, state=PublicState.LASTSRV) for slot in slots]
        if not slots:
            balance = self._moves.measure(now)
            destination = balance.choose(balance.chains[chain.id], node.id)
            if destination is None:
                raise RequestRejected(Code.NO_SPACE, f"no node can take chain {chain.id}")
            target = TargetId(self._state.counters.target + 1)
            self._ledger.set_counters(target=target)
            slots = [Slot(target, destination.id, PublicState.SERVING)]
        for slot in gone:
            self._ledger.set_retired(slot.target, RetiredTarget(slot.target, slot.node, chain.id))
        self._ledger.set_move(chain.id, None)
        self._editor.change_chain(now, chain, Chain(chain.id, chain.version + 1, tuple(slots)))

    def _undrain(self, request: PlanMoves) -> MoveOverview:
        node = self._storage_node(request.node)
        departing = self._state.departing.get(node.id)
        if departing is None:
            raise RequestRejected(Code.INVALID, f"node {node.name!r} is not being drained")
        if not request.is_dry_run:
            self._ledger.set_departing(node.id, None)
            for move in list(self._state.moves.values()):
                slot = self._state.chains[move.chain].slot(move.leaver)
                if not move.joiner and slot is not None and slot.node == node.id:
                    self._ledger.set_move(move.chain, None)
        return self.describe()

    def _remove(self, request: PlanMoves) -> MoveOverview:
        node = self._find(request.node)
        if self._moves.holds_anything(node.id):
            count = sum(slot.node == node.id for chain in self._state.chains.values() for slot in chain.slots)
            raise RequestRejected(
                Code.BUSY, f"node {node.name!r} has {count} targets: drain it first, or forget it when it is dead"
            )
        if node.alive and node.role is not Role.STORAGE:
            raise RequestRejected(Code.BUSY, f"node {node.name!r} is alive: stop it first")
        if node.alive and node.id not in self._state.departing:
            raise RequestRejected(Code.BUSY, f"node {node.name!r} takes targets: drain it first")
        if not request.is_dry_run:
            self._moves.remove(node, was_forgotten=False)
        return self.describe()

    def _rebalance(self, now: int, request: PlanMoves) -> MoveOverview:
        balance = self._moves.measure(now)
        takers = [node for node in balance.nodes.values() if node.takes]
        used, room = sum(node.used for node in takers), sum(node.capacity for node in takers)
        if room and used * 100 > room * full_percent:
            raise RequestRejected(
                Code.NO_SPACE, f"there is no room to move anything: {format_size(used)} of {format_size(room)} are used"
            )
        for move in self._state.moves.values():
            del balance.chains[move.chain]  # its turn comes with the next rebalance; the nodes have it counted
        choices = _without_detours([*balance.plan_apart(moves_planned_max), *balance.plan_even(moves_planned_max)])
        if request.is_dry_run:
            return self.describe(choices, MoveReason.REBALANCE)
        for choice in choices:
            self._ledger.set_move(choice.chain, Move(choice.chain, choice.leaver, choice.destination, MoveReason.REBALANCE))
        return self.describe()

    # --- what is told ------------------------------------------------------------------------------------------------

    def describe(
        self, planned: Sequence[MoveChoice] | None = None, reason: MoveReason = MoveReason.REBALANCE, notes: Sequence[str] = ()
    ) -> MoveOverview:
        """Everything about moves. `planned`: of a dry run, told in place of the moves there are."""
        state = self._state
        if planned is None:
            told = [self._progress(move) for move in state.moves.values()]
        else:
            told = [
                MoveProgress(Move(each.chain, each.leaver, each.destination, reason), each.source, each.size) for each in planned
            ]
        unplaced = Counter(self._moves.unplaced.values())
        notes = [*notes, *(f"{count} targets of {self._name(node)} have no other place" for node, count in unplaced.items())]
        repairing = sum(self._moves.waits_for_repair(move) for move in state.moves.values())
        if repairing:
            notes.append(f"{repairing} moves wait: the target that is to go may have the last good copies of damaged chunks")
        waiting = sum(self._moves.waits_for_others(move) for move in state.moves.values())
        if waiting:
            notes.append(f"{waiting} moves wait for other targets of their chains to serve again, so that no replica is missing")
        drains = self._moves.drains.describe({node: self._editor.targets_of(node) for node in state.drained_disks})
        departing = tuple(state.departing.values())
        return MoveOverview(state.move_settings, tuple(told), departing, self._shares(), tuple(notes), drains)

    def _name(self, node: int) -> str:
        return next((each.name for each in self._state.nodes.values() if each.id == node), str(node))

    def _progress(self, move: Move) -> MoveProgress:
        chain = self._state.chains[move.chain]
        leaver, joiner, reader = chain.slot(move.leaver), chain.slot(move.joiner), chain.tail()
        source = leaver.node if leaver is not None else move.destination
        joined = self._health.report(joiner.node, joiner.target) if joiner is not None else None
        reads = self._health.report(reader.node, reader.target) if reader is not None else None
        rate = reads.upkeep.resync_bytes_per_second if reads is not None and reads.upkeep.resync_target_id == move.joiner else 0
        return MoveProgress(move, source, self._moves.size_of(chain), joined.used_bytes if joined is not None else 0, rate)

    def _shares(self) -> tuple[NodeShare, ...]:
        state = self._state
        targets = Counter(slot.node for chain in state.chains.values() for slot in chain.slots)
        heads = Counter(head.node for chain in state.chains.values() if (head := chain.head()) is not None)
        return tuple(
            NodeShare(node.id, self._moves.used_by(node.id), self._moves.capacity_of(node.id), targets[node.id], heads[node.id])
            for node in state.nodes.values()
            if node.role is Role.STORAGE
        )


def _without_detours(choices: Sequence[MoveChoice]) -> list[MoveChoice]:
    """One move of each chain: the first."""
    found: dict[int, MoveChoice] = {}
    for choice in choices:
        found.setdefault(choice.chain, choice)
    return list(found.values())


def _how(*, was_forgotten: bool) -> str:
    return "forgotten" if was_forgotten else "removed"
