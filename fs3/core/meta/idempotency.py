"""A request that is repeated has no further effect and gets the first answer.

The answer is stored under (client, request_seq) in the transaction of the effect, so a client that asks again, after whatever
was lost, gets it. A request that is refused the first time it is sent leaves no row: it had no effect, and asking again is
asking anew. When it was sent before, that sending may still be on its way, and must not succeed after the client has been told
of the refusal: so then the refusal is stored (`record_refusal`), as the result of whatever sending arrives later. Rows are
forgotten after `requests_remembered_ns`, far longer than a client repeats a request.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, TypeVar

import msgspec

from fs3.base.ids import CLIENT_ID_BYTES, ClientId
from fs3.base.limits import requests_remembered_ns
from fs3.base.names import shown
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.client_liveness import check_owner
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.txn import Txn

Q = TypeVar("Q")
R = TypeVar("R")

ChangeOperation = Callable[[Txn, OpContext, Q], Coroutine[Any, Any, R]]
"""What changes the namespace for one request, and the answer."""

AnswerTest = Callable[[R], bool]
"""Is an answer one that stands?"""


def idempotent(
    verb: str, result: type[R], remembers: AnswerTest[R] = lambda answer: True
) -> Callable[[ChangeOperation[Q, R]], ChangeOperation[Q, R]]:
    """Makes an operation idempotent by its request's name. `result` is what it returns, a type that msgpack can carry; answers
    that are none yet, which `remembers` tells, are not remembered, and their requests have no other effect when repeated.

    `verb` stands in the rows of the store: an operation keeps it, whatever its function is called.
    """
    decode = msgspec.msgpack.Decoder(result).decode
    encode = rows.encode
    raw = msgspec.Raw

    def decorate(op: ChangeOperation[Q, R]) -> ChangeOperation[Q, R]:
        async def run(txn: Txn, ctx: OpContext, request: Q) -> R:
            seq = ctx.request_seq
            if not seq:
                return await op(txn, ctx, request)
            key = _key(ctx.client, seq)
            row = await txn.get(key)
            if row is not None:
                return _recall(ctx, key, row)
            answer = await op(txn, ctx, request)
            if remembers(answer):
                txn.put(key, encode(rows.RequestRecord(verb, ctx.wall_ns, raw(encode(answer)), ctx.owner)))
            return answer

        update_wrapper(run, op)
        return run

    def _recall(ctx: OpContext, key: bytes, row: bytes) -> R:
        remembered = rows.decode_request(key, row)
        check_owner(ctx.client, remembered.owner, ctx.owner)
        if remembered.verb == _REFUSED:
            raise _refusal(key, remembered)
        if remembered.verb != verb:
            raise MetaError(Code.PROTOCOL, f"request_seq was used for {remembered.verb} before and now for {verb}")
        try:
            return decode(remembered.result)
        except msgspec.MsgspecError as error:
            rows.raise_malformed(key, error)

    return decorate


async def record_refusal(txn: Txn, ctx: OpContext, why: MetaError) -> bool:
    """Remembers that this request was refused. False when another sending of it has an answer already: run it again."""
    key = _key(ctx.client, ctx.request_seq)
    if await txn.get(key) is not None:
        return False
    said = msgspec.Raw(rows.encode((why.code, shown(why.message), shown(why.path))))
    txn.put(key, rows.encode(rows.RequestRecord(_REFUSED, ctx.wall_ns, said, ctx.owner)))
    return True


async def revoke(txn: Txn, ctx: OpContext, seq: int, verb: str, result: type[R]) -> R | None:
    """Gives up a request of this client whose answer it does not know: sendings of it that arrive from now on are refused. The
    answer that it had, which the caller undoes; None when it had none, or was refused."""
    key = _key(ctx.client, seq)
    row = await txn.get(key)
    why = (Code.CANCELLED, "the request was given up by its client", "")
    remembered = None if row is None else rows.decode_request(key, row)
    if remembered is not None:
        check_owner(ctx.client, remembered.owner, ctx.owner)
    txn.put(key, rows.encode(rows.RequestRecord(_REFUSED, ctx.wall_ns, msgspec.Raw(rows.encode(why)), ctx.owner)))
    if remembered is None:
        return None
    if remembered.verb != verb:
        return None
    try:
        return msgspec.msgpack.decode(remembered.result, type=result)
    except msgspec.MsgspecError as error:
        rows.raise_malformed(key, error)


_REFUSED = "refused"
"""Stands for the verb in the row of a refusal."""
_decode_refusal = msgspec.msgpack.Decoder(tuple[int, str, str]).decode


def _refusal(key: bytes, remembered: rows.RequestRecord) -> MetaError:
    try:
        code, message, path = _decode_refusal(remembered.result)
    except msgspec.MsgspecError as error:
        rows.raise_malformed(key, error)
    return MetaError(Code.from_wire(code), message, path)


def _key(client: ClientId, seq: int) -> bytes:
    if len(client) != CLIENT_ID_BYTES:
        raise MetaError(Code.INVALID, f"client_id has {len(client)} bytes, not {CLIENT_ID_BYTES}")
    if not 0 < seq < 1 << 64:
        raise MetaError(Code.INVALID, f"request_seq {seq} does not fit in 64 bits")
    return keys.request_key(client, seq)


async def sweep(txn: Txn, wall_ns: int, client: ClientId, limit: int) -> tuple[ClientId | None, int]:
    """Forgets old requests, beginning with those of `client` (16 zero bytes: the first one), looking at about `limit` rows.

    Returns (where to continue, rows forgotten); None when this was the end. The rows of one client are in the order its
    requests were made, so the first young one ends the search in them, and a sweep looks at little more than it forgets.
    """
    oldest = wall_ns - requests_remembered_ns
    begin = keys.request_key(client, 0)
    end = keys.end_of(keys.REQUEST)
    looked_at = forgotten = 0
    stretch = 1
    while looked_at < limit:
        found = await txn.scan(begin, end, min(limit - looked_at, stretch))
        if not found:
            return None, forgotten
        for key, row in found:
            looked_at += 1
            if rows.decode_request(key, row).wall_ns > oldest:
                begin = keys.after_client(keys.client_of(key))
                stretch = 1
                break
            txn.delete(key)
            forgotten += 1
            begin = key + b"\0"
            stretch = 64
    return keys.client_of(begin) if begin < end else None, forgotten
