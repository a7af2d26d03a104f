"""Lists of places in files of the host."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.limits import frame_payload_bytes_max
from fs3.wire.frames import FrameError
from fs3.wire.places import INLINE, Place, pack_places, unpack_places

PLACES = st.lists(
    st.one_of(
        st.builds(Place, file=st.integers(1, 2**32 - 1), length=st.integers(1, 2**20), offset=st.integers(0, 2**64 - 1)),
        st.builds(Place, file=st.just(INLINE), length=st.integers(1, 100), offset=st.just(0)),
    ),
    max_size=40,
)


@given(PLACES)
def test_they_come_back_with_the_inline_bytes(places: list[Place]) -> None:
    inline = bytes(sum(place.length for place in places if place.file == INLINE))
    found, rest = unpack_places(memoryview(pack_places(places) + inline))
    assert found == places
    assert rest == inline


def test_the_layout_is_fixed() -> None:
    assert pack_places([Place(1, 2, 3)]).hex() == "0100000000000000" + "01000000" + "02000000" + "0300000000000000"


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "a list of places of 0 bytes"),
        (b"\1\0\0\0\0\0\0", "a list of places of 7 bytes"),
        (pack_places([Place(1, 2, 3)])[:-1], "1 places in a list of 23 bytes"),
        (b"\xff\xff\xff\xff" + bytes(20), "4294967295 places in a list of 24 bytes"),
        (pack_places([Place(INLINE, 2, 0)]) + b"a", "1 inline bytes are not what the places take of them"),
        (pack_places([Place(1, 2, 0)]) + b"a", "1 inline bytes are not what the places take of them"),
        (pack_places([Place(1, 0, 0)]), "or an empty one"),
        (pack_places([Place(1, frame_payload_bytes_max, 0), Place(1, 1, 0)]), "bytes in all"),
    ],
)
def test_what_is_no_list(payload: bytes, why: str) -> None:
    with pytest.raises(FrameError, match=re.escape(why)):
        unpack_places(memoryview(payload))
