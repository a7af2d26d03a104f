"""Keys keep the order of what they are made of, stay apart, and fit."""

from hypothesis import given
from hypothesis import strategies as st

from fs3.base.limits import key_bytes_stored_max, name_bytes_max
from fs3.core.meta import keys

INODES = st.integers(1, (1 << 56) - 1)
NAMES = st.binary(min_size=1, max_size=name_bytes_max).filter(lambda name: b"\0" not in name)
CLIENTS = st.binary(min_size=16, max_size=16)


@given(st.tuples(INODES, NAMES), st.tuples(INODES, NAMES))
def test_entries_are_in_the_order_of_directory_and_name(first, second):
    assert (keys.dirent_key(*first) < keys.dirent_key(*second)) == (first < second)
    assert len(keys.dirent_key(*first)) <= key_bytes_stored_max


@given(INODES, NAMES, INODES, NAMES)
def test_the_range_behind_a_name_holds_exactly_the_names_behind_it(directory, after, other, name):
    begin, end = keys.dirents_range(directory, after)
    assert (begin <= keys.dirent_key(directory, name) < end) == (name > after)
    begin, end = keys.dirents_range(directory)
    assert begin <= keys.dirent_key(directory, name) < end
    assert (begin <= keys.dirent_key(other, name) < end) == (other == directory)


@given(INODES, st.integers(1, (1 << 64) - 1), INODES)
def test_the_sessions_of_a_file(inode, session, other):
    begin, end = keys.sessions_range(inode)
    assert begin <= keys.session_key(inode, session) < end
    assert (begin <= keys.session_key(other, session) < end) == (other == inode)


@given(st.tuples(CLIENTS, st.integers(1, (1 << 64) - 1)), st.tuples(CLIENTS, st.integers(1, (1 << 64) - 1)))
def test_requests_are_in_the_order_of_client_and_number(first, second):
    assert (keys.request_key(*first) < keys.request_key(*second)) == (first < second)
    assert keys.client_of(keys.request_key(*first)) == first[0]
    assert keys.request_key(*first) < keys.after_client(first[0]) <= keys.end_of(keys.REQUEST)
    if second[0] > first[0]:
        assert keys.request_key(*second) >= keys.after_client(first[0])


@given(st.tuples(st.integers(1, 2), st.integers(0, (1 << 64) - 1), INODES), st.integers(1, 2))
def test_the_garbage_of_one_kind(row, kind):
    begin, end = keys.garbage_range(kind)
    assert (begin <= keys.garbage_key(*row) < end) == (row[0] == kind)


def test_no_prefix_begins_another():
    prefixes = [keys.INODE, keys.DIRENT, keys.SESSION, keys.REQUEST, keys.GARBAGE, keys.COUNTERS]
    assert len(set(prefixes)) == len(prefixes)
    assert {len(prefix) for prefix in prefixes} == {keys.PREFIX_BYTES}
