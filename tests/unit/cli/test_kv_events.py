"""Events of pages as `fs3 kv events` shows them: every key can be told from every other."""

from __future__ import annotations

import pytest

from fs3.api.kvcache import CacheChange, CacheEvent
from fs3.cli.kv_events import describe_event, event_document

PAGE = b"\x80" + bytes(15)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (CacheEvent(CacheChange.STORED, PAGE, b"key", 100), "stored   key"),
        (CacheEvent(CacheChange.EVICTED, PAGE, "clé".encode()), "evicted  clé"),
        (CacheEvent(CacheChange.REMOVED, PAGE, b"\xff\x00"), "removed  0xff00"),
        (CacheEvent(CacheChange.REMOVED, PAGE, b"two\nlines"), f"removed  0x{b'two'.hex()}0a{b'lines'.hex()}"),
        (CacheEvent(CacheChange.LOST, PAGE), f"lost     page {PAGE.hex()}, whose key cannot be told"),
        (CacheEvent(CacheChange.CLEARED), "cleared"),
        (CacheEvent(CacheChange.MISSED), "missed"),
    ],
)
def test_a_line(event: CacheEvent, line: str) -> None:
    assert describe_event(event) == line


def test_a_document() -> None:
    assert event_document(CacheEvent(CacheChange.EXPIRED, PAGE, b"k\xff"), "token") == {
        "change": "expired",
        "key": "k\udcff",
        "key_hex": "6bff",
        "page_id": PAGE.hex(),
        "bytes": 0,
        "token": "token",
    }
    nothing = event_document(CacheEvent(CacheChange.MISSED), "")
    assert (nothing["key"], nothing["key_hex"], nothing["page_id"]) == (None, None, "")
