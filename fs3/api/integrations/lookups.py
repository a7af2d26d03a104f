"""One key at a time, for engines that ask so: the keys of a step become one lookup, and the answers come with the next step."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import msgspec

from fs3.api.kvcache import BlockingKVCache, JobKind
from fs3.api.kvcache.arguments import Key
from fs3.base.errors import FS3Error

lease_ms = 5000
"""How long what was found is not evicted: it is read within a step or two. These leases end by themselves."""

log = logging.getLogger("fs3.engines")


class _Question(msgspec.Struct):
    asked_by: set[str]
    """Requests."""
    job: int = 0
    """The cache's; 0: not asked yet."""
    answer: bool | None = None
    """None: not known yet."""


class BatchedLookups:
    """Which pages are there, asked key by key. One thread at a time may use it. No call raises or waits.

    An answer is kept as long as a request that asked for it goes on. What cannot be asked is not there.
    """

    def __init__(self, cache: BlockingKVCache) -> None:
        self._cache = cache
        self._questions: dict[Key, _Question] = {}
        self._unsent: list[Key] = []
        self._under_way: dict[int, Sequence[Key]] = {}
        """The keys of each job."""
        self._keys: dict[str, set[Key]] = {}
        """Per request."""

    def ask(self, key: Key, request: str) -> bool | None:
        """Whether a page is there; None when that is not known yet: ask again after the next `send` and `poll`."""
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = _Question(set())
            self._unsent.append(key)
        question.asked_by.add(request)
        self._keys.setdefault(request, set()).add(key)
        return question.answer

    def send(self) -> None:
        """Look up what was asked for since the last time, all of it at once."""
        keys = [key for key in dict.fromkeys(self._unsent) if self._is_unsent(key)]
        self._unsent.clear()
        if not keys:
            return
        try:
            job = self._cache.submit_lookup(keys, lease_ms=lease_ms)
        except (FS3Error, ValueError, TypeError) as failure:
            log.warning("fs3 is left out of a lookup of %d pages: %s", len(keys), failure)
            self.mark_missing(keys)
            return
        self._under_way[job] = keys
        for key in keys:
            self._questions[key].job = job

    def _is_unsent(self, key: Key) -> bool:
        question = self._questions.get(key)
        return question is not None and not question.job and question.answer is None

    def poll(self) -> None:
        """Take in the answers that have come."""
        if not self._under_way:
            return
        try:
            results = self._cache.poll(JobKind.LOOKUP)
        except FS3Error as failure:
            log.warning("the lookups that were under way have failed: %s", failure)
            for keys in self._under_way.values():
                self.mark_missing(keys)
            self._under_way.clear()
            return
        for result in results:
            keys = self._under_way.pop(result.job, ())
            there = result.found.bitmap if result.found is not None else [False] * len(keys)
            for key, is_there in zip(keys, there, strict=False):
                question = self._questions.get(key)
                if question is not None and question.job == result.job and question.answer is None:
                    question.answer = is_there

    def mark_missing(self, keys: Iterable[Key]) -> None:
        """These pages could not be read: requests are told that they are not there, or would read them again and again."""
        for key in keys:
            if (question := self._questions.get(key)) is not None:
                question.answer = False

    def forget(self, request: str) -> None:
        """A request has ended."""
        for key in self._keys.pop(request, ()):
            question = self._questions[key]
            question.asked_by.discard(request)
            if not question.asked_by:
                del self._questions[key]
