"""Messages about paths, and offers: there and back, and what makes no sense."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.units import MIB
from fs3.model.rdma import ROCE_V2, PathEnd, PathMessage, PathStep, RdmaAddress, RemoteRegion
from fs3.wire.frames import FrameError
from fs3.wire.paths import is_address, pack_offer, pack_path_message, unpack_offer, unpack_path_message

GID = "0000:0000:0000:0000:0000:ffff:0a00:0001"
ADDRESS = RdmaAddress("mlx5_0", 1, 3, GID, ROCE_V2, "bond0.7")
END = PathEnd(17, 0xABCDEF, 4096, 16, GID, 0, RemoteRegion(1 << 40, 99, 65536))


def test_messages_travel() -> None:
    for step, message in (
        (PathStep.HELLO, PathMessage(addresses=(ADDRESS, ADDRESS))),
        (PathStep.CHOICE, PathMessage(3, choice=1, end=END)),
        (PathStep.BUILT, PathMessage(3, end=END)),
        (PathStep.UP, PathMessage(3)),
        (PathStep.DOWN, PathMessage(reason="no device")),
    ):
        assert unpack_path_message(step, pack_path_message(message)) == (step, message)


def test_a_later_release_may_say_more() -> None:
    told = msgspec.json.decode(pack_path_message(PathMessage(reason="why")))
    assert unpack_path_message(6, msgspec.json.encode({**told, "more": [1]}))[1].reason == "why"


@pytest.mark.parametrize(
    ("step", "message", "says"),
    [
        (0, PathMessage(), "cannot be read"),
        (7, PathMessage(), "cannot be read"),
        (2, PathMessage(1), "CHOICE without the sender's end"),
        (3, PathMessage(1), "BUILT without"),
        (1, PathMessage(addresses=(ADDRESS,) * 257), "257 RDMA addresses"),
        (1, PathMessage(addresses=(RdmaAddress("a", 1, 0, "10.0.0.1", ROCE_V2),)), "'10.0.0.1' is no RDMA address"),
        (2, PathMessage(end=PathEnd(1, 1, 1500, 1, GID, 0, END.proof)), "1500 bytes are no MTU"),
        (2, PathMessage(end=PathEnd(1 << 24, 1, 1024, 1, GID, 0, END.proof)), "queue pair 16777216"),
        (2, PathMessage(end=PathEnd(1, -1, 1024, 1, GID, 0, END.proof)), "PSN -1"),
        (2, PathMessage(end=PathEnd(1, 1, 1024, 1, GID, 1 << 16, END.proof)), "LID 65536"),
        (2, PathMessage(end=PathEnd(1, 1, 1024, 0, GID, 0, END.proof)), "0 reads at once"),
        (2, PathMessage(end=PathEnd(1, 1, 1024, 1, "x", 0, END.proof)), "'x' is no RDMA address"),
        (2, PathMessage(end=PathEnd(1, 1, 1024, 1, GID, 0, RemoteRegion(0, 1, 0))), "no such region"),
        (2, PathMessage(end=PathEnd(1, 1, 1024, 1, GID, 0, RemoteRegion((1 << 64) - 1, 1, 2))), "beyond the last address"),
    ],
)
def test_messages_that_make_no_sense(step: int, message: PathMessage, says: str) -> None:
    with pytest.raises(FrameError, match=says):
        unpack_path_message(step, pack_path_message(message))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"attempt": "x"}', b"\xff\xfe", b'"' + b"x" * 70_000])
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(FrameError):
        unpack_path_message(1, data)


def test_offers_travel() -> None:
    regions = [RemoteRegion(1 << 40, 5, 100), RemoteRegion(0, 0xFFFFFFFF, 64 * MIB)]
    found, rest = unpack_offer(pack_offer(regions) + b"protobuf")
    assert found == regions
    assert bytes(rest) == b"protobuf"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "an offer of 0 bytes"),
        (bytes(8), "an offer of 0 regions"),
        (b"\2" + bytes(7) + bytes(16), "an offer of 2 regions in a header of 24"),
        (pack_offer([RemoteRegion(0, 1, 0)]), "no such region"),
        (pack_offer([RemoteRegion(0, 1, 1)] * 65), "an offer of 65 regions"),
        (pack_offer([RemoteRegion(0, 1, 40 * MIB)] * 2), "an offer of 83886080 bytes"),
        (pack_offer([RemoteRegion((1 << 64) - 1, 1, 2)]), "beyond the last address"),
    ],
)
def test_offers_that_make_no_sense(data: bytes, says: str) -> None:
    with pytest.raises(FrameError, match=says):
        unpack_offer(data)


@given(st.binary(max_size=200), st.integers(0, 9))
def test_any_bytes_are_a_message_or_refused(data: bytes, step: int) -> None:
    for decode in (lambda: unpack_offer(data), lambda: unpack_path_message(step, data)):
        with contextlib.suppress(FrameError):
            decode()


def test_what_is_an_address() -> None:
    assert is_address(GID)
    assert not is_address("0000:0000:0000:0000:0000:0000:0000:0000")
    assert not is_address("fe80::1")
