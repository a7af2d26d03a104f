"""Talking to the metadata services: find one, ask, ask again or another one when that can help.

Every request may be sent again, to the same service or to another one on the same store: reads have no effect, and a change
carries a number under which its first result is remembered. So a request ends in one of three ways: with its answer, with an
error that asking again would not change, or at its deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error, InvalidArgument, error
from fs3.base.ids import ROOT_INODE, ClientId, InodeId, SessionId
from fs3.base.limits import call_timeout_ns, retry_backoff_max_ns, retry_backoff_min_ns, session_keepalive_ns
from fs3.base.prng import Prng
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.meta.batching import batch_end, is_retryable, split_paths
from fs3.client.meta.hedged_request import HedgedRequest
from fs3.client.meta.keepalive import SessionKeepAlive
from fs3.client.meta.selector import MetaSelector
from fs3.client.routing import RoutingSource
from fs3.core.meta.ops.setattr import TIME_NOW
from fs3.model.inode import Dirent, Inode, Layout, User
from fs3.model.method import Method
from fs3.model.namespace import Entry, Listing, OpenResult, PathRef, RemoveKind, RenameMode
from fs3.model.requests import (
    Close,
    FileSystemSpace,
    Link,
    List,
    Lookup,
    Mkdir,
    Open,
    Remove,
    Rename,
    Request,
    SetAttributes,
    Stat,
    Symlink,
    Sync,
    Truncate,
)
from fs3.ports.clock import Clock
from fs3.wire.meta import caller_to_pb, inode_from_pb
from fs3.wire.meta_verbs import VERBS, Verb, outcome_from_pb
from fs3.wire.methods import META
from fs3.wire.pb import meta_pb2 as pb

__all__ = ["TIME_NOW", "MetaClient"]

log = logging.getLogger("fs3.client")

batch_stats_at_once_max = 4
"""Pieces of one batch that a client has under way."""

Path = str | PathRef
"""A path below the root, or below any inode."""
Answers = list[Any]
Stats = list[Inode | FS3Error]


class MetaClient:
    """The namespace for one user of one client. Belongs to one event loop; any number of calls may be under way at once.

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
    ) -> None:
        """`client_id`: 16 random bytes, never used by another object; request numbers start at 1 with it."""
        self._routing = routing
        self._clock = clock
        self._caller = caller_to_pb(client_id, user)
        self._timeout_ns = timeout_ns
        self._prng = Prng(int.from_bytes(client_id[:8], "big"))
        self._seq = 0
        self._sessions = SessionKeepAlive(clock, self._keep_alive)
        self._nodes = MetaSelector(routing, connector, clock, int.from_bytes(client_id[8:12], "big"))

    async def close(self) -> None:
        """Say no more that this client lives. Sessions that are open are left to the services, which end them after a while."""
        await self._sessions.stop()

    # --- verbs --------------------------------------------------------------------------------------------------------

    async def lookup(self, path: Path) -> Dirent:
        """Inode id and type of a directory entry; a symlink in the last component is not followed."""
        found: Dirent = await self._ask(Lookup(_ref(path)))
        return found

    async def stat(self, path: Path, *, follow: bool = True) -> Inode:
        """Attributes and layout."""
        inode: Inode = await self._ask(Stat(_ref(path), follow))
        return inode

    async def list(self, path: Path, *, after: str = "", limit: int = 0, with_inodes: bool = False) -> Listing:
        """One page of a directory in name order; a page may end early, `more` says whether."""
        page: Listing = await self._ask(List(_ref(path), after, limit, with_inodes))
        return page

    async def entries(self, path: Path, *, with_inodes: bool = False) -> AsyncIterator[Entry]:
        """A whole directory, page by page."""
        after, more = "", True
        while more:
            page = await self.list(path, after=after, with_inodes=with_inodes)
            for entry in page.entries:
                yield entry
            more = page.more
            after = page.entries[-1].name if page.entries else after

    async def open(
        self,
        path: Path,
        *,
        write: bool = False,
        create: bool = False,
        exclusive: bool = False,
        truncate: bool = False,
        unnamed: bool = False,
        mode: int = 0o644,
        layout: Layout | None = None,
    ) -> OpenResult:
        """Open, or create, a file. `unnamed`: create a file that gets its name at `close_file`, below the directory `path`."""
        opened: OpenResult = await self._ask(Open(_ref(path), write, create, exclusive, truncate, unnamed, mode, layout))
        return opened

    async def close_file(
        self,
        inode: InodeId,
        session: SessionId,
        *,
        length: int | None = None,
        modified: bool = False,
        publish: Path | None = None,
        exclusive: bool = False,
        discard: bool = False,
        truncations: int | None = None,
    ) -> Inode:
        """End a write session. `length`: largest end offset that was acknowledged. `publish`: the name of an unnamed file.

        `truncations`: of the inode as it was answered last; a length from before somebody else made the file shorter then
        counts only as far as storage has the bytes.
        """
        where = None if publish is None else _ref(publish)
        closed: Inode = await self._ask(Close(inode, session, length, modified, where, exclusive, discard, truncations))
        return closed

    async def sync(
        self,
        inode: InodeId,
        session: SessionId,
        *,
        length: int | None = None,
        modified: bool = False,
        truncations: int | None = None,
    ) -> Inode:
        """Publish length and times of a file that stays open. `truncations` as in `close_file`."""
        synced: Inode = await self._ask(Sync(inode, session, length, modified, truncations))
        return synced

    async def mkdir(self, path: Path, *, mode: int = 0o755, parents: bool = False, layout: Layout | None = None) -> Inode:
        """Create a directory; with `parents` also those above it, content with one that exists."""
        inode: Inode = await self._ask(Mkdir(_ref(path), mode, parents, layout))
        return inode

    async def remove(self, path: Path, kind: RemoveKind = RemoveKind.FILE) -> InodeId:
        """Remove a file, an empty directory or a tree; the id of what had the name."""
        inode: InodeId = await self._ask(Remove(_ref(path), kind))
        return inode

    async def rename(self, source: Path, target: Path, mode: RenameMode = RenameMode.REPLACE) -> Inode:
        """Move an entry."""
        inode: Inode = await self._ask(Rename(_ref(source), _ref(target), mode))
        return inode

    async def symlink(self, path: Path, target: str) -> Inode:
        """Create a symbolic link at `path` that says `target`."""
        inode: Inode = await self._ask(Symlink(_ref(path), target))
        return inode

    async def link(self, source: Path, target: Path) -> Inode:
        """Make `target` another name of the file `source`."""
        inode: Inode = await self._ask(Link(_ref(source), _ref(target)))
        return inode

    async def setattr(
        self,
        path: Path,
        *,
        follow: bool = True,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        layout: Layout | None = None,
    ) -> Inode:
        """Change attributes; what is None stays. A time of `TIME_NOW` is the service's clock."""
        inode: Inode = await self._ask(SetAttributes(_ref(path), follow, mode, uid, gid, atime_ns, mtime_ns, layout))
        return inode

    async def truncate(self, inode: InodeId, length: int) -> Inode:
        """Set the length of a file whose chunks beyond it the caller has cut already."""
        truncated: Inode = await self._ask(Truncate(inode, length))
        return truncated

    async def statfs(self) -> FileSystemSpace:
        """Space and inode counts."""
        request = pb.StatFsRequest()
        request.caller.CopyFrom(self._caller)
        reply = await self._send(META.StatFs, request, "", changes=False)
        return FileSystemSpace(reply.total_bytes, reply.free_bytes, reply.inodes, reply.garbage)

    async def batch_stat(self, paths: Sequence[str], *, parent: InodeId = ROOT_INODE, follow: bool = True) -> Stats:
        """Stat of many paths below one directory: per path its inode or its error. A thousand travel as one request.

        Raises when nobody answers at all.
        """
        answers: Stats = []
        cut = split_paths(paths)
        for at in range(0, len(cut), batch_stats_at_once_max):
            asked = (self._stat_batch(piece, parent, follow) for piece in cut[at : at + batch_stats_at_once_max])
            for found in await asyncio.gather(*asked):
                answers += found
        return answers

    async def batch(self, requests: Sequence[Request]) -> Answers:
        """Many requests of any kind, in order, in few frames and few commits: per request its answer or its FS3Error.

        An error does not stop those behind it, but for one that waiting may cure: then everything from there on waits, until
        the deadline. It raises only for requests that cannot be sent.
        """
        answers: Answers = []
        messages: list[pb.BatchItem] = []
        for request in requests:
            verb = VERBS[type(request)]
            item = pb.BatchItem()
            message = getattr(item, verb.item)
            message.SetInParent()
            _fill(verb, message, request)
            if request.mutates:
                self._seq += 1
                message.caller.request_seq = self._seq
            messages.append(item)
        deadline = self._clock.now() + self._timeout_ns
        while len(answers) < len(requests):
            begin = len(answers)
            end = batch_end(messages, begin)
            try:
                answers += await self._send_batch(requests[begin:end], messages[begin:end], deadline)
            except FS3Error as why:
                # Those before have happened, and their callers must learn it.
                answers += [error(why.code, why.strerror or "", request.error_path or None) for request in requests[begin:end]]
        return answers

    async def administer(self, method: Method, message: Any, *, changes: bool) -> Any:
        """The reply to one of the administrative requests; `fs3.client.fsck.cluster` has them. Its caller is filled in here."""
        message.caller.CopyFrom(self._caller)
        if changes:
            self._seq += 1
            message.caller.request_seq = self._seq
        return await self._send(method, message, "", changes=changes)

    # --- pieces of many -----------------------------------------------------------------------------------------------

    async def _stat_batch(self, paths: Sequence[str], parent: InodeId, follow: bool) -> Stats:
        answers: Stats = []
        while len(answers) < len(paths):
            asked = paths[len(answers) :]
            request = pb.BatchStatRequest(parent=parent, follow=follow)
            request.caller.CopyFrom(self._caller)
            try:
                request.paths.extend(asked)
            except (ValueError, TypeError) as why:
                raise InvalidArgument(Code.INVALID, f"a path cannot be sent: {why}") from why
            reply = await self._send(META.BatchStat, request, asked[0], changes=False)
            if not reply.codes:
                raise error(Code.PROTOCOL, f"a batch of {len(asked)} paths was answered with nothing")
            inodes = iter(reply.inodes)
            # A reply whose inodes do not fit has fewer codes than there were paths; the rest is asked for anew.
            for path, number in zip(asked, reply.codes, strict=False):
                if number:
                    code = Code.from_wire(number)
                    answers.append(error(code, code.name.replace("_", " ").lower(), path))
                else:
                    answers.append(inode_from_pb(next(inodes)))
        return answers

    async def _send_batch(self, requests: Sequence[Request], items: Sequence[pb.BatchItem], deadline: int) -> Answers:
        """The answers of the first of these requests, at least one: of all of them, or up to the first that has to wait."""
        message = pb.BatchRequest(items=items)
        message.caller.CopyFrom(self._caller)
        backoff = Backoff(retry_backoff_min_ns, retry_backoff_max_ns)
        changes = any(request.mutates for request in requests)
        while True:
            reply = await self._send(META.Batch, message, "", changes=changes, deadline=deadline)
            if len(reply.results) != len(requests):
                raise error(Code.PROTOCOL, f"{len(requests)} requests were answered with {len(reply.results)} results")
            answers: Answers = []
            waits = len(requests)
            for index, (request, result) in enumerate(zip(requests, reply.results, strict=True)):
                outcome = outcome_from_pb(VERBS[type(request)], result, request.error_path)
                answers.append(outcome)
                if isinstance(outcome, FS3Error) and index < waits and is_retryable(outcome.code, index):
                    waits = index
            if waits:
                for request, answer in zip(requests[:waits], answers, strict=False):
                    if request.mutates and not isinstance(answer, FS3Error):
                        self._track_sessions(request, answer)
                return answers[:waits]
            await self._pause(backoff, deadline)
            if self._clock.now() >= deadline:
                return answers

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _ask(self, request: Request) -> Any:
        verb = VERBS[type(request)]
        message = verb.method.request()
        _fill(verb, message, request)
        message.caller.CopyFrom(self._caller)
        changes = request.mutates
        if changes:
            # Drawn once: however often the request is sent, it is the same request.
            self._seq += 1
            message.caller.request_seq = self._seq
        try:
            answer = verb.reply_from(await self._send(verb.method, message, request.error_path, changes=changes))
        except FS3Error as why:
            if isinstance(request, Close) and why.code in (Code.NO_SESSION, Code.STALE):
                self._sessions.on_close(request.session)
            raise
        if changes:
            self._track_sessions(request, answer)
        return answer

    def _track_sessions(self, request: Request, answer: Any) -> None:
        """A change was answered: which sessions are open now?"""
        self._sessions.on_acknowledged()
        if isinstance(answer, OpenResult):
            if answer.session:
                self._sessions.on_open(answer.session)
        elif isinstance(request, Close):
            self._sessions.on_close(request.session)

    async def _keep_alive(self) -> None:
        request = pb.KeepAliveRequest()
        request.caller.CopyFrom(self._caller)
        await self._send(META.KeepAlive, request, "", changes=False, deadline=self._clock.now() + session_keepalive_ns)

    async def _send(self, method: Method, message: Any, named: str, *, changes: bool, deadline: int = 0) -> Any:
        """The reply message. Raises FS3Error with `named` as its filename."""
        now = self._clock.now()
        deadline = deadline or now + self._timeout_ns
        if now >= deadline:
            raise error(Code.DEADLINE, "no time was left to ask", named or None)
        backoff: Backoff | None = None
        race = HedgedRequest(self._nodes, self._clock, method, message, deadline, changes=changes)
        while True:
            try:
                return await race.run()
            except FS3Error as why:
                failure = why
            retry = failure.code.retry
            if retry is Retry.NEVER:
                raise error(failure.code, failure.strerror or "", named or None) from None
            if retry is Retry.BACKOFF or not self._nodes.has_available():
                backoff = backoff or Backoff(retry_backoff_min_ns, retry_backoff_max_ns)
                if retry is Retry.REFRESH:
                    await self._routing.refresh(self._routing.routing.version)
                await self._pause(backoff, deadline)
            if self._clock.now() >= deadline:
                code = Code.DEADLINE if race.may_have_happened else failure.code
                what = "no answer in time, it may have happened" if race.may_have_happened else "no answer in time"
                raise error(code, f"{what}; the last one was: {failure.strerror}", named or None) from failure

    async def _pause(self, backoff: Backoff, deadline: int) -> None:
        wait = backoff.next_ns()
        wait = min(self._prng.between(wait // 2, wait), deadline - self._clock.now())
        await asyncio.sleep(max(0, wait) / SECOND)


def _ref(path: Path) -> PathRef:
    return PathRef(ROOT_INODE, path) if isinstance(path, str) else path


def _fill(verb: Verb, message: Any, request: Request) -> None:
    try:
        verb.fill_request(message, request)
    except (ValueError, TypeError) as why:
        # A surrogate in a path, a negative length: protobuf says what it cannot carry.
        raise InvalidArgument(Code.INVALID, f"{verb.item}: {why}", request.error_path or None) from why
