"""IOs that were not answered for good, and what each has been through: reads, finds and updates try again with this."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from fs3.base.ids import ChainId, NodeId
from fs3.base.status import Code
from fs3.client.storage.router import ReplicaRouter
from fs3.core.files.replica_selector import Candidates
from fs3.core.files.retry import RetryAction
from fs3.model.trace import RETRY_WAIT
from fs3.ports.clock import Clock
from fs3.runtime.tracing import timed_part


class _RetryState:
    """One IO whose first try has failed."""

    __slots__ = ("asked_tail", "attempt", "chain", "code", "damaged", "message", "repeatable", "tail_only", "tried")

    def __init__(self, chain: ChainId, repeatable: bool) -> None:
        self.chain = chain
        self.repeatable = repeatable
        self.attempt = 0
        self.code = Code.OK
        self.message = ""
        self.tried: set[NodeId] = set()
        self.damaged: set[NodeId] = set()
        """Those that said of their own copies that they are damaged."""
        self.tail_only = False
        self.asked_tail = False


GivenUp = tuple[int, Code, str]
"""(IO, code, message)."""


class RetryRound(NamedTuple):
    """What becomes of the IOs that were refused."""

    again: list[int]
    """To be tried again now, in order."""
    refused: list[GivenUp]
    """Given up: the refusal stands."""
    expired: list[GivenUp]
    """Given up: the deadline has come (DEADLINE, with the last refusal in the message)."""
    attempt: int
    """Of those that are tried again, the number of the attempt that comes; the highest."""
    damaged: frozenset[int]
    """Of the refused: those of which every replica of the chain, serving or not, has said that its own copy is damaged."""


class Attempts:
    """The IOs of one call that have no final answer yet after having been refused, by their index in the call."""

    def __init__(self, router: ReplicaRouter, clock: Clock, deadline: int, *, read: bool) -> None:
        """`read`: every serving replica can answer; an update only the head."""
        self._router = router
        self._clock = clock
        self._deadline = deadline
        self._read = read
        self._states: dict[int, _RetryState] = {}

    def __bool__(self) -> bool:
        return bool(self._states)

    def __contains__(self, index: int) -> bool:
        return index in self._states

    def choose_node(self, index: int, replicas: Candidates, preferred: Container[NodeId] = ()) -> NodeId | None:
        """Which replica to ask about a read: the table's choice for one that was refused, else one of `preferred` that serves,
        else the cheapest. None when none serves."""
        choice = self._router.choice
        state = self._states.get(index)
        if state is None:
            for node in replicas.nodes:
                if node in preferred:
                    return node
            return choice.pick(replicas, self._clock.now())
        if state.tail_only:
            state.asked_tail = True
            return replicas.nodes[-1] if replicas.nodes else None
        now = self._clock.now()
        return choice.pick(replicas, now, state.tried) or choice.pick(replicas, now)

    def on_refusal(
        self,
        index: int,
        chain: ChainId,
        node: NodeId | None,
        code: Code,
        message: str = "",
        *,
        repeatable: bool = True,
        is_damaged: bool = False,
    ) -> None:
        """An IO was refused, or not answered, by a node (None: none serves its chain). `is_damaged`: the node has said so of its
        copy; bytes that arrive with wrong checksums do not say that."""
        state = self._states.get(index)
        if state is None:
            state = self._states[index] = _RetryState(chain, repeatable)
        state.attempt += 1
        state.code = code
        state.message = message
        if node is not None:
            state.tried.add(node)
            if is_damaged:
                state.damaged.add(node)

    def on_answer(self, index: int) -> None:
        """An IO has its final answer."""
        self._states.pop(index, None)

    async def next_round(self) -> RetryRound:
        """What becomes of the IOs that were refused, once what the retry table asks for has been done."""
        again: list[int] = []
        refused: list[GivenUp] = []
        expired: list[GivenUp] = []
        damaged: set[int] = set()
        todo: set[RetryAction] = set()
        attempt = 1
        for index, state in self._states.items():
            step = self._router.decide_retry(
                state.code,
                state.attempt,
                read=self._read,
                repeatable=state.repeatable,
                others=self._read and any(node not in state.tried for node in self._router.candidates(state.chain).nodes),
                asked_tail=state.asked_tail,
            )
            if step is RetryAction.FAIL:
                refused.append((index, state.code, state.message))
                if state.damaged and state.damaged.issuperset(self._router.members(state.chain)):
                    damaged.add(index)
                continue
            state.tail_only = step is RetryAction.TAIL or (state.asked_tail and state.code is Code.DIRTY)
            if step in (RetryAction.REFRESH, RetryAction.WAIT):
                state.tried.clear()
                state.asked_tail = False
            again.append(index)
            todo.add(step)
            attempt = max(attempt, state.attempt)
        if again and self._clock.now() < self._deadline:
            with timed_part(RETRY_WAIT):
                await self._router.prepare_retry(todo, attempt, self._deadline)
        if self._clock.now() >= self._deadline:
            for index in again:
                state = self._states[index]
                message = f"no answer in time; the last one was {state.code.name} {state.message}".rstrip()
                expired.append((index, Code.DEADLINE, message))
            again = []
        for index, _, _ in (*refused, *expired):
            del self._states[index]
        again.sort()
        return RetryRound(again, refused, expired, attempt + 1, frozenset(damaged))
