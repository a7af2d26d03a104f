"""A capability says what it was made to say, or nothing."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.ids import INODE_IDS_END, NAMESPACE_IDS_END, ChunkId, InodeId, file_chunk, page_chunk
from fs3.core.security.capability import (
    READ,
    WRITE,
    Capability,
    Subject,
    SubjectKind,
    holder_bytes_max,
    open_capability,
    peek_capability,
    seal_capability,
    subject_key,
    subject_keys,
    subject_of,
    subject_of_key,
)
from fs3.core.security.seal import DIGEST_BYTES, HEAD_BYTES, KeyRing, SealError, SealKind, seal
from fs3.core.security.tickets import seal_ticket
from fs3.model.principal import Principal, PrincipalKind, Right

RING = KeyRing(bytes(range(16)), {3: b"k" * 32, 4: b"l" * 32}, 4)
CONTENTS = st.integers(1, INODE_IDS_END - 1)
NAMESPACES = st.integers(1, NAMESPACE_IDS_END - 1)
SUBJECTS = CONTENTS.map(lambda number: Subject(SubjectKind.CONTENT, number)) | NAMESPACES.map(
    lambda number: Subject(SubjectKind.NAMESPACE, number)
)
CAPABILITIES = st.builds(
    Capability,
    SUBJECTS,
    st.integers(1, READ | WRITE),
    st.integers(0, 1 << 50),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    st.integers(0, 1 << 31),
    st.just(0),
)
_FIELDS = (slice(0, 1), slice(1, 2), slice(2, 6), slice(6, 14), slice(14, 22), slice(22, None))
"""Of a body: kind, rights, lifetime, subject, end, holder."""


def is_refused(message: bytes, ring: KeyRing = RING) -> bool:
    try:
        open_capability(ring, message)
    except SealError:
        return True
    return False


@given(CAPABILITIES)
def test_it_says_what_it_was_made_to_say(capability: Capability) -> None:
    message = seal_capability(RING, capability)
    assert open_capability(RING, message) == capability._replace(key=4)
    assert peek_capability(message) == capability


@given(CAPABILITIES)
def test_every_bit_counts(capability: Capability) -> None:
    message = seal_capability(RING, capability)
    for position in range(len(message) * 8):
        altered = bytearray(message)
        altered[position // 8] ^= 1 << position % 8
        assert is_refused(bytes(altered)), f"bit {position}"


@given(CAPABILITIES, CAPABILITIES)
def test_no_field_of_one_fits_another(one: Capability, other: Capability) -> None:
    first, second = seal_capability(RING, one), seal_capability(RING, other)
    body, donor = first[HEAD_BYTES:-DIGEST_BYTES], second[HEAD_BYTES:-DIGEST_BYTES]
    for field in _FIELDS:
        parts = [donor[each] if each is field else body[each] for each in _FIELDS]
        mixed = b"".join(parts)
        for seal_of in (first, second):
            message = first[:HEAD_BYTES] + mixed + seal_of[-DIGEST_BYTES:]
            if message not in (first, second):
                assert is_refused(message)


@given(CAPABILITIES, st.integers(0, 80))
def test_what_is_cut_or_longer_is_none(capability: Capability, count: int) -> None:
    message = seal_capability(RING, capability)
    assert is_refused(message[: min(count, len(message) - 1)])
    assert is_refused(message + bytes(count + 1))


@given(CAPABILITIES)
def test_it_counts_in_its_cluster_and_for_its_keys_only(capability: Capability) -> None:
    message = seal_capability(RING, capability)
    assert is_refused(message, KeyRing(b"another cluster!", RING.keys, 4))
    assert is_refused(message, KeyRing(RING.cluster, {3: RING.keys[3]}, 3))
    assert is_refused(message, KeyRing(RING.cluster, {4: b"m" * 32}, 4))
    older = seal_capability(KeyRing(RING.cluster, {3: RING.keys[3]}, 3), capability)
    assert open_capability(RING, older).key == 3


@given(CAPABILITIES)
def test_a_ticket_is_no_capability_and_the_other_way(capability: Capability) -> None:
    body = seal_capability(RING, capability)[HEAD_BYTES:-DIGEST_BYTES]
    assert is_refused(seal(RING, SealKind.TICKET, body))
    assert is_refused(seal_ticket(RING, Principal(PrincipalKind.USER, "ann", Right.USER)))
    with pytest.raises(SealError):
        peek_capability(seal_ticket(RING, Principal(PrincipalKind.USER, "ann", Right.USER)))


@given(st.binary(max_size=100))
def test_what_another_version_has_sealed_is_refused(body: bytes) -> None:
    message = seal(RING, SealKind.CAPABILITY, body)
    try:
        capability = open_capability(RING, message)
    except SealError:
        return
    assert seal_capability(RING, capability)[HEAD_BYTES:-DIGEST_BYTES] == body


@pytest.mark.parametrize(
    "wrong",
    [
        Capability(Subject(SubjectKind.CONTENT, 0), READ, 1, "ann"),
        Capability(Subject(SubjectKind.CONTENT, INODE_IDS_END), READ, 1, "ann"),
        Capability(Subject(SubjectKind.NAMESPACE, NAMESPACE_IDS_END), READ, 1, "ann"),
        Capability(Subject(SubjectKind.CONTENT, 1), 0, 1, "ann"),
        Capability(Subject(SubjectKind.CONTENT, 1), 4, 1, "ann"),
        Capability(Subject(SubjectKind.CONTENT, 1), READ, 1, ""),
        Capability(Subject(SubjectKind.CONTENT, 1), READ, 1, "a" * (holder_bytes_max + 1)),
    ],
)
def test_what_is_no_capability_is_not_sealed(wrong: Capability) -> None:
    with pytest.raises(ValueError, match="no"):
        seal_capability(RING, wrong)


def test_without_a_key_nothing_is_sealed() -> None:
    with pytest.raises(SealError):
        seal_capability(KeyRing(RING.cluster, {}, 0), Capability(Subject(SubjectKind.CONTENT, 1), READ, 1, "ann"))


# --- subjects --------------------------------------------------------------------------------------------------------

CHUNKS = st.builds(lambda inode, index: file_chunk(InodeId(inode), index), CONTENTS, st.integers(0, 1 << 40))
PAGES = st.builds(page_chunk, NAMESPACES, st.binary(min_size=12, max_size=12))


@given(SUBJECTS)
def test_a_key_names_one_subject(subject: Subject) -> None:
    assert subject_of_key(subject_key(subject)) == subject
    assert (subject_key(subject) < 0) == (subject.kind is SubjectKind.NAMESPACE)


@given(st.lists(CHUNKS, max_size=40) | st.lists(PAGES, max_size=40))
def test_keys_of_chunk_ids_are_those_of_their_subjects(chunks: list[ChunkId]) -> None:
    assert subject_keys(b"".join(chunks)) == {subject_key(subject_of(chunk)) for chunk in chunks}


@given(st.lists(CHUNKS | PAGES, min_size=1, max_size=20))
def test_of_mixed_ids_no_key_is_missing(chunks: list[ChunkId]) -> None:
    """What is of another kind than the first has a key that no capability has: it is never passed over."""
    keys = subject_keys(b"".join(chunks))
    mine = [chunk for chunk in chunks if (chunk[0] >= 0x80) == (chunks[0][0] >= 0x80)]
    others = [chunk for chunk in chunks if (chunk[0] >= 0x80) != (chunks[0][0] >= 0x80)]
    assert {subject_key(subject_of(chunk)) for chunk in mine} <= keys
    if others:
        there = {subject_key(subject_of(chunk)) for chunk in mine}
        strange = keys - there
        assert strange
        for key in strange:
            try:
                subject = subject_of_key(key)
            except OverflowError:
                continue
            limit = INODE_IDS_END if subject.kind is SubjectKind.CONTENT else NAMESPACE_IDS_END
            assert not 0 < subject.id < limit or subject_key(subject) != key


@given(st.binary(min_size=1, max_size=15))
def test_what_are_no_ids_is_refused(odd: bytes) -> None:
    with pytest.raises(ValueError, match="no chunk ids"):
        subject_keys(bytes(16) + odd)
    assert subject_keys(b"") == set()


def test_the_body_is_what_the_module_says() -> None:
    message = seal_capability(RING, Capability(Subject(SubjectKind.CONTENT, 5), READ | WRITE, 7, "ann", 9))
    assert message[HEAD_BYTES:-DIGEST_BYTES] == struct.pack("<BBIQQ", 1, 3, 9, 5, 7) + b"ann"
