"""What a KVCache is called with: a wrong type is a TypeError, a wrong value a ValueError, and both name the argument."""

from __future__ import annotations

import math
from array import array
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fs3.api.kvcache import arguments
from fs3.model.cluster import NamespaceSettings


def kind_of(value: Any) -> str:
    """A name for a case that is the same in every process: `repr` may have an address in it."""
    return type(value).__name__


def test_keys() -> None:
    keys = [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), "text", "\u00e9", b"\0", b"x" * 4096]
    packed = [b"bytes", b"bytearray", b"memoryview", b"text", b"\xc3\xa9", b"\0", b"x" * 4096]
    assert arguments.pack_keys(keys) == arguments.pack_keys(tuple(keys)) == packed
    assert arguments.pack_keys([]) == []


@pytest.mark.parametrize("key", [7, 2**40, -5, None, 1.5, True, [1, 2], (b"a",), np.int64(3), object()], ids=kind_of)
def test_a_key_of_another_type(key: Any) -> None:
    with pytest.raises(TypeError, match=f"key 1 is neither bytes nor str but {type(key).__name__}"):
        arguments.pack_keys([b"good", key])


@pytest.mark.parametrize("keys", [b"k", "k", bytearray(b"k"), memoryview(b"k"), {b"k"}, iter([b"k"]), 7, None], ids=kind_of)
def test_keys_that_are_no_sequence(keys: Any) -> None:
    with pytest.raises(TypeError, match=f"keys: one {type(keys).__name__}"):
        arguments.pack_keys(keys)


@pytest.mark.parametrize(
    ("key", "says"), [(b"", "has 0 bytes"), ("", "has 0 bytes"), (b"x" * 4097, "has 4097 bytes"), ("\udcff", "has no UTF-8")]
)
def test_a_key_that_cannot_be(key: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"key 0 .*{says}"):
        arguments.pack_keys([key])


def test_prefixes() -> None:
    assert [arguments.pack_prefix(prefix) for prefix in (b"", "", "ü", bytearray(b"a"))] == [b"", b"", b"\xc3\xbc", b"a"]
    for wrong in (None, 7, [b"a"]):
        with pytest.raises(TypeError, match=f"prefix is neither bytes nor str but {type(wrong).__name__}"):
            arguments.pack_prefix(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prefix has 4097 bytes"):
        arguments.pack_prefix(bytes(4097))


def test_buffers_of_pages_of_every_length() -> None:
    for size in (1, 63, 64):
        (views,) = arguments.page_buffers([bytes(size)], 1, 64, writable=False)
        assert sum(map(len, views)) == size
    (views,) = arguments.page_buffers([bytearray(99)], 1, 64, writable=True)
    assert sum(map(len, views)) == 64, "more than a page counts as a page"
    (views,) = arguments.page_buffers([[b"", b"a", b"bc"]], 1, 64, writable=False)
    assert list(map(bytes, views)) == [b"a", b"bc"]
    for buffer, writable in ((b"", False), (bytes(65), False), ([], False), ([b""], False), ([bytes(60), bytes(5)], False)):
        with pytest.raises(ValueError, match=r"buffer 0 has .*; pages here have 1 to 64"):
            arguments.page_buffers([buffer], 1, 64, writable=writable)
    with pytest.raises(ValueError, match="buffer 0 has 65 bytes in 2 pieces; pages here have 1 to 64"):
        arguments.page_buffers([[bytearray(60), bytearray(5)]], 1, 64, writable=True)


def test_where_lengths_go() -> None:
    for good in ([0, 0], np.zeros(2, int), np.zeros(2, np.uint32)):
        assert arguments.check_lengths(good, 2, 4096) is good
    assert arguments.check_lengths(None, 2, 4096) is None
    for wrong in ((0, 0), "00", b"00", 2, {0, 1}, {0: 0, 1: 0}):
        with pytest.raises(TypeError, match=f"lengths: one {type(wrong).__name__}"):
            arguments.check_lengths(wrong, 2, 4096)
    with pytest.raises(ValueError, match="2 keys and 3 lengths"):
        arguments.check_lengths([0] * 3, 2, 4096)
    constant = np.zeros(2, int)
    constant.flags.writeable = False
    for unfit in (np.zeros(2, np.uint8), np.zeros((2, 2), "M8[s]"), constant, array("B", [0, 0])):
        with pytest.raises(ValueError, match="lengths: cannot have 4096"):
            arguments.check_lengths(unfit, 2, 4096)
    assert arguments.check_lengths([], 0, 4096) == []


def test_buffers() -> None:
    rows = np.zeros((3, 8), "M8[ns]")
    assert [len(view) for (view,) in arguments.page_buffers(rows, 3, 64, writable=True)] == [64] * 3
    arguments.page_buffers(rows, 3, 64, writable=True)[1][0][:] = b"1" * 64
    assert rows[1].tobytes() == b"1" * 64
    for one in (b"k" * 64, "text", bytearray(64), memoryview(bytes(64)), 7, iter([])):
        with pytest.raises(TypeError, match=f"buffers: one {type(one).__name__}"):
            arguments.page_buffers(one, 1, 64, writable=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("good", [1, 0.5, np.float32(2), np.int16(3), Fraction(1, 3), 1e-12, 24 * 3600])
def test_timeouts(good: Any) -> None:
    assert arguments.check_timeout(good) == max(1, round(float(good) * 1_000_000_000))


@pytest.mark.parametrize("bad", [0, -1, float("inf"), float("nan"), 1e300, 24 * 3600 + 1])
def test_a_timeout_that_cannot_be(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"timeout .*: seconds, more than 0"):
        arguments.check_timeout(bad)


@pytest.mark.parametrize("bad", ["1", None, True, b"1", [1], 1j, Decimal(1)])
def test_a_timeout_of_another_type(bad: Any) -> None:
    with pytest.raises(TypeError, match=f"timeout is not a number of seconds but {type(bad).__name__}"):
        arguments.check_timeout(bad)


def test_sizes_and_replicas() -> None:
    assert arguments.check_page_bytes(np.int64(4096)) == 4096
    assert arguments.check_replicas(0) == 0
    for bad in ("1", 1.0, None, True):
        with pytest.raises(TypeError, match=f"page_bytes is not an integer but {type(bad).__name__}"):
            arguments.check_page_bytes(bad)
        with pytest.raises(TypeError, match=f"replicas is not an integer but {type(bad).__name__}"):
            arguments.check_replicas(bad)
    for number in (0, -1, 2**40, 2**70):
        with pytest.raises(ValueError, match=f"page_bytes {number}: 1 to "):
            arguments.check_page_bytes(number)
    for number in (-1, 17, 2**70):
        with pytest.raises(ValueError, match=f"replicas {number}: 0 to 16"):
            arguments.check_replicas(number)


def test_settings() -> None:
    settings = arguments.check_settings
    assert settings() == NamespaceSettings()
    assert settings(budget_bytes=np.int64(4096), ttl=np.float32(1.5), pin_bytes=4096, owner="team", page_bytes=4096) == (
        NamespaceSettings(4096, 1500, 4096, "team")
    )
    assert settings(budget_bytes=1e12, ttl=1e-9) == NamespaceSettings(10**12, 1)
    # Taken away.
    assert settings(budget_bytes=math.inf, ttl=math.inf, pin_bytes=0, owner="") == NamespaceSettings(0, 0, 0, "")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"budget_bytes": 0}, "budget_bytes 0: 100 to"),
        ({"budget_bytes": 99}, "budget_bytes 99: 100 to"),
        ({"budget_bytes": -1}, "budget_bytes -1: 100 to"),
        ({"budget_bytes": 2**70}, "budget_bytes .*: 100 to"),
        ({"budget_bytes": math.nan}, "budget_bytes nan: a whole number"),
        ({"budget_bytes": -math.inf}, "budget_bytes -inf: a whole number"),
        ({"budget_bytes": 1000.5}, "budget_bytes 1000.5: a whole number"),
        ({"ttl": 0}, "ttl 0: seconds, more than 0"),
        ({"ttl": -1.0}, "ttl -1.0: seconds, more than 0"),
        ({"ttl": math.nan}, "ttl nan: seconds, more than 0"),
        ({"ttl": 1e300}, "ttl 1e.300: seconds, more than 0"),
        ({"pin_bytes": -1}, "pin_bytes -1: 0 to"),
        ({"budget_bytes": 1000, "pin_bytes": 1001}, "pin_bytes 1001: 0 to 1000"),
        ({"owner": "\u00e9" * 128}, "owner has 256 bytes"),
        ({"owner": "a\nb"}, "owner .* cannot be printed"),
        ({"tenant": "x" * 256}, "tenant has 256 bytes"),
        ({"owner": "\udcff"}, "owner .*has no UTF-8"),
    ],
)
def test_settings_that_cannot_be(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        arguments.check_settings(page_bytes=100, **bad)


@pytest.mark.parametrize("bad", ["1", True, b"1", [1], 1j])
def test_settings_of_another_type(bad: Any) -> None:
    for name in ("budget_bytes", "ttl", "pin_bytes"):
        with pytest.raises(TypeError, match=f"{name} is not an? .*but {type(bad).__name__}"):
            arguments.check_settings(**{name: bad})
    with pytest.raises(TypeError, match="owner is not str but int"):
        arguments.check_settings(owner=7)


def test_names() -> None:
    assert arguments.check_name("model@rev/fp8") == "model@rev/fp8"
    for bad in (7, None, b"name", ["n"]):
        with pytest.raises(TypeError, match=f"namespace is not str but {type(bad).__name__}"):
            arguments.check_name(bad)
    for text, says in (("", "has 0 bytes"), ("\u00e9" * 128, "has 256 bytes"), ("\udcff", "has no UTF-8")):
        with pytest.raises(ValueError, match=f"namespace .*{says}"):
            arguments.check_name(text)


@pytest.mark.parametrize("lease_ms", [0, -1, 60_001, 2**70])
def test_a_lease_that_cannot_be(lease_ms: int) -> None:
    assert [arguments.check_lease_ms(each) for each in (1, 60_000, np.int64(5))] == [1, 60_000, 5]
    with pytest.raises(ValueError, match=f"lease_ms {lease_ms}: 1 to 60000 are allowed"):
        arguments.check_lease_ms(lease_ms)


@pytest.mark.parametrize("lease_ms", ["5", 1.5, True, [1]], ids=kind_of)
def test_a_lease_of_another_type(lease_ms: Any) -> None:
    with pytest.raises(TypeError, match=f"lease_ms is not an integer but {type(lease_ms).__name__}"):
        arguments.check_lease_ms(lease_ms)


@pytest.mark.parametrize("ttl", [0, -1.0, math.nan, math.inf, 1e9])
def test_a_pin_that_cannot_be(ttl: float) -> None:
    assert [arguments.check_pin_ttl(each) for each in (1, 0.5, 1e-9)] == [1000, 500, 1]
    with pytest.raises(ValueError, match="ttl"):
        arguments.check_pin_ttl(ttl)
