"""IOs that any serving replica can answer, and what each has been through: reads and finds try again elsewhere with this."""

from __future__ import annotations

from collections.abc import Callable, Container

from fs3.base.ids import ChainId, NodeId
from fs3.base.status import Code
from fs3.client.chunk_routes import ChunkRoutes
from fs3.core.files.retry import Do
from fs3.core.files.target_choice import Candidates
from fs3.ports.clock import Clock


class _Trial:
    """One IO whose first try has failed."""

    __slots__ = ("asked_tail", "attempt", "code", "message", "tail_only", "tried")

    def __init__(self) -> None:
        self.attempt = 0
        self.code = Code.OK
        self.message = ""
        self.tried: set[NodeId] = set()
        self.tail_only = False
        self.asked_tail = False


class Trials:
    """The IOs of one call that have no final answer yet after having been refused, by their index in the call."""

    def __init__(self, routes: ChunkRoutes, clock: Clock, deadline: int, chain_of: Callable[[int], ChainId]) -> None:
        self._routes = routes
        self._clock = clock
        self._deadline = deadline
        self._chain_of = chain_of
        self._trials: dict[int, _Trial] = {}

    def __bool__(self) -> bool:
        return bool(self._trials)

    def __contains__(self, index: int) -> bool:
        return index in self._trials

    def node_for(self, index: int, who: Candidates, preferred: Container[NodeId] = ()) -> NodeId | None:
        """Whom to ask about an IO: the table's choice for one that was refused, else one of `preferred` that serves, else whoever
        is cheapest. None when nobody serves."""
        choice = self._routes.choice
        trial = self._trials.get(index)
        if trial is None:
            for node in who.nodes:
                if node in preferred:
                    return node
            return choice.pick(who, self._clock.now())
        if trial.tail_only:
            trial.asked_tail = True
            return who.nodes[-1] if who.nodes else None
        now = self._clock.now()
        return choice.pick(who, now, trial.tried) or choice.pick(who, now)

    def refused(self, index: int, node: NodeId | None, code: Code, message: str = "") -> None:
        """An IO was refused, or not answered, by a node (None: there was nobody to ask)."""
        trial = self._trials.get(index)
        if trial is None:
            trial = self._trials[index] = _Trial()
        trial.attempt += 1
        trial.code = code
        trial.message = message
        if node is not None:
            trial.tried.add(node)

    def settled(self, index: int) -> None:
        """An IO has its final answer."""
        self._trials.pop(index, None)

    async def next_round(self) -> tuple[list[int], list[tuple[int, Code, str]]]:
        """(IOs to try again now, IOs that are given up with code and message), once what the table asks for has been done."""
        again = []
        given_up = []
        todo: set[Do] = set()
        attempt = 1
        for index, trial in self._trials.items():
            others = any(node not in trial.tried for node in self._routes.candidates(self._chain_of(index)).nodes)
            step = self._routes.decide(
                trial.code, trial.attempt, read=True, repeatable=True, others=others, asked_tail=trial.asked_tail
            )
            if step is Do.FAIL:
                given_up.append((index, trial.code, trial.message))
                continue
            trial.tail_only = step is Do.TAIL or (trial.asked_tail and trial.code is Code.DIRTY)
            if step in (Do.REFRESH, Do.WAIT):
                trial.tried.clear()
                trial.asked_tail = False
            again.append(index)
            todo.add(step)
            attempt = max(attempt, trial.attempt)
        if again and self._clock.now() < self._deadline:
            await self._routes.prepare(todo, attempt, self._deadline)
        if self._clock.now() >= self._deadline:
            for index in again:
                trial = self._trials[index]
                message = f"no answer in time; the last one was {trial.code.name} {trial.message}".rstrip()
                given_up.append((index, Code.DEADLINE, message))
            again = []
        for index, _, _ in given_up:
            del self._trials[index]
        again.sort()
        return again, given_up
