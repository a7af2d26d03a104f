"""The scrub of a key-value store: it goes through all rows, says what is wrong, and ends when it is told to."""

import asyncio

import pytest

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.drivers.os.clock import OsClock
from fs3.ports.kv import KVScrubStep
from fs3.runtime.store_scrub import StoreScrub


class PagedStore:
    """A store of three pages, one of which may be damaged."""

    def __init__(self):
        self.asked = []
        self.damaged_rows = ()
        self.failure = None
        self.problem = ""
        self.wrong = None
        self.passed = asyncio.Event()

    async def scrub(self, begin):
        self.asked.append(begin)
        if self.wrong is not None:
            self.failure = self.wrong
            self.passed.set()
            raise self.wrong
        following = {b"": b"b", b"b": b"c", b"c": None}[begin]
        if following is None:
            self.damaged_rows = (b"INODE", b"DENT")
            self.passed.set()
        return KVScrubStep(following, 0, 10)


@pytest.fixture
async def store():
    return PagedStore()


async def test_all_pages_are_asked_for_and_damage_is_said(store):
    scrub = StoreScrub(store, OsClock())
    assert scrub.describe_problem() == ""
    scrub.start()
    await store.passed.wait()
    assert store.asked == [b"", b"b", b"c"]
    assert "damaged rows: b'INODE' and 1 more; see `fs3 admin fsck`" in scrub.describe_problem()
    await scrub.stop()
    await scrub.stop()


async def test_a_store_that_must_not_be_used_is_left_alone_and_said(store):
    store.wrong = error(Code.DATA_LOSS, "page 7 is gone")
    scrub = StoreScrub(store, OsClock())
    scrub.start()
    await store.passed.wait()
    await scrub.stop()
    assert store.asked == [b""]
    assert scrub.describe_problem() == "its store accepts nothing more: page 7 is gone"
    assert isinstance(store.failure, FS3Error)
