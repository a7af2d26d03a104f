"""Talking to the metadata services: find one, ask, ask again or another one when that can help.

Every request may be sent again, to the same service or to another one on the same store: reads have no effect, and a change
carries a number under which its first result is remembered. So a request ends in one of three ways: with its answer, with an
error that asking again would not change, or at its deadline.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error, error
from fs3.base.ids import ROOT_INODE, ClientId, InodeId, SessionId, reader_session
from fs3.base.limits import (
    attempt_timeout_ns,
    call_timeout_ns,
    meta_read_hedge_ns,
    retry_backoff_max_ns,
    retry_backoff_min_ns,
    session_keepalive_ns,
)
from fs3.base.prng import Prng
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.meta.batching import is_retryable, split_paths
from fs3.client.meta.direct_requests import DirectRequests
from fs3.client.meta.hedged_request import HedgedRequest
from fs3.client.meta.keepalive import OnReturn, SessionKeepAlive
from fs3.client.meta.owners import Directory, directory_of, session_of
from fs3.client.meta.readers import Readers
from fs3.client.meta.remembered import RememberedAttributes
from fs3.client.meta.selector import MetaSelector
from fs3.client.routing import RoutingSource
from fs3.client.security.capabilities import Capabilities
from fs3.model.inode import Inode, User
from fs3.model.method import Method
from fs3.model.namespace import Entry, OpenResult, PathRef
from fs3.model.remembered import REMEMBERED
from fs3.model.requests import BatchStat, Close, KeepAlive, List, Request, Truncate
from fs3.model.trace import RETRY_WAIT
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.runtime.tasks import TaskSet
from fs3.runtime.tracing import timed_part
from fs3.wire.meta import caller_to_pb, mark_repeated
from fs3.wire.meta_batch import batch_end, batch_reply_from_pb, batch_to_pb, item_to_pb
from fs3.wire.meta_verbs import Verb, verb_of
from fs3.wire.methods import META

log = logging.getLogger("fs3.client")

batch_stats_at_once_max = 4
"""Pieces of one batch that a client has under way."""

R = TypeVar("R")

OnAnswer = Callable[[R | None, FS3Error | None], None]
"""What came of a request: its answer, or why there is none."""
Answers = list[Any]
Stats = list[Inode | FS3Error]


class MetaClient:
    """The namespace for one user of one client; `as_user` for the others. Belongs to one event loop; any number of calls may be
    under way at once.

    `await meta.ask(Rename(source, target))`: see `fs3.model.requests` for what there is to ask. Requests that change something
    are numbered, so that one that is sent again has no second effect.

    Every method raises the FS3Error of its code with the path as `filename`; after `call_timeout_ns` DeadlineExceeded, when a
    change may have happened, else the last reason.
    """

    def __init__(
        self,
        routing: RoutingSource,
        connector: Connector,
        clock: Clock,
        client_id: ClientId,
        user: User,
        *,
        timeout_ns: int = call_timeout_ns,
        seqs: Iterator[int] | None = None,
    ) -> None:
        """`client_id`: 16 random bytes, never used by another object at the same time. `seqs`: numbers of its requests, rising,
        none of which was used with it before; None: those from 1 on."""
        self._routing = routing
        self._clock = clock
        self._caller = caller_to_pb(client_id, user)
        self.user = user
        """Whom the services check permissions for."""
        self._timeout_ns = timeout_ns
        self._prng = Prng(int.from_bytes(client_id[:8], "big"))
        self.seqs = seqs or itertools.count(1)
        """Numbers for requests that change something."""
        self._is_view = False
        self._tasks = TaskSet()
        """Of requests that were submitted, and are asked anew."""
        self._opened_in: dict[SessionId, Directory] = {}
        """Open write sessions, where directories have owners."""
        self._sessions = SessionKeepAlive(clock, self._keep_alive)
        self.readers = Readers(self, reader_session(client_id), self._sessions.on_open)
        """What this client has open for reading."""
        self._sessions.on_return = self.readers.on_return
        self.remembered: RememberedAttributes | None = None
        """Attributes that need not be asked for; None: all are. See `remember_attributes`."""
        self.capabilities: Capabilities | None = None
        """Where those are kept that services answer with; None: in a cluster without security. To be set before there are views
        of other users."""
        self._nodes = MetaSelector(routing, connector, clock, int.from_bytes(client_id[8:12], "big"))
        self._direct = DirectRequests(self._nodes, connector, clock, self._caller)

    def as_user(self, user: User) -> MetaClient:
        """This client, asking for another user. To the services it is the same client: connections, numbers of requests, write
        sessions and their keep-alive are shared, so any user may close what another one has opened. Only a batch is one user's.
        It ends when this client is closed. Raises InvalidArgument for more than `groups_max` supplementary groups."""
        view = copy.copy(self)
        view._caller = caller_to_pb(ClientId(self._caller.client_id), user)
        view.user = user
        view._direct = self._direct.with_caller(view._caller)
        view._is_view = True
        return view

    def on_return(self, call: OnReturn) -> None:
        """`call` is called when a service has heard of this client again, after so long a silence that its open write sessions
        may have been ended."""

        def on_return() -> None:
            self.readers.on_return()
            call()

        self._sessions.on_return = on_return

    async def close(self) -> None:
        """Say no more that this client lives. Sessions that are open are left to the services, which end them after a while. A
        view of another user (`as_user`) is closed with the client that it is of, and not before."""
        if self._is_view:
            return
        self._direct.close()
        await self._tasks.cancel()
        if self.remembered is not None:
            await self.remembered.stop()
        await self.readers.stop()
        await self._sessions.stop()

    def remember_attributes(self) -> None:
        """From now on attributes and names are remembered for as long as the service promises to tell of changes. To be called
        before there are views of other users."""
        self.remembered = RememberedAttributes(self._clock, lambda question, deadline: self.ask(question, deadline=deadline))
        self.remembered.start()

    def hold_locks(self, held: bool) -> None:
        """This client holds or wants locks, or no longer does: while it does it says now and then that it lives."""
        self._sessions.hold_locks(held)

    def keep_session(self, session: SessionId) -> None:
        """A write session of this client was opened by an earlier process of it."""
        self._sessions.on_open(session)

    def draw_seq(self) -> int:
        """A number for a request that changes something: see `ask`."""
        return self._next_seq()

    # --- verbs --------------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        """Of this client."""
        return self._clock

    async def ask(self, request: Request[R], *, deadline: int = 0, seq: int = 0, repeated: bool = False) -> R:
        """The answer to a request. `deadline`: monotonic nanoseconds; 0: the timeout of this client from now. `seq`: its number,
        for a caller that has to know it (`draw_seq`). `repeated`: it may have been sent under this number before."""
        verb = verb_of(request)
        changes = request.mutates
        remembered, turn = self.remembered, 0
        if remembered is not None:
            if changes:
                return await self._change(remembered, request, deadline, seq, repeated)
            known = remembered.find(self.user, request)
            if known is not None:
                return cast("R", known)
            turn = remembered.turn
        reply, answer = await self._ask(verb, request, deadline, seq, repeated)
        self._remember(turn, reply, request, answer)
        return answer

    def _remember(self, turn: int, reply: Any, request: Request[R], answer: R) -> None:
        """A service has answered with this message what was asked in this turn."""
        if self.remembered is not None and isinstance(request, REMEMBERED):
            self.remembered.keep(turn, reply.watch, self.user, request, answer)

    async def _change(self, remembered: RememberedAttributes, request: Request[R], deadline: int, seq: int, repeated: bool) -> R:
        """`ask` of a change, with what is remembered."""
        outcome: Any = None
        remembered.begin_change()
        try:
            _, answer = await self._ask(verb_of(request), request, deadline, seq, repeated)
            outcome = answer
            return answer
        except FS3Error as why:
            outcome = why
            raise
        finally:
            remembered.end_change(request, outcome)

    async def _ask(
        self, verb: Verb[Request[R], R], request: Request[R], deadline: int, seq: int, repeated: bool
    ) -> tuple[Any, R]:
        """(the message, the answer)."""
        changes = request.mutates
        # Drawn once: however often the request is sent, it is the same request.
        message = verb.request_to_pb(request, self._caller, (seq or self._next_seq()) if changes else 0)
        if changes:
            message.caller.open_contents.extend(self.readers.told_with(request))
            if repeated:
                mark_repeated(message)
        try:
            directory = self._directory_of(request) if self._nodes.has_owners() else None
            reply = await self._send(
                verb.method, message, request.error_path, changes=changes, deadline=deadline, directory=directory
            )
            answer = verb.answer.from_pb(reply)
        except FS3Error as why:
            if isinstance(request, Close) and why.code in (Code.NO_SESSION, Code.STALE):
                self._sessions.on_close(request.session)
                self._opened_in.pop(request.session, None)
            if isinstance(request, Truncate) and why.code is Code.BUSY:
                # It waits for storage: its first step is done, and a service will do the others.
                raise error(Code.DEADLINE, f"it may happen later: {why.strerror}", request.error_path or None) from why
            raise
        if changes:
            self._track_sessions(request, answer)
        self._learn(answer)
        return reply, answer

    def _learn(self, answer: Any) -> None:
        """What was opened comes with what its opener may do."""
        if self.capabilities is not None and type(answer) is OpenResult and answer.capability:
            self.capabilities.learn(answer.capability)

    def submit(self, request: Request[R], done: OnAnswer[R]) -> None:
        """`ask` of a request that changes nothing, without a task where a service answers as it should. `done` gets the answer or
        why there is none, on the loop, not before this returns."""
        assert not request.mutates, "a change has a number, which its caller may have to know"
        remembered, turn = self.remembered, 0
        if remembered is not None:
            known = remembered.find(self.user, request)
            if known is not None:
                asyncio.get_running_loop().call_soon(done, cast("R", known), None)
                return
            turn = remembered.turn
        place = self._nodes.current_place(self._directory_of(request) if self._nodes.has_owners() else None)
        if place is not None and self.readers.is_attached:
            verb = verb_of(request)

            def finished(reply: Reply | None, why: FS3Error | None) -> None:
                if reply is not None:
                    try:
                        answer = verb.answer.from_pb(reply.message)
                    except FS3Error as malformed:
                        done(None, malformed)
                    else:
                        self._remember(turn, reply.message, request, answer)
                        self._learn(answer)
                        done(answer, None)
                    return
                assert why is not None
                if why.code.retry is Retry.NEVER:
                    done(None, error(why.code, why.strerror or "", request.error_path or None))
                else:
                    # It has no effect: it is asked anew, with all that `ask` does about services that do not answer.
                    self._tasks.start(self._tell(request, done))

            message = verb.request_to_pb(request, self._caller, 0)
            patience_ns = meta_read_hedge_ns if self._nodes.has_another() else attempt_timeout_ns
            if place.channel.submit(verb.method, message, finished, patience_ns):
                return
        self._tasks.start(self._tell(request, done))

    async def _tell(self, request: Request[R], done: OnAnswer[R]) -> None:
        try:
            answer = await self.ask(request)
        except FS3Error as why:
            done(None, why)
        else:
            done(answer, None)

    def ask_directly(self, request: Request[R]) -> R | None:
        """`ask` of a request that changes nothing, on a thread that is not the loop's, which blocks meanwhile. None: not done,
        and `ask` has to be used."""
        answer = self._direct.ask(request)
        self._learn(answer)
        return answer

    async def entries(self, path: str | PathRef, *, with_inodes: bool = False) -> AsyncIterator[Entry]:
        """A whole directory, page by page."""
        where, after, more = PathRef.of(path), "", True
        while more:
            page = await self.ask(List(where, after, with_inodes=with_inodes))
            for entry in page.entries:
                yield entry
            more = page.more
            after = page.entries[-1].name if page.entries else after

    async def batch_stat(self, paths: Sequence[str], *, parent: InodeId = ROOT_INODE, follow: bool = True) -> Stats:
        """Stat of many paths below one directory: per path its inode or its error. A thousand travel as one request.

        Raises when no service answers at all.
        """
        answers: Stats = []
        cut = split_paths(paths)
        for at in range(0, len(cut), batch_stats_at_once_max):
            asked = (self._stat_batch(piece, parent, follow) for piece in cut[at : at + batch_stats_at_once_max])
            for found in await asyncio.gather(*asked):
                answers += found
        return answers

    async def batch(self, requests: Sequence[Request[Any]]) -> Answers:
        """Many requests of any kind, in order, in few frames and few commits: per request its answer or its FS3Error.

        An error does not stop those behind it, but for one that waiting may cure: then everything from there on waits, until
        the deadline. It raises only for requests that cannot be sent.
        """
        answers: Answers = []
        items = [item_to_pb(request, self._next_seq() if request.mutates else 0) for request in requests]
        deadline = self._clock.now() + self._timeout_ns
        while len(answers) < len(requests):
            begin = len(answers)
            end = batch_end(items, begin)
            try:
                answers += await self._send_batch(requests[begin:end], items[begin:end], deadline)
            except FS3Error as why:
                # Those before have happened, and their callers must learn it.
                answers += [error(why.code, why.strerror or "", request.error_path or None) for request in requests[begin:end]]
        return answers

    # --- pieces of many -----------------------------------------------------------------------------------------------

    async def _stat_batch(self, paths: Sequence[str], parent: InodeId, follow: bool) -> Stats:
        answers: Stats = []
        while len(answers) < len(paths):
            asked = list(paths[len(answers) :])
            found = await self.ask(BatchStat(parent, asked, follow))
            if not found:
                raise error(Code.PROTOCOL, f"a batch of {len(asked)} paths was answered with nothing")
            # A reply whose inodes do not fit has fewer answers than there were paths; the rest is asked for anew.
            for path, answer in zip(asked, found, strict=False):
                if isinstance(answer, Code):
                    answers.append(error(answer, answer.name.replace("_", " ").lower(), path))
                else:
                    answers.append(answer)
        return answers

    async def _send_batch(self, requests: Sequence[Request[Any]], items: Sequence[Any], deadline: int) -> Answers:
        """The answers of the first of these requests, at least one: of all of them, or up to the first that has to wait."""
        changes = any(request.mutates for request in requests)
        remembered = self.remembered if changes else None
        if remembered is not None:
            remembered.begin_change()
        answers: Answers = []
        try:
            answers = await self._send_items(requests, items, deadline, changes=changes)
            return answers
        finally:
            if remembered is not None:
                for request, answer in itertools.zip_longest(requests, answers):
                    if request.mutates:
                        remembered.end_change(request, answer)

    async def _send_items(
        self, requests: Sequence[Request[Any]], items: Sequence[Any], deadline: int, *, changes: bool
    ) -> Answers:
        message = batch_to_pb(items, self._caller)
        message.caller.open_contents.extend(self.readers.told_with(*requests))
        backoff = Backoff(retry_backoff_min_ns, retry_backoff_max_ns)
        while True:
            directory = self._directory_of(requests[0]) if self._nodes.has_owners() else None
            reply = await self._send(META.Batch, message, "", changes=changes, deadline=deadline, directory=directory)
            answers = batch_reply_from_pb(requests, reply)
            waits = len(requests)
            for index, outcome in enumerate(answers):
                if isinstance(outcome, FS3Error) and is_retryable(outcome.code, index):
                    waits = index
                    break
            if waits:
                for request, answer in zip(requests[:waits], answers, strict=False):
                    self._learn(answer)
                    if request.mutates and not isinstance(answer, FS3Error):
                        self._track_sessions(request, answer)
                return answers[:waits]
            await self._pause(backoff, deadline)
            if self._clock.now() >= deadline:
                return answers

    # --- asking -------------------------------------------------------------------------------------------------------

    def _next_seq(self) -> int:
        return next(self.seqs)

    def _track_sessions(self, request: Request[Any], answer: Any) -> None:
        """A change was answered: which sessions are open now?"""
        self._sessions.on_acknowledged()
        if isinstance(answer, OpenResult):
            if answer.session:
                self._sessions.on_open(answer.session)
                if self._nodes.has_owners() and (directory := directory_of(request)) is not None:
                    self._opened_in[answer.session] = directory
        elif isinstance(request, Close):
            self._sessions.on_close(request.session)
            self._opened_in.pop(request.session, None)

    def _directory_of(self, request: Request[Any]) -> Directory | None:
        """What a request is about, or the session of it: the service that opened that has its rows at hand."""
        session = session_of(request)
        return (self._opened_in.get(session) if session else None) or directory_of(request)

    async def _keep_alive(self) -> None:
        await self.ask(KeepAlive(), deadline=self._clock.now() + session_keepalive_ns)

    async def _send(
        self,
        method: Method,
        message: Any,
        named: str,
        *,
        changes: bool,
        deadline: int = 0,
        directory: Directory | None = None,
    ) -> Any:
        """The reply message. Raises FS3Error with `named` as its filename."""
        if not self.readers.is_attached:
            self.readers.attach(asyncio.get_running_loop())
        now = self._clock.now()
        deadline = deadline or now + self._timeout_ns
        if now >= deadline:
            raise error(Code.DEADLINE, "no time was left to ask", named or None)
        backoff: Backoff | None = None
        told = ""
        """What a service has answered last: it says more than that another one has not answered."""
        hedged = HedgedRequest(self._nodes, self._clock, method, message, deadline, changes=changes, directory=directory)
        while True:
            try:
                return await hedged.run()
            except FS3Error as why:
                failure = why
            if failure.code not in (Code.DEADLINE, Code.DISCONNECTED):
                told = failure.strerror or ""
            retry = failure.code.retry
            if retry is Retry.NEVER:
                raise error(failure.code, failure.strerror or "", named or None) from None
            if retry is Retry.BACKOFF or not self._nodes.has_available():
                backoff = backoff or Backoff(retry_backoff_min_ns, retry_backoff_max_ns)
                if retry is Retry.REFRESH:
                    await self._routing.refresh(self._routing.routing.version)
                await self._pause(backoff, deadline)
            if self._clock.now() >= deadline:
                code = Code.DEADLINE if hedged.may_have_happened else failure.code
                what = "no answer in time, it may have happened" if hedged.may_have_happened else "no answer in time"
                raise error(code, f"{what}; the last one was: {told or failure.strerror}", named or None) from failure

    async def _pause(self, backoff: Backoff, deadline: int) -> None:
        wait = backoff.next_ns()
        wait = min(self._prng.between(wait // 2, wait), deadline - self._clock.now())
        with timed_part(RETRY_WAIT):
            await asyncio.sleep(max(0, wait) / SECOND)
