"""The store in memory. What every store must do is in the conformance suite; here is what this one promises besides."""

import asyncio
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fs3.base.coroutines import run
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.memory import sorted_rows
from fs3.drivers.memory.kv import MemoryKV
from fs3.drivers.memory.sorted_rows import SortedRows

KEYS = st.binary(min_size=1, max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=2)),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("scan"), st.binary(max_size=3), st.binary(max_size=3), st.integers(0, 20), st.booleans()),
    ),
    max_size=300,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_sorted_rows_are_a_dict_with_an_order(steps):
    ours, model = SortedRows(), {}
    run_length, sorted_rows._RUN = sorted_rows._RUN, 4
    try:
        for step in steps:
            match step:
                case ("put", key, value):
                    assert ours.put(key, value) == model.get(key)
                    model[key] = value
                case ("delete", key):
                    assert ours.delete(key) == model.pop(key, None)
                case ("scan", begin, end, limit, reverse):
                    inside = sorted((item for item in model.items() if begin <= item[0] < end), reverse=reverse)
                    assert ours.scan(begin, end, limit, reverse=reverse) == inside[:limit]
        assert ours.values == model
        assert ours.scan(b"", b"\xff" * 4, 1000) == sorted(model.items())
    finally:
        sorted_rows._RUN = run_length


def put(key, value=b""):
    async def op(txn):
        txn.put(key, value)
        return key

    return op


async def fail(txn):
    txn.put(b"a", b"bad")
    txn.delete(b"b")
    txn.put(b"c", b"bad")
    txn.put(b"c", b"worse")
    raise RuntimeError("no")


async def everything(txn):
    return await txn.scan(b"", b"\xff", 100)


def test_without_a_loop():
    kv = MemoryKV()
    assert kv.transact_now(put(b"a", b"1")) == b"a"
    kv.transact_now(put(b"b", b"2"))
    before = kv.read_now(everything)
    with pytest.raises(RuntimeError, match="no"):
        kv.transact_now(fail)
    assert kv.read_now(everything) == before == [(b"a", b"1"), (b"b", b"2")]


async def test_submit_answers_on_a_later_turn_and_groups():
    kv, answers = MemoryKV(), []
    for number in range(5):
        kv.submit(put(b"%d" % number), lambda result, why: answers.append(result))
    assert answers == []
    assert kv.read_now(everything) == []
    await asyncio.sleep(0)
    assert answers == [b"0", b"1", b"2", b"3", b"4"]
    assert kv.commits == 1


async def test_a_burst_is_cut_into_commits_of_limited_size(monkeypatch):
    monkeypatch.setattr("fs3.drivers.memory.kv.transactions_per_commit_max", 4)
    kv = MemoryKV()
    await asyncio.gather(*(kv.transact(put(b"%d" % number)) for number in range(10)))
    assert kv.commits == 3


async def test_too_many_waiting(monkeypatch):
    monkeypatch.setattr("fs3.drivers.memory.kv.transactions_waiting_max", 3)
    kv = MemoryKV()
    results = await asyncio.gather(*(kv.transact(put(b"%d" % number)) for number in range(5)), return_exceptions=True)
    assert results[:3] == [b"0", b"1", b"2"]
    assert [why.code for why in results[3:]] == [Code.BUSY, Code.BUSY]


async def test_closed():
    kv = MemoryKV()
    waiting = asyncio.ensure_future(kv.transact(put(b"a")))
    await asyncio.sleep(0)
    await kv.close()
    assert await waiting == b"a"
    for call in (kv.transact(put(b"b")), kv.read(everything)):
        with pytest.raises(FS3Error) as caught:
            await call
        assert caught.value.code is Code.SHUTTING_DOWN
    with pytest.raises(FS3Error, match="closed"):
        kv.transact_now(put(b"b"))


async def test_a_callback_that_raises_is_logged(caplog):
    kv, heard = MemoryKV(), []

    def bad(result, why):
        raise ValueError("callback")

    kv.submit(put(b"a"), bad)
    kv.submit(put(b"b"), lambda result, why: heard.append(result))
    with caplog.at_level(logging.ERROR, "fs3.kv"):
        await asyncio.sleep(0)
    assert heard == [b"b"]
    assert "callback" in caplog.text


def test_an_operation_cannot_wait_for_anything_else():
    kv = MemoryKV()

    async def waits(txn):
        txn.put(b"a", b"1")
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="suspended"):
        kv.transact_now(waits)
    assert kv.read_now(everything) == []


def test_a_transaction_is_over_when_its_operation_is():
    kv, kept = MemoryKV(), []

    async def keep(txn):
        kept.append(txn)

    kv.transact_now(keep)
    kv.read_now(keep)
    for txn in kept:
        with pytest.raises(AttributeError):
            run(txn.get(b"a"))


@pytest.mark.parametrize(
    ("key", "value"), [(b"", b""), (b"x" * 481, b""), ("text", b""), (b"k", "text"), (b"k", b"v" * (1 << 20) + b"v")]
)
def test_rows_no_store_could_hold(key, value):
    kv = MemoryKV()
    with pytest.raises(ValueError, match="this is"):
        kv.transact_now(put(key, value))


def test_run_returns_and_raises():
    async def answer():
        return 5

    async def wrong():
        raise KeyError("x")

    assert run(answer()) == 5
    with pytest.raises(KeyError):
        run(wrong())
