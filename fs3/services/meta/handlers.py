"""From a call to an operation and back. No task is made for a call: reads answer at once, changes when their commit is done."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from fs3.base.errors import FS3Error, error
from fs3.base.ids import InodeId
from fs3.base.status import Code, Retry
from fs3.core.meta import keys
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.problems import describe
from fs3.core.meta.operations import OPERATIONS
from fs3.core.meta.ops.get_capabilities import find_rights
from fs3.core.meta.ops.hold import find_unnamed
from fs3.core.meta.ops.statfs import statfs
from fs3.core.security.issue import holder_for
from fs3.core.txn import KVRowDamaged, ReadTxn
from fs3.model.capabilities import GetCapabilities
from fs3.model.lock import Lock
from fs3.model.method import Method
from fs3.model.namespace import Counts, FileSystemSpace, OpenResult
from fs3.model.remembered import REMEMBERED, inodes_told
from fs3.model.requests import Append, Caller, KeepAlive, Open, Repair, Request, StatFs
from fs3.model.watch import Watch, WatchNews
from fs3.ports.kv import KV
from fs3.ports.rpc import Bindings, Call, Handler
from fs3.services.meta.append_queue import AppendQueue
from fs3.services.meta.attribute_leases import AttributeLeases
from fs3.services.meta.caller_guard import CallerGuard
from fs3.services.meta.capability_issuer import CapabilityIssuer
from fs3.services.meta.capacity import CapacityCache
from fs3.services.meta.change_executor import ChangeExecutor, is_final, truncates
from fs3.services.meta.contexts import RequestContexts, caller_of
from fs3.services.meta.lock_queue import LockQueue
from fs3.wire.meta_batch import BatchedRequest, batch_from_pb, batch_reply_to_pb
from fs3.wire.meta_verbs import REPLY_BYTES_MAX, VERBS, Verb
from fs3.wire.methods import META

log = logging.getLogger("fs3.meta")

assert set(OPERATIONS) == set(VERBS) - {StatFs, KeepAlive, Watch, GetCapabilities}, "a verb has no operation"

_REPLY_FULL = MetaError(Code.TOO_LARGE, "the answers before this one fill the reply; ask again for the rest")

BatchItems = Sequence[BatchedRequest | FS3Error]
Outcomes = list[Any]
"""Per item of a batch its answer, or the exception it ended with."""


class VerbHandlers:
    """The handlers of every method."""

    def __init__(
        self,
        kv: KV,
        contexts: RequestContexts,
        changes: ChangeExecutor,
        appends: AppendQueue,
        locks: LockQueue,
        capacity: CapacityCache,
        leases: AttributeLeases,
        issuer: CapabilityIssuer,
    ) -> None:
        self._kv = kv
        self._contexts = contexts
        self._changes = changes
        self._appends = appends
        self._locks = locks
        self._capacity = capacity
        self.operations: dict[type[Any], int] = dict.fromkeys(VERBS, 0)
        """How many of each kind were asked for, those in batches included."""
        self._leases = leases
        self._issuer = issuer
        self.caller_guard = CallerGuard(kv)
        """What knows whose clients are, to be looked at."""

    def bindings(self) -> Bindings:
        """Method -> handler."""
        found: dict[Method, Handler] = {VERBS[record].method: self._handler(VERBS[record]) for record in OPERATIONS}
        found[META.StatFs] = self._statfs
        found[META.KeepAlive] = self._keep_alive
        found[META.Watch] = self._watch
        found[META.Batch] = self._batch
        found[META.GetCapabilities] = self._get_capabilities
        return {method: self.caller_guard.guard(handler) for method, handler in found.items()}

    # --- single requests ----------------------------------------------------------------------------------------------

    def _handler(self, verb: Verb[Any, Any]) -> Handler:
        kv, changes, appends, locks, contexts = self._kv, self._changes, self._appends, self._locks, self._contexts
        operation = OPERATIONS[verb.record]
        is_repair = verb.record is Repair
        counted, record = self.operations, verb.record
        leases, is_remembered = self._leases, verb.record in REMEMBERED
        issuer = self._issuer

        def handle(call: Call) -> None:
            counted[record] += 1
            message = call.request
            try:
                request = verb.request_from_pb(message)
                mutates = request.mutates
                ctx = contexts.context_of(caller_of(call), call.span, mutates=mutates)
            except FS3Error as why:
                call.fail(why.code, why.strerror or "")
                return

            def done(answer: Any, why: BaseException | None) -> None:
                if why is not None:
                    _fail(call, ctx, why, request.error_path)
                    return
                if is_repair and answer.done:
                    log.warning("repaired for user %d: %s; %s", ctx.user.uid, describe(request.problem), answer.what)
                if call.auth.principal is not None and type(answer) is OpenResult:
                    answer = issuer.complete(call.auth, ctx.user, answer, write=opens_to_write(request))
                reply = verb.reply_to_pb(answer)
                if is_remembered and is_at_once:
                    reply.watch = leases.note(ctx.client, inodes_told(request, answer))
                call.reply(reply)

            is_at_once = True
            if isinstance(request, Append):
                appends.submit(ctx, request, done, call)
            elif isinstance(request, Lock):
                locks.submit(ctx, request, done, call)
            elif mutates:
                changes.submit(ctx, request, done)
            else:
                kv.submit_read(lambda txn: operation(txn, ctx, request), done)
                # What an engine has to be asked for may have changed before its answer is here, and is not noted.
                is_at_once = False

        return handle

    def _watch(self, call: Call) -> None:
        self.operations[Watch] += 1
        try:
            caller = caller_of(call)
            request = VERBS[Watch].request_from_pb(call.request)
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return

        def answer(news: WatchNews | None, why: FS3Error | None) -> None:
            if why is not None or news is None:
                _fail(call, self._contexts.context_of(caller, mutates=False), why, "")
            else:
                call.reply(VERBS[Watch].reply_to_pb(news))

        self._leases.ask(caller.client, request, answer)

    def _statfs(self, call: Call) -> None:
        """The namespace says how much it holds, storage how much more would fit."""
        self.operations[StatFs] += 1
        try:
            ctx = self._contexts.context_of(caller_of(call), call.span, mutates=False)
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return

        def counted(counts: Counts | None, why: BaseException | None) -> None:
            if why is not None or counts is None:
                _fail(call, ctx, why, "")
                return

            def ready(total: int, free: int) -> None:
                space = FileSystemSpace(total, free, counts.inodes, counts.garbage)
                call.reply(VERBS[StatFs].reply_to_pb(space))

            self._capacity.ask(ctx.defaults.table, ready, ctx.span)

        self._kv.submit_read(statfs, counted)

    def _keep_alive(self, call: Call) -> None:
        self.operations[KeepAlive] += 1
        try:
            caller = caller_of(call)
            request = VERBS[KeepAlive].request_from_pb(call.request)
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return
        self._contexts.record_heartbeat(caller.client)
        if not request.open_contents:
            call.reply(VERBS[KeepAlive].reply_to_pb([]))
            return
        ctx = self._contexts.context_of(caller, mutates=False)

        def found(unnamed: list[InodeId] | None, why: BaseException | None) -> None:
            if why is not None or unnamed is None:
                _fail(call, ctx, why, "")
            else:
                call.reply(VERBS[KeepAlive].reply_to_pb(unnamed))

        self._kv.submit_read(lambda txn: find_unnamed(txn, request), found)

    def _get_capabilities(self, call: Call) -> None:
        """What the caller had is renewed at once; the rows say what it may do with the rest."""
        self.operations[GetCapabilities] += 1
        try:
            ctx = self._contexts.context_of(caller_of(call), mutates=False)
            request: GetCapabilities = VERBS[GetCapabilities].request_from_pb(call.request)
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return
        auth, issuer = call.auth, self._issuer
        if not holder_for(auth):
            call.fail(Code.UNSUPPORTED, "this caller needs no capabilities")
            return
        answers = [issuer.renew(auth, wanted) for wanted in request.wanted]
        left = [index for index, answer in enumerate(answers) if answer is None]
        asked = GetCapabilities(tuple(request.wanted[index] for index in left))

        def done(found: list[int | Code] | None, why: BaseException | None) -> None:
            if why is not None or found is None:
                _fail(call, ctx, why, "")
                return
            for index, granted in zip(left, found, strict=True):
                answers[index] = granted if isinstance(granted, Code) else issuer.seal(auth, request.wanted[index], granted)
            call.reply(VERBS[GetCapabilities].reply_to_pb(answers))

        if left:
            self._kv.submit_read(lambda txn: find_rights(txn, ctx, asked), done)
        else:
            done([], None)

    # --- many at once -------------------------------------------------------------------------------------------------

    def _batch(self, call: Call) -> None:
        """Everything up to a truncation is submitted in one turn, so it is run in order, and committed together unless it is
        too much for one commit. Only requests that read are answered from one snapshot instead."""
        try:
            items = batch_from_pb(call.request)
            # The identity is that of the batch; each item has its own number.
            caller = caller_of(call)
            whole = self._contexts.context_of(caller, call.span, mutates=False)
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return
        counted = self.operations
        for item in items:
            if not isinstance(item, FS3Error):
                counted[type(item.request)] += 1
        if any(not isinstance(item, FS3Error) and item.request.mutates for item in items):
            self._contexts.record_heartbeat(whole.client)
            self._batch_of_changes(call, caller, whole, items)
        else:
            self._batch_of_reads(call, whole, items)

    def _batch_of_reads(self, call: Call, whole: OpContext, items: BatchItems) -> None:
        async def op(txn: ReadTxn) -> Outcomes:
            outcomes: Outcomes = []
            room = REPLY_BYTES_MAX
            for item in items:
                if isinstance(item, FS3Error):
                    outcomes.append(item)
                    continue
                if room <= 0:
                    # Their bytes would be read for nothing. The client asks again from the first one that has no answer.
                    outcomes.append(_REPLY_FULL)
                    continue
                try:
                    answer = await OPERATIONS[type(item.request)](txn, whole, item.request)
                    if isinstance(answer, OpenResult) and answer.data:
                        room -= len(answer.data)
                    outcomes.append(answer)
                except (MetaError, FS3Error) as why:
                    outcomes.append(why)
            return outcomes

        def done(outcomes: Outcomes | None, why: BaseException | None) -> None:
            if why is not None or outcomes is None:
                _fail(call, whole, why, "")
            else:
                self._answer_batch(call, whole, items, outcomes)

        self._kv.submit_read(op, done)

    def _batch_of_changes(self, call: Call, caller: Caller, whole: OpContext, items: BatchItems) -> None:
        outcomes: Outcomes = [None] * len(items)
        contents = frozenset(caller.open_contents)
        begun = left = 0

        def finished(index: int, answer: Any, why: BaseException | None) -> None:
            nonlocal left
            outcomes[index] = answer if why is None else why
            left -= 1
            if left:
                return
            if begun == len(items):
                self._answer_batch(call, whole, items, outcomes)
            else:
                submit()

        def submit() -> None:
            """Up to a truncation: it is over when storage has cut, and what comes after it has to find it so."""
            nonlocal begun, left
            begin = begun
            while begun < len(items):
                item = items[begun]
                begun += 1
                if not isinstance(item, FS3Error) and truncates(item.request):
                    break
            left = begun - begin
            for index in range(begin, begun):
                item = items[index]
                if isinstance(item, FS3Error):
                    finished(index, None, item)
                    continue
                seq = item.seq
                repeated = caller.repeated and bool(seq)
                ctx = OpContext(
                    whole.user, whole.wall_ns, whole.client, seq, whole.routing, whole.defaults, repeated, contents, whole.tally,
                    whole.span, whole.owner,
                )  # fmt: skip
                self._changes.submit(ctx, item.request, partial(finished, index))

        submit()

    def _answer_batch(self, call: Call, whole: OpContext, items: BatchItems, outcomes: Outcomes) -> None:
        answers = list(outcomes)
        is_proved = call.auth.principal is not None
        for index, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
            if isinstance(outcome, BaseException):
                named = "" if isinstance(item, FS3Error) else item.request.error_path
                answers[index] = error(*_explain(whole, outcome, named))
            elif is_proved and type(outcome) is OpenResult and not isinstance(item, FS3Error):
                write = opens_to_write(item.request)
                answers[index] = self._issuer.complete(call.auth, whole.user, outcome, write=write)
        call.reply(batch_reply_to_pb(items, answers))


def opens_to_write(request: Request[Any]) -> bool:
    """Of a request that is answered as an open is."""
    return isinstance(request, Open) and request.write


def _fail(call: Call, ctx: OpContext, why: BaseException | None, named: str) -> None:
    """Answer a call with what its operation raised. `named`: the path its caller gave."""
    code, message = _explain(ctx, why or RuntimeError("there is no answer"), named)
    call.fail(code, message, ctx.routing.version)


def _explain(ctx: OpContext, why: BaseException, named: str) -> tuple[Code, str]:
    """What the caller is told. It knows the path it named; another one (the target of a rename) is said."""
    if isinstance(why, MetaError):
        if why.code.retry is Retry.NEVER and not is_final(ctx, why):
            return Code.UNAVAILABLE, "the cluster has no chain table yet: its storage nodes have not registered"
        return why.code, why.message if why.path in ("", named) else f"{why.message}: {why.path!r}"
    if isinstance(why, KVRowDamaged):
        absent = "" if why.key == why.damaged else ", or was never there"
        return why.code, f"{keys.describe(why.key)} is damaged{absent}: `fs3 admin fsck` and docs/metadata-recovery.md say more"
    if isinstance(why, FS3Error):
        return why.code, why.strerror or why.code.name
    log.error("an operation failed", exc_info=why)
    return Code.INTERNAL, f"the metadata service failed: {type(why).__name__}: {why}"
