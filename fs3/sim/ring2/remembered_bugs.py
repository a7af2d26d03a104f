"""What the planted bugs of remembered attributes exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from fs3.base.ids import ClientId, InodeId
from fs3.client.meta.remembered import RememberedAttributes
from fs3.core.txn import Txn
from fs3.model.watch import WatchNews
from fs3.services.meta import attribute_leases, leased_kv
from fs3.services.meta.attribute_leases import AttributeLeases, Go
from fs3.sim.ring2.service_bug import ServiceBug

_tell = AttributeLeases.tell
_note = AttributeLeases.note
_on_news = RememberedAttributes._on_news
_on_seen = AttributeLeases._on_seen


def _tell_at_once(
    self: AttributeLeases, changed: Iterable[InodeId], client: ClientId | None, go: Go, dropped: Collection[InodeId] = ()
) -> None:
    """Clients that remember what was before are told, and not waited for."""
    go()
    _tell(self, changed, client, lambda: None, dropped)


def _tell_none(
    self: AttributeLeases, changed: Iterable[InodeId], client: ClientId | None, go: Go, dropped: Collection[InodeId] = ()
) -> None:
    """They are told nothing: what they remember ends with their lease."""
    go()


def _note_and_forget(self: AttributeLeases, client: ClientId, inodes: Iterable[InodeId]) -> int:
    """What was noted of a client that has too much noted is dropped, and the client is not told."""
    number = _note(self, client, inodes)
    watch = self._watches.get(client)
    if watch is not None and len(watch.inodes) > attribute_leases.watched_inodes_max:
        self._forget_inodes(watch)
    return number


def _note_and_tell(self: AttributeLeases, client: ClientId, inodes: Iterable[InodeId]) -> int:
    """It is dropped, and the client is told, which may still be answering from it."""
    watch = self._watches.get(client)
    if watch is not None and len(watch.inodes) > attribute_leases.watched_inodes_max:
        self._forget_inodes(watch)
        for unacted in self._unacted.values():
            unacted.discard(watch)
        while watch.held_back:
            self._on_acted(watch, watch.held_back.popleft()[2])
        watch.tells_all = True
        self._reply(watch)
        return 0
    return _note(self, client, inodes)


def _lease_from_the_answer(self: RememberedAttributes, news: WatchNews, sent_ns: int) -> None:
    """The lease is counted from when it came."""
    _on_news(self, news, self._clock.now())


def _any_question_is_an_answer(self: AttributeLeases, watch: Any, seen: int) -> None:
    """Who asks again has acted on all news that were sent, whether they arrived or not."""
    _on_seen(self, watch, watch.serial)


async def _revoke_none(txn: Txn, name: bytes) -> bool:
    """There is no process but this one."""
    return False


_SCENE = "attributes_are_remembered_by_several"

REMEMBERED_BUGS: dict[str, ServiceBug] = {
    "told_before_acted": ServiceBug(
        "a change is told as done while a client still remembers what was before",
        [(AttributeLeases, "tell", _tell_at_once)],
        scene=_SCENE,
    ),
    "news_are_dropped": ServiceBug(
        "clients are told nothing of what they remember",
        [(AttributeLeases, "tell", _tell_none)],
        scene=_SCENE,
    ),
    "overflow_is_not_told": ServiceBug(
        "a client that has too much noted has nothing noted any more, and is not told",
        [(AttributeLeases, "note", _note_and_forget)],
        scene="more_is_remembered_than_is_noted",
    ),
    "overflow_is_told_and_not_waited_for": ServiceBug(
        "a client that has too much noted is told to forget everything, and nothing waits for that",
        [(AttributeLeases, "note", _note_and_tell)],
        scene="more_is_remembered_than_is_noted",
    ),
    "leases_begin_when_they_come": ServiceBug(
        "a client counts its lease on attributes from the answer and not from the question",
        [(RememberedAttributes, "_on_news", _lease_from_the_answer)],
        scene=_SCENE,
    ),
    "questions_are_answers": ServiceBug(
        "a client that asks for news again counts as one that has acted on those before, which it may never have got",
        [(AttributeLeases, "_on_seen", _any_question_is_an_answer)],
        scene="news_are_lost_with_their_connection",
    ),
    "successors_do_not_wait": ServiceBug(
        "a service that follows on one that was killed does not wait for the leases which that has given",
        [(leased_kv, "revoke_others", _revoke_none), (attribute_leases, "revoke_others", _revoke_none)],
        scene=_SCENE,
    ),
}
