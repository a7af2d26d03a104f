"""LmdbKV does what MemoryKV does: random transactions in random bursts, some refused, with the store reopened in between."""

import asyncio
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.memory.kv import MemoryKV
from fs3.sim.conformance.kv import read_all_rows, start_transaction

KEYS = st.binary(min_size=1, max_size=3)
BOUNDS = st.binary(max_size=4)
PUT = st.tuples(st.just("put"), KEYS, st.binary(max_size=8))
DELETE = st.tuples(st.just("delete"), KEYS)
GET = st.tuples(st.just("get"), KEYS)
SCAN = st.tuples(st.just("scan"), BOUNDS, BOUNDS, st.integers(0, 5), st.booleans())
RAISE = st.tuples(st.just("raise"))
TRANSACTION = st.lists(st.one_of(PUT, PUT, DELETE, GET, SCAN, RAISE), max_size=6)
STEP = st.one_of(
    TRANSACTION.map(lambda steps: ("write", steps)),
    TRANSACTION.map(lambda steps: ("write", steps)),
    st.just(("settle",)),
    st.just(("reopen",)),
    SCAN.map(lambda step: ("read", [step])),
)


class Refused(Exception):
    pass


def operation(steps):
    async def op(txn):
        seen = []
        for step in steps:
            match step:
                case ("put", key, value):
                    txn.put(key, value)
                case ("delete", key):
                    txn.delete(key)
                case ("get", key):
                    seen.append(await txn.get(key))
                case ("scan", begin, end, limit, reverse):
                    seen.append(await txn.scan(begin, end, limit, reverse=reverse))
                case ("raise",):
                    raise Refused(seen)
        return seen

    return op


async def outcome(future):
    try:
        return await future
    except Refused as why:
        return why.args


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_lmdb_equals_memory(steps):
    async def check(directory):
        model, kv = MemoryKV(), LmdbKV.open(directory, map_bytes=1 << 20)
        waiting = []

        async def settle():
            for ours, theirs in waiting:
                assert await outcome(ours) == await outcome(theirs)
            waiting.clear()

        for step in steps:
            match step:
                case ("write", transaction):
                    waiting.append(
                        (start_transaction(kv, operation(transaction)), start_transaction(model, operation(transaction)))
                    )
                case ("settle",):
                    await settle()
                case ("reopen",):
                    await kv.close()
                    kv = LmdbKV.open(directory, map_bytes=1 << 20)
                case ("read", scans):
                    await settle()
                    assert await kv.read(operation(scans)) == await model.read(operation(scans))
        await settle()
        assert await read_all_rows(kv) == await read_all_rows(model)
        await kv.close()
        await model.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(check(directory))
