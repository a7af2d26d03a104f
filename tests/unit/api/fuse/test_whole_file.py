"""A small file that is changed in memory."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from fs3.api.fuse.whole_file import WholeFile

CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 60), st.binary(max_size=20)),
        st.tuples(st.just("cut"), st.integers(0, 60), st.just(b"")),
    ),
    max_size=12,
)


@given(st.binary(max_size=40), CHANGES)
def test_what_was_written_is_known_beside_what_was_there(stored: bytes, changes: list[tuple[str, int, bytes]]) -> None:
    """Written through a session onto the file as it was, the ranges and the cut make the same bytes."""
    whole = WholeFile(stored)
    plain = bytearray(stored)
    for kind, at, data in changes:
        if kind == "write":
            whole.write(memoryview(data), at)
            plain.extend(bytes(max(0, at - len(plain))))
            plain[at : at + len(data)] = data
        else:
            whole.truncate(at)
            del plain[at:]
            plain.extend(bytes(at - len(plain)))
    assert whole.data == plain
    assert whole.is_dirty == bool(changes)
    through = bytearray(stored)
    if whole.cut is not None:
        del through[whole.cut :]
    for offset, part in whole.written():
        through.extend(bytes(max(0, offset - len(through))))
        through[offset : offset + len(part)] = part
    through.extend(bytes(len(plain) - len(through)))
    assert through == plain
    starts = [(offset, offset + len(part)) for offset, part in whole.written()]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(starts))


def test_stored_is_clean() -> None:
    whole = WholeFile(b"abc")
    whole.write(memoryview(b"x"), 1)
    whole.truncate(2)
    whole.on_stored(change=2)
    assert not whole.is_dirty
    assert whole.cut is None
    assert whole.written() == []
    assert whole.data == b"ax"
