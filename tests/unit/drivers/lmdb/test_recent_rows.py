"""Rows that one state of the store keeps in memory: searched once, bounded, never damaged ones, gone with the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fs3.base.checksum import seal_row
from fs3.base.errors import FS3Error
from fs3.core.txn import DAMAGED_VALUE, KVRowDamaged
from fs3.drivers.lmdb.damage import KnownDamage
from fs3.drivers.lmdb.overlay import _RECENT_BYTES_MAX, _RECENT_ROWS_MAX, Snapshot


class CountingTxn:
    """A read transaction on rows in memory; `asked` are the keys that were searched."""

    def __init__(self, rows: dict[bytes, bytes]) -> None:
        self.rows = {key: seal_row(key, value) for key, value in rows.items()}
        self.asked: list[bytes] = []
        self.cursor: Callable[[], Any] = lambda: None

    def id(self) -> int:
        return 1

    def get(self, key: bytes) -> bytes | None:
        self.asked.append(key)
        return self.rows.get(key)

    def abort(self) -> None:
        pass


def test_a_row_is_searched_once_in_a_state() -> None:
    txn = CountingTxn({b"a": b"1", b"b": b""})
    snapshot = Snapshot(txn, KnownDamage())
    for _ in range(3):
        assert (snapshot.get_nowait(b"a"), snapshot.get_nowait(b"b")) == (b"1", b"")
    assert txn.asked == [b"a", b"b"]


def test_large_rows_and_more_than_so_many_are_not_kept() -> None:
    large = bytes(_RECENT_BYTES_MAX + 1)
    rows = {b"%06d" % number: b"x" for number in range(2 * _RECENT_ROWS_MAX)}
    txn = CountingTxn({**rows, b"large": large})
    snapshot = Snapshot(txn, KnownDamage())
    for key in rows:
        assert snapshot.get_nowait(key) == b"x"
        assert len(snapshot._recent) <= _RECENT_ROWS_MAX
    assert (snapshot.get_nowait(b"large"), snapshot.get_nowait(b"large")) == (large, large)
    assert txn.asked[-2:] == [b"large", b"large"]


def test_a_damaged_row_is_refused_each_time_also_after_it_was_tolerated() -> None:
    txn = CountingTxn({b"a": b"1"})
    txn.rows[b"a"] = b"rot" + txn.rows[b"a"]
    snapshot = Snapshot(txn, KnownDamage())
    for _ in range(2):
        with pytest.raises(KVRowDamaged):
            snapshot.get_nowait(b"a")
        assert snapshot.tolerant().get_nowait(b"a") == DAMAGED_VALUE


def test_a_state_that_is_closed_shows_nothing_that_it_kept() -> None:
    snapshot = Snapshot(CountingTxn({b"a": b"1"}), KnownDamage())
    assert snapshot.get_nowait(b"a") == b"1"
    snapshot.close()
    with pytest.raises(FS3Error):
        snapshot.get_nowait(b"a")
