"""The fixed header of a frame, and who is told apart by first bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.limits import frame_header_bytes_max, frame_payload_bytes_max
from fs3.wire.frames import HEADER_BYTES, MAGIC, PROTOCOL_VERSION, Frame, FrameError, FrameKind, foreign_protocol, pack, unpack

FRAMES = st.builds(
    Frame,
    kind=st.sampled_from([kind.value for kind in FrameKind]),
    method=st.integers(0, 0xFFFF),
    code=st.integers(0, 0xFFFF),
    request_id=st.integers(0, 2**64 - 1),
    header_length=st.integers(0, frame_header_bytes_max),
    payload_length=st.integers(0, frame_payload_bytes_max),
    timeout_ms=st.integers(0, 2**32 - 1),
)


def packed(frame: Frame) -> bytes:
    return pack(
        frame.kind, frame.method, frame.request_id, frame.header_length, frame.payload_length, frame.code, frame.timeout_ms
    )


@given(FRAMES, st.integers(0, 50))
def test_headers_come_back_as_they_were(frame: Frame, at: int) -> None:
    data = bytes(at) + packed(frame)
    assert len(data) == at + HEADER_BYTES == at + 28
    assert unpack(data, at) == frame
    assert isinstance(unpack(bytearray(data), at), Frame)


def test_the_layout_is_fixed() -> None:
    """What is on the wire must never change by accident."""
    assert (
        pack(FrameKind.REQUEST, 0x0301, 7, 3, 4, timeout_ms=5).hex() == "533f0101010300000700000000000000030000000400000005000000"
    )
    assert pack(FrameKind.REPLY, 0x0301, 7, 3, 4, code=305).hex() == "533f0102010331010700000000000000030000000400000000000000"


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, b"XX", "not an fs3 frame (magic 0x5858)"),
        (2, b"\x09", f"frame of protocol 9, this side speaks {PROTOCOL_VERSION}"),
        (3, b"\x00", "unknown kind of frame 0"),
        (3, b"\x07", "unknown kind of frame 7"),
        (16, (frame_header_bytes_max + 1).to_bytes(4, "little"), "header of 1048577 bytes, at most 1048576"),
        (20, b"\xff\xff\xff\xff", "payload of 4294967295 bytes, at most"),
    ],
)
def test_what_is_no_frame_is_refused_by_name(at: int, value: bytes, said: str) -> None:
    data = bytearray(pack(FrameKind.REQUEST, 1, 1, 0))
    data[at : at + len(value)] = value
    with pytest.raises(FrameError) as caught:
        unpack(data)
    assert said in str(caught.value)


@given(FRAMES)
def test_the_start_of_a_frame_is_no_stranger(frame: Frame) -> None:
    data = packed(frame)
    for length in range(1, len(data) + 1):
        assert foreign_protocol(data[:length]) is None


@pytest.mark.parametrize(
    ("first", "who"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "gRPC (HTTP/2) client"),
        (b"GET / HTTP/1.1\r\n", "an HTTP client"),
        (b"POST /x", "an HTTP client"),
        (b"HTTP/1.1 400 Bad Request", "an HTTP server"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "a TLS client"),
        (b"SSH-2.0-OpenSSH_9.6", "an SSH peer"),
        (b"\x00\x00\x18\x04\x00\x00\x00\x00\x00\x00\x05", "gRPC (HTTP/2) server"),
        (b"hello, I am nobody you know", "not an fs3 peer: it sent b'hello, I am nobo'"),
    ],
)
def test_strangers_are_known_by_their_first_bytes(first: bytes, who: str) -> None:
    found = foreign_protocol(first)
    assert found is not None
    assert who in found


def test_magic_is_no_ascii_of_another_protocol() -> None:
    assert MAGIC.to_bytes(2, "little") == b"S?"
