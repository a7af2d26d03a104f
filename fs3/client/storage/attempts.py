"""IOs that any serving replica can answer, and what each has been through: reads and finds try again elsewhere with this."""

from __future__ import annotations

from collections.abc import Callable, Container

from fs3.base.ids import ChainId, NodeId
from fs3.base.status import Code
from fs3.client.storage.router import ReplicaRouter
from fs3.core.files.replica_selector import Candidates
from fs3.core.files.retry import RetryAction
from fs3.ports.clock import Clock


class _RetryState:
    """One IO whose first try has failed."""

    __slots__ = ("asked_tail", "attempt", "code", "message", "tail_only", "tried")

    def __init__(self) -> None:
        self.attempt = 0
        self.code = Code.OK
        self.message = ""
        self.tried: set[NodeId] = set()
        self.tail_only = False
        self.asked_tail = False


class Attempts:
    """The IOs of one call that have no final answer yet after having been refused, by their index in the call."""

    def __init__(self, router: ReplicaRouter, clock: Clock, deadline: int, chain_of: Callable[[int], ChainId]) -> None:
        self._router = router
        self._clock = clock
        self._deadline = deadline
        self._chain_of = chain_of
        self._attempts: dict[int, _RetryState] = {}

    def __bool__(self) -> bool:
        return bool(self._attempts)

    def __contains__(self, index: int) -> bool:
        return index in self._attempts

    def choose_node(self, index: int, who: Candidates, preferred: Container[NodeId] = ()) -> NodeId | None:
        """Whom to ask about an IO: the table's choice for one that was refused, else one of `preferred` that serves, else whoever
        is cheapest. None when nobody serves."""
        choice = self._router.choice
        state = self._attempts.get(index)
        if state is None:
            for node in who.nodes:
                if node in preferred:
                    return node
            return choice.pick(who, self._clock.now())
        if state.tail_only:
            state.asked_tail = True
            return who.nodes[-1] if who.nodes else None
        now = self._clock.now()
        return choice.pick(who, now, state.tried) or choice.pick(who, now)

    def on_refusal(self, index: int, node: NodeId | None, code: Code, message: str = "") -> None:
        """An IO was refused, or not answered, by a node (None: there was nobody to ask)."""
        state = self._attempts.get(index)
        if state is None:
            state = self._attempts[index] = _RetryState()
        state.attempt += 1
        state.code = code
        state.message = message
        if node is not None:
            state.tried.add(node)

    def on_answer(self, index: int) -> None:
        """An IO has its final answer."""
        self._attempts.pop(index, None)

    async def next_round(self) -> tuple[list[int], list[tuple[int, Code, str]]]:
        """(IOs to try again now, IOs that are given up with code and message), once what the table asks for has been done."""
        again = []
        given_up = []
        todo: set[RetryAction] = set()
        attempt = 1
        for index, state in self._attempts.items():
            others = any(node not in state.tried for node in self._router.candidates(self._chain_of(index)).nodes)
            step = self._router.decide_retry(
                state.code, state.attempt, read=True, repeatable=True, others=others, asked_tail=state.asked_tail
            )
            if step is RetryAction.FAIL:
                given_up.append((index, state.code, state.message))
                continue
            state.tail_only = step is RetryAction.TAIL or (state.asked_tail and state.code is Code.DIRTY)
            if step in (RetryAction.REFRESH, RetryAction.WAIT):
                state.tried.clear()
                state.asked_tail = False
            again.append(index)
            todo.add(step)
            attempt = max(attempt, state.attempt)
        if again and self._clock.now() < self._deadline:
            await self._router.prepare_retry(todo, attempt, self._deadline)
        if self._clock.now() >= self._deadline:
            for index in again:
                state = self._attempts[index]
                message = f"no answer in time; the last one was {state.code.name} {state.message}".rstrip()
                given_up.append((index, Code.DEADLINE, message))
            again = []
        for index, _, _ in given_up:
            del self._attempts[index]
        again.sort()
        return again, given_up
