"""The requests of a resync to the successor: for each kind its method, its message, and the event that its answer becomes."""

from __future__ import annotations

from typing import Any, Protocol

from fs3.base.status import Code
from fs3.core.craq.resync.steps import (
    Compare,
    CompareAnswer,
    Finish,
    FinishAnswer,
    ListRows,
    ListRowsAnswer,
    MergeAnswer,
    MergeChannels,
    ResyncEvent,
)
from fs3.model.method import Method
from fs3.wire.methods import STORAGE
from fs3.wire.resync import (
    answer_from_pb,
    compare_reply_from_pb,
    compare_request_to_pb,
    finish_request_to_pb,
    list_reply_from_pb,
    list_request_to_pb,
    merge_request_to_pb,
)


class SuccessorRequest(Protocol):
    """One request to the successor. It is sent once and answered with one event of the machine."""

    method: Method

    def make_message(self) -> Any:
        """The message of the request."""
        ...

    def on_reply(self, message: Any) -> ResyncEvent:
        """The event of a reply. Raises FS3Error PROTOCOL for one that makes no sense."""
        ...

    def on_failure(self, code: Code) -> ResyncEvent:
        """The event when there is no reply, or none that makes sense."""
        ...


class CompareRequest:
    """Of `Compare`."""

    method = STORAGE.CompareRanges

    def __init__(self, effect: Compare) -> None:
        self._effect = effect

    def make_message(self) -> Any:
        """See `SuccessorRequest`."""
        return compare_request_to_pb(self._effect.peer, self._effect.ranges)

    def on_reply(self, message: Any) -> CompareAnswer:
        """See `SuccessorRequest`."""
        code, incarnation = answer_from_pb(message.answer)
        states = () if code else compare_reply_from_pb(message, len(self._effect.ranges))
        return CompareAnswer(self._effect.request, code, incarnation, states)

    def on_failure(self, code: Code) -> CompareAnswer:
        """See `SuccessorRequest`."""
        return CompareAnswer(self._effect.request, code)


class ListRowsRequest:
    """Of `ListRows`."""

    method = STORAGE.ListChunks

    def __init__(self, effect: ListRows) -> None:
        self._effect = effect

    def make_message(self) -> Any:
        """See `SuccessorRequest`."""
        effect = self._effect
        return list_request_to_pb(effect.peer, effect.begin, effect.end, effect.limit)

    def on_reply(self, message: Any) -> ListRowsAnswer:
        """See `SuccessorRequest`."""
        code, incarnation = answer_from_pb(message.answer)
        rows = () if code else list_reply_from_pb(message)
        return ListRowsAnswer(self._effect.request, code, incarnation, rows, message.more)

    def on_failure(self, code: Code) -> ListRowsAnswer:
        """See `SuccessorRequest`."""
        return ListRowsAnswer(self._effect.request, code)


class MergeRequest:
    """Of `MergeChannels`."""

    method = STORAGE.MergeChannels

    def __init__(self, effect: MergeChannels) -> None:
        self._effect = effect

    def make_message(self) -> Any:
        """See `SuccessorRequest`."""
        return merge_request_to_pb(self._effect.peer, self._effect.rows)

    def on_reply(self, message: Any) -> MergeAnswer:
        """See `SuccessorRequest`."""
        return MergeAnswer(self._effect.request, *answer_from_pb(message.answer))

    def on_failure(self, code: Code) -> MergeAnswer:
        """See `SuccessorRequest`."""
        return MergeAnswer(self._effect.request, code)


class FinishRequest:
    """Of `Finish`."""

    method = STORAGE.FinishResync

    def __init__(self, effect: Finish) -> None:
        self._effect = effect

    def make_message(self) -> Any:
        """See `SuccessorRequest`."""
        return finish_request_to_pb(self._effect.peer)

    def on_reply(self, message: Any) -> FinishAnswer:
        """See `SuccessorRequest`."""
        return FinishAnswer(self._effect.request, *answer_from_pb(message.answer))

    def on_failure(self, code: Code) -> FinishAnswer:
        """See `SuccessorRequest`."""
        return FinishAnswer(self._effect.request, code)


def request_of(effect: Compare | ListRows | MergeChannels | Finish) -> SuccessorRequest:
    """The request that an effect of the machine asks for."""
    match effect:
        case Compare():
            return CompareRequest(effect)
        case ListRows():
            return ListRowsRequest(effect)
        case MergeChannels():
            return MergeRequest(effect)
        case Finish():
            return FinishRequest(effect)
