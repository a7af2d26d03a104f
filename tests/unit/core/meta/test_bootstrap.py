"""Whose rows a store has, and of which format."""

import msgspec
import pytest

from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.bootstrap import FORMAT, claim_store
from fs3.core.meta.errors import MetaError
from fs3.core.meta.rows import StoreIdent
from fs3.drivers.memory.kv import MemoryKV


@pytest.fixture
def kv():
    return MemoryKV()


def claim(kv, cluster=b""):
    kv.transact_now(lambda txn: claim_store(txn, cluster))
    return msgspec.msgpack.decode(kv.read_now(lambda txn: txn.get(keys.STORE)), type=StoreIdent)


def store(kv, key, row):
    async def op(txn):
        txn.put(key, row)

    kv.transact_now(op)


def test_a_store_is_claimed_once_its_cluster_is_known(kv):
    assert claim(kv) == StoreIdent(FORMAT)
    assert claim(kv, b"one") == StoreIdent(FORMAT, b"one")
    assert claim(kv) == StoreIdent(FORMAT, b"one")
    with pytest.raises(MetaError) as raised:
        claim(kv, b"two")
    assert raised.value.code is Code.WRONG_CLUSTER


@pytest.mark.parametrize("cluster", [b"", b"one"])
def test_rows_of_an_older_format_are_from_now_on_of_this_one(kv, cluster):
    store(kv, keys.STORE, rows.encode(StoreIdent(FORMAT - 1, b"one")))
    assert claim(kv, cluster) == StoreIdent(FORMAT, b"one")


@pytest.mark.parametrize(
    ("key", "row", "why"),
    [
        (keys.STORE, rows.encode(StoreIdent(FORMAT + 1)), "this software knows"),
        (b"other", b"program", "something else than a namespace"),
    ],
)
def test_what_must_not_be_touched_is_refused(kv, key, row, why):
    store(kv, key, row)
    with pytest.raises(MetaError, match=why) as raised:
        claim(kv)
    assert raised.value.code is Code.UNSUPPORTED
