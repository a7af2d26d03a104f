"""From a call to an operation and back. No task is made for a call: reads answer at once, changes when their commit is done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.ids import ClientId
from fs3.base.limits import batch_items_max, frame_header_bytes_max
from fs3.base.status import Code, Retry
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.list import list_directory
from fs3.core.meta.ops.lookup import lookup
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.meta.ops.stat import batch_stat, stat
from fs3.core.meta.ops.symlink import symlink
from fs3.core.meta.ops.sync import sync
from fs3.core.meta.ops.truncate import truncate
from fs3.core.txn import ReadTxn
from fs3.model.inode import Inode
from fs3.model.namespace import Listing
from fs3.model.requests import (
    Close,
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
from fs3.model.routing import Routing
from fs3.ports.clock import Clock
from fs3.ports.kv import KV, OnDone
from fs3.ports.rpc import Bindings, Call, Handler
from fs3.services.meta.change_executor import MetaOperation, is_final
from fs3.wire.meta import caller_from_pb, fill_inode, inode_bytes_max, malformed
from fs3.wire.meta_verbs import VERB_OF_ITEM, VERBS, Verb
from fs3.wire.methods import META
from fs3.wire.pb import meta_pb2 as pb

log = logging.getLogger("fs3.meta")

REPLY_BYTES_MAX = frame_header_bytes_max - 64 * 1024
"""A reply is cut before it outgrows its frame; one result fits into the difference."""

Change = Callable[[MetaOperation, OpContext, Request, OnDone[Any]], None]

_RUN: dict[type[Request], MetaOperation] = {
    Lookup: lambda txn, ctx, it: lookup(txn, ctx, it.path),
    Stat: lambda txn, ctx, it: stat(txn, ctx, it.path, it.follow),
    List: lambda txn, ctx, it: list_directory(txn, ctx, it.path, after=it.after, limit=it.limit, with_inodes=it.with_inodes),
    Open: lambda txn, ctx, it: open_file(
        txn,
        ctx,
        it.path,
        write=it.write,
        create=it.create,
        exclusive=it.exclusive,
        truncate=it.truncate,
        unnamed=it.unnamed,
        mode=it.mode,
        layout=it.layout,
    ),
    Close: lambda txn, ctx, it: close_file(
        txn,
        ctx,
        it.inode,
        it.session,
        length=it.length,
        modified=it.modified,
        truncations=it.truncations,
        publish=it.publish,
        exclusive=it.exclusive,
        discard=it.discard,
    ),
    Sync: lambda txn, ctx, it: sync(
        txn, ctx, it.inode, it.session, length=it.length, modified=it.modified, truncations=it.truncations
    ),
    Mkdir: lambda txn, ctx, it: mkdir(txn, ctx, it.path, mode=it.mode, parents=it.parents, layout=it.layout),
    Remove: lambda txn, ctx, it: remove(txn, ctx, it.path, it.kind),
    Rename: lambda txn, ctx, it: rename(txn, ctx, it.source, it.target, it.mode),
    Symlink: lambda txn, ctx, it: symlink(txn, ctx, it.path, it.target),
    Link: lambda txn, ctx, it: link(txn, ctx, it.source, it.target),
    SetAttributes: lambda txn, ctx, it: set_attributes(
        txn,
        ctx,
        it.path,
        follow=it.follow,
        mode=it.mode,
        uid=it.uid,
        gid=it.gid,
        atime_ns=it.atime_ns,
        mtime_ns=it.mtime_ns,
        layout=it.layout,
    ),
    Truncate: lambda txn, ctx, it: truncate(txn, ctx, it.inode, it.length),
}

assert set(_RUN) == set(VERBS), "a verb has no operation"


class VerbHandlers:
    """The handlers of every method but StatFs, which asks storage."""

    def __init__(
        self,
        kv: KV,
        clock: Clock,
        routing: Callable[[], Routing],
        defaults: Callable[[Routing], LayoutDefaults],
        change: Change,
        heard: Callable[[ClientId], None],
    ) -> None:
        """`change` carries out a request that changes something; `heard` is told who asks for changes."""
        self._kv = kv
        self._clock = clock
        self._routing = routing
        self._defaults = defaults
        self._change = change
        self._heard = heard

    def bindings(self) -> Bindings:
        """Method -> handler."""
        found: dict[Any, Handler] = {verb.method: self._handler(verb) for verb in VERBS.values()}
        found[META.BatchStat] = self._batch_stat
        found[META.Batch] = self._batch
        return found

    # --- single requests ----------------------------------------------------------------------------------------------

    def _handler(self, verb: Verb) -> Handler:
        kv, change = self._kv, self._change
        run = _RUN[verb.record]
        parse, reply_type = verb.request_from, verb.method.reply
        fill = _fill_page if verb.record is List else verb.fill_reply

        def handle(call: Call) -> None:
            message = call.request
            try:
                request = parse(message)
                mutates = request.mutates
                ctx = self.context(message.caller, mutates)
            except FS3Error as why:
                call.fail(why.code, why.strerror or "")
                return

            def done(result: Any, why: BaseException | None) -> None:
                if why is not None:
                    self.fail(call, ctx, why, request.error_path)
                    return
                reply = reply_type()
                fill(reply, result)
                call.reply(reply)

            if mutates:
                change(run, ctx, request, done)
            else:
                kv.submit_read(lambda txn: run(txn, ctx, request), done)

        return handle

    def context(self, caller: Any, mutates: bool) -> OpContext:
        """The surroundings of one request. Raises InvalidArgument naming the field of the caller that is wrong."""
        client, user = caller_from_pb(caller)
        seq = caller.request_seq
        if mutates and not seq:
            raise malformed("caller.request_seq", "0, but the request changes something and may have to be repeated")
        routing = self._routing()
        if not mutates:
            return OpContext(user, self._clock.wall(), client, 0, routing, self._defaults(routing))
        self._heard(client)
        return OpContext(user, self._clock.wall(), client, seq, routing, self._defaults(routing), caller.repeated)

    def fail(self, call: Call, ctx: OpContext, why: BaseException | None, named: str) -> None:
        """Answer a call with what its operation raised. `named`: the path its caller gave."""
        code, message = _explain(ctx, why or RuntimeError("there is no answer"), named)
        call.fail(code, message, ctx.routing.version)

    # --- many at once -------------------------------------------------------------------------------------------------

    def _batch_stat(self, call: Call) -> None:
        message = call.request
        paths = message.paths[:]
        if not check_count(call, "paths", len(paths)):
            return
        try:
            ctx = self.context(message.caller, False)
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return

        def done(answers: list[Inode | MetaError] | None, why: BaseException | None) -> None:
            if why is not None or answers is None:
                self.fail(call, ctx, why, "")
                return
            reply = pb.BatchStatReply()
            codes: list[int] = []
            add = reply.inodes.add
            room = REPLY_BYTES_MAX - 5 * len(answers)
            for answer in answers:
                if isinstance(answer, MetaError):
                    codes.append(answer.code)
                    continue
                room -= inode_bytes_max(answer)
                if room < 0:
                    break
                fill_inode(add(), answer)
                codes.append(0)
            reply.codes.extend(codes)
            call.reply(reply)

        self._kv.submit_read(lambda txn: batch_stat(txn, ctx, message.parent, paths, message.follow), done)

    def _batch(self, call: Call) -> None:
        """Everything is submitted in this turn, so it is run in order, and committed together unless it is too much for one
        commit. Only requests that read are answered from one snapshot instead."""
        items = call.request.items
        if not check_count(call, "items", len(items)):
            return
        try:
            # The identity is that of the batch; each item has its own number.
            whole = self.context(call.request.caller, False)
            repeated = call.request.caller.repeated
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return
        parsed: list[tuple[Verb, Request, int] | FS3Error] = []
        for item in items:
            try:
                parsed.append(_parse_item(item))
            except FS3Error as why:
                parsed.append(why)
        outcomes: list[tuple[Any, BaseException | None]] = [(None, None)] * len(parsed)
        if any(not isinstance(each, FS3Error) and each[1].mutates for each in parsed):
            self._heard(whole.client)
            self._batch_of_changes(call, whole, parsed, outcomes, repeated)
        else:
            self._batch_of_reads(call, whole, parsed, outcomes)

    def _batch_of_reads(self, call: Call, whole: OpContext, parsed: list[Any], outcomes: list[Any]) -> None:
        async def op(txn: ReadTxn) -> None:
            for index, each in enumerate(parsed):
                try:
                    outcomes[index] = _parse_failure(each) or (await _RUN[each[0].record](txn, whole, each[1]), None)
                except (MetaError, FS3Error) as why:
                    outcomes[index] = (None, why)

        def done(result: Any, why: BaseException | None) -> None:
            if why is not None:
                self.fail(call, whole, why, "")
            else:
                _answer_batch(call, whole, parsed, outcomes)

        self._kv.submit_read(op, done)

    def _batch_of_changes(self, call: Call, whole: OpContext, parsed: list[Any], outcomes: list[Any], repeated: bool) -> None:
        left = len(parsed)

        def finished(index: int, result: Any, why: BaseException | None) -> None:
            nonlocal left
            outcomes[index] = (result, why)
            left -= 1
            if not left:
                _answer_batch(call, whole, parsed, outcomes)

        for index, each in enumerate(parsed):
            refused = _parse_failure(each)
            if refused is not None:
                finished(index, *refused)
                continue
            verb, request, seq = each
            ctx = OpContext(whole.user, whole.wall_ns, whole.client, seq, whole.routing, whole.defaults, repeated and bool(seq))
            self._change(_RUN[verb.record], ctx, request, partial(finished, index))


def _answer_batch(call: Call, whole: OpContext, parsed: list[Any], outcomes: list[Any]) -> None:
    reply = pb.BatchReply()
    room = REPLY_BYTES_MAX
    for each, (answer, why) in zip(parsed, outcomes, strict=True):
        result = reply.results.add()
        if why is not None:
            named = "" if isinstance(each, FS3Error) else each[1].named
            code, result.message = _explain(whole, why, named)
            result.code = code
            room -= 16 + 4 * len(result.message)
            continue
        verb: Verb = each[0]
        if isinstance(answer, Listing):
            answer = cut_listing(answer, min(max(room, 0), REPLY_BYTES_MAX // 2))
        verb.fill_reply(getattr(result, verb.reply), answer)
        room -= result.ByteSize() + 4
        if room < 0:
            # It has happened and is remembered: asked again, it is answered from the record.
            result.Clear()
            result.code = Code.TOO_LARGE
            result.message = "the answers before this one fill the reply; ask again for the rest"
    call.reply(reply)


def _explain(ctx: OpContext, why: BaseException, named: str) -> tuple[Code, str]:
    """What the caller is told. It knows the path it named; another one (the target of a rename) is said."""
    if isinstance(why, MetaError):
        if why.code.retry is Retry.NEVER and not is_final(ctx, why):
            return Code.UNAVAILABLE, "the cluster has no chain table yet: its storage nodes have not registered"
        return why.code, why.message if why.path in ("", named) else f"{why.message}: {why.path!r}"
    if isinstance(why, FS3Error):
        return why.code, why.strerror or why.code.name
    log.error("an operation failed", exc_info=why)
    return Code.INTERNAL, f"the metadata service failed: {type(why).__name__}: {why}"


def cut_listing(listing: Listing, room: int) -> Listing:
    """The listing, or its beginning as far as `room` bytes reach; at least one entry, so that a reader gets on."""
    for count, entry in enumerate(listing.entries):
        room -= 24 + 4 * len(entry.name) + (inode_bytes_max(entry.inode) if entry.inode else 0)
        if room < 0 and count:
            return Listing(listing.entries[:count], True)
    return listing


def _fill_page(message: pb.ListReply, listing: Listing) -> None:
    VERBS[List].fill_reply(message, cut_listing(listing, REPLY_BYTES_MAX))


def check_count(call: Call, field: str, count: int) -> bool:
    """False, and the call has failed, when a batch has more elements than one may have."""
    if count > batch_items_max:
        call.fail(Code.TOO_LARGE, f"{field}: {count} in one request, at most {batch_items_max} are allowed")
    return count <= batch_items_max


def _parse_item(item: pb.BatchItem) -> tuple[Verb, Request, int]:
    field = item.WhichOneof("request")
    if field is None:
        raise malformed("items", "one has no request, or one this software does not know")
    verb = VERB_OF_ITEM[field]
    message = getattr(item, field)
    request = verb.request_from(message)
    seq: int = message.caller.request_seq
    if request.mutates and not seq:
        raise malformed(f"{field}.caller.request_seq", "0, but the request changes something and may have to be repeated")
    return verb, request, seq if request.mutates else 0


def _parse_failure(each: Any) -> tuple[None, FS3Error] | None:
    return (None, each) if isinstance(each, FS3Error) else None
