"""Many requests to the metadata service in one message, and their answers, to and from protobuf.

Items are converted one by one, before it is known how many fit into a frame: `batch_end` cuts them, by their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fs3.base.errors import FS3Error, error
from fs3.base.limits import batch_items_max, request_bytes_max
from fs3.base.status import Code
from fs3.model.requests import Request
from fs3.wire.malformed import check_count, malformed
from fs3.wire.meta_verbs import REPLY_BYTES_MAX, VERBS, Verb, verb_of
from fs3.wire.pb import common_pb2
from fs3.wire.pb import meta_pb2 as pb

VERB_OF_ITEM: dict[str, Verb[Any, Any]] = {verb.item: verb for verb in VERBS.values() if verb.item}
"""Field of a BatchItem -> its verb."""

assert set(VERB_OF_ITEM) == {field.name for field in pb.BatchItem.DESCRIPTOR.fields}, "an item of a batch has no verb"


@dataclass(frozen=True, slots=True)
class BatchedRequest:
    """One of the requests of a batch."""

    request: Request[Any]
    seq: int
    """Its own number; 0 when it changes nothing."""


# --- requests --------------------------------------------------------------------------------------------------------


def item_to_pb(request: Request[Any], seq: int) -> pb.BatchItem:
    """One request as a part of a batch. Raises InvalidArgument for what protobuf cannot carry."""
    verb = verb_of(request)
    assert verb.item, f"{type(request).__name__} travels alone"
    item = pb.BatchItem()
    message = getattr(item, verb.item)
    message.SetInParent()
    verb.fill_request(message, request, seq)
    return item


def batch_end(items: Sequence[pb.BatchItem], begin: int) -> int:
    """Where the message ends that starts with the item `begin`."""
    room = request_bytes_max
    end = begin
    while end < len(items) and end - begin < batch_items_max:
        room -= items[end].ByteSize() + 8
        if room < 0 and end > begin:
            break
        end += 1
    return end


def batch_to_pb(items: Sequence[pb.BatchItem], caller: common_pb2.Caller) -> pb.BatchRequest:
    """The message of these items."""
    message = pb.BatchRequest(items=items)
    message.caller.CopyFrom(caller)
    return message


def batch_from_pb(message: pb.BatchRequest) -> list[BatchedRequest | FS3Error]:
    """Per item its request, or why it is none. Raises FS3Error TOO_LARGE for too many."""
    check_count("items", len(message.items))
    found: list[BatchedRequest | FS3Error] = []
    for item in message.items:
        try:
            found.append(_item_from_pb(item))
        except FS3Error as why:
            found.append(why)
    return found


def _item_from_pb(item: pb.BatchItem) -> BatchedRequest:
    field = item.WhichOneof("request")
    if field is None:
        raise malformed("items", "one has no request, or one this software does not know")
    message = getattr(item, field)
    request: Request[Any] = VERB_OF_ITEM[field].request_from_pb(message)
    if not request.mutates:
        return BatchedRequest(request, 0)
    seq: int = message.caller.request_seq
    if not seq:
        raise malformed(f"{field}.caller.request_seq", "0, but the request changes something and may have to be repeated")
    return BatchedRequest(request, seq)


# --- answers ---------------------------------------------------------------------------------------------------------


def batch_reply_to_pb(items: Sequence[BatchedRequest | FS3Error], answers: Sequence[Any]) -> pb.BatchReply:
    """The message of the answers of a batch; one that is refused has its FS3Error. Where the frame is full, TOO_LARGE."""
    reply = pb.BatchReply()
    room = REPLY_BYTES_MAX
    for item, answer in zip(items, answers, strict=True):
        result = reply.results.add()
        if room < 0:
            result.code = Code.TOO_LARGE  # said at length of the first one: thousands of sentences would not fit either
            continue
        if isinstance(answer, FS3Error) or isinstance(item, FS3Error):
            result.code = answer.code
            result.message = answer.strerror or ""
            room -= 16 + 4 * len(result.message)
            continue
        codec = verb_of(item.request).answer
        codec.fill(getattr(result, codec.field), answer, min(max(room, 0), REPLY_BYTES_MAX // 2))
        room -= result.ByteSize() + 4
        if room < 0:
            # It has happened and is remembered: asked again, it is answered from the record.
            result.Clear()
            result.code = Code.TOO_LARGE
            result.message = "the answers before this one fill the reply; ask again for the rest"
    return reply


def batch_reply_from_pb(requests: Sequence[Request[Any]], reply: pb.BatchReply) -> list[Any]:
    """Per request its answer, or the FS3Error it is. Raises FS3Error PROTOCOL when there are not as many."""
    if len(reply.results) != len(requests):
        raise error(Code.PROTOCOL, f"{len(requests)} requests were answered with {len(reply.results)} results")
    return [
        outcome_from_pb(VERBS[type(request)], result, request.error_path)
        for request, result in zip(requests, reply.results, strict=True)
    ]


def outcome_from_pb(verb: Verb[Any, Any], result: pb.BatchResult, error_path: str) -> Any:
    """The answer in one result of a batch, or the FS3Error it is."""
    if result.code:
        return error(Code.from_wire(result.code), result.message, error_path or None)
    reply = result.WhichOneof("reply")
    codec = verb.answer
    if reply != codec.field:
        return error(Code.PROTOCOL, f"the answer to {verb.item} is {reply!r}, not {codec.field!r}", error_path or None)
    try:
        return codec.from_pb(getattr(result, reply))
    except FS3Error as problem:
        return problem
