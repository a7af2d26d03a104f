"""What lookups found is reported in the background, once, and kept when no node has counted it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from fs3.api.kvcache import lookup_reports
from fs3.api.kvcache.lookup_reports import LookupReporter
from fs3.base.errors import error
from fs3.base.limits import reported_lookups_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.model.page_usage import LookupCounters

ONE = LookupCounters(lookups=1, keys_asked=8, keys_found=6, prefix_keys=4, unknown=1)
TWO = LookupCounters(lookups=2, keys_asked=16, keys_found=12, prefix_keys=8, unknown=2)


@dataclass
class Node:
    """A storage node that counts, or answers otherwise."""

    code: Code = Code.OK
    counted: dict[int, LookupCounters] = field(default_factory=dict)
    requests: int = 0
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def report_lookups(self, namespace_id: int, found: LookupCounters, *, timeout_ns: int = 0) -> None:
        self.requests += 1
        await asyncio.sleep(0)
        self.heard.set()
        if self.code is not Code.OK:
            raise error(self.code, "a node that does not count")
        self.counted.setdefault(namespace_id, LookupCounters()).add(found)


async def test_a_few_seconds_are_one_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_reports, "report_interval_ns", MILLISECOND)
    node = Node()
    reporter = LookupReporter(node)
    reporter.add(7, ONE)
    reporter.add(7, ONE)
    await node.heard.wait()
    await reporter.close()
    assert (node.requests, node.counted) == (1, {7: TWO})


async def test_the_rest_is_reported_at_the_end() -> None:
    node = Node()
    reporter = LookupReporter(node)
    await reporter.close()
    assert node.requests == 0, "there was nothing to say"
    reporter.add(7, ONE)
    await reporter.flush()
    reporter.add(7, ONE)
    await asyncio.gather(reporter.close(), reporter.flush(), reporter.close())
    assert (node.requests, node.counted) == (2, {7: TWO})


@pytest.mark.parametrize("code", [Code.BUSY, Code.NOT_SERVING, Code.UNAVAILABLE, Code.SHUTTING_DOWN])
async def test_what_nobody_has_counted_is_kept(code: Code) -> None:
    node = Node(code)
    reporter = LookupReporter(node)
    reporter.add(7, ONE)
    await reporter.flush()
    node.code = Code.OK
    reporter.add(7, ONE)
    await reporter.close()
    assert node.counted == {7: TWO}


@pytest.mark.parametrize("code", [Code.DEADLINE, Code.DISCONNECTED, Code.INVALID])
async def test_what_may_be_counted_is_not_told_again(code: Code) -> None:
    node = Node(code)
    reporter = LookupReporter(node)
    reporter.add(7, ONE)
    await reporter.flush()
    node.code = Code.OK
    reporter.add(7, ONE)
    await reporter.close()
    assert node.counted == {7: ONE}


async def test_a_clear_begins_anew() -> None:
    node = Node(Code.BUSY)
    reporter = LookupReporter(node)
    reporter.add(7, ONE)
    first = asyncio.create_task(reporter.flush())
    await asyncio.sleep(0)
    assert node.requests == 1
    reporter.add(8, ONE)
    await first
    node.code = Code.OK
    await reporter.close()
    assert node.counted == {8: ONE}


async def test_a_report_is_never_too_large_to_be_taken() -> None:
    node = Node()
    reporter = LookupReporter(node)
    reporter.add(7, LookupCounters(1, reported_lookups_max))
    reporter.add(7, ONE)
    await reporter.close()
    assert node.counted == {7: ONE}


async def test_a_close_on_another_loop_asks_nobody() -> None:
    node = Node()
    reporter = LookupReporter(node)
    reporter.add(7, ONE)
    await asyncio.to_thread(asyncio.run, reporter.close())
    assert node.requests == 0
