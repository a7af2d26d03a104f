import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.checksum import checksums
from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.ids import ChainId, ChunkId, ClientId, TargetId, page_chunk
from fs3.base.limits import content_bytes_max, ios_per_read_max, keys_per_find_max, updates_per_request_max
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.model.chunk import FILLS, Tag, Update, UpdateKind, UpdateResult
from fs3.wire import storage
from fs3.wire.pb import storage_pb2 as pb

CHUNK = bytes(15) + b"\x01"


def read_request(count=2, **columns):
    wanted = {
        "chunks": CHUNK * count,
        "chains": [1] * count,
        "chain_versions": [1] * count,
        "offsets": [0] * count,
        "lengths": [10] * count,
    }
    wanted.update(columns)
    return pb.ReadRequest(**wanted)


def test_a_read_request_becomes_columns():
    columns = storage.read_request_from_pb(read_request(2, offsets=[0, 5], lengths=[7, 8]))
    assert columns.chunks == (CHUNK, CHUNK)
    assert columns.offsets == [0, 5]
    assert columns.lengths == [7, 8]


def test_an_empty_read_is_fine():
    assert storage.read_request_from_pb(pb.ReadRequest()).chains == []


@pytest.mark.parametrize(
    ("column", "request_"),
    [
        ("chunks", read_request(chunks=CHUNK)),
        ("chunks", read_request(chunks=CHUNK * 2 + b"x")),
        ("chain_versions", read_request(chain_versions=[1])),
        ("offsets", read_request(offsets=[1, 2, 3])),
        ("lengths", read_request(lengths=[])),
        ("lengths", read_request(offsets=[0, content_bytes_max - 64], lengths=[1, 65])),
        ("lengths", read_request(lengths=[20 * MIB, 20 * MIB])),
        ("chains", read_request(ios_per_read_max + 1)),
    ],
)
def test_a_bad_read_request_names_the_column(column, request_):
    with pytest.raises(InvalidArgument, match=f"^{column}: "):
        storage.read_request_from_pb(request_)


def test_one_read_may_be_as_large_as_a_chunk():
    storage.read_request_from_pb(read_request(1, lengths=[content_bytes_max]))


def read_reply(count=2, **columns):
    wanted = {
        "codes": [0] * count,
        "lengths": [10] * count,
        "versions": [1] * count,
        "piece_bytes": [64 * KIB] * count,
        "checksums": [1] * count,
    }
    wanted.update(columns)
    return pb.ReadReply(**wanted)


def test_a_read_reply_becomes_columns():
    answer = storage.read_reply_from_pb(read_reply(codes=[0, 201], lengths=[4, 0]), [10, 10], 4, True)
    assert answer.codes == [0, 201]
    assert answer.lengths == [4, 0]


@pytest.mark.parametrize("lease_ms", [None, 0, 2000])
def test_a_block_lease_travels_and_none_is_another_thing_than_a_short_one(lease_ms):
    reply = pb.ReadReply.FromString(storage.read_reply_to_pb([0], [10], [1], [0], (), 1, lease_ms).SerializeToString())
    assert storage.block_lease_of(reply) == lease_ms


@pytest.mark.parametrize(
    ("reply", "payload_length"),
    [
        (read_reply(1), 10),
        (read_reply(codes=[0]), 20),
        (read_reply(), 19),
        (read_reply(lengths=[11, 9]), 20),
        (read_reply(codes=[305, 0]), 20),
        (read_reply(piece_bytes=[0, 5]), 20),
    ],
)
def test_a_read_reply_that_contradicts_itself_is_refused(reply, payload_length):
    with pytest.raises(FS3Error) as caught:
        storage.read_reply_from_pb(reply, [10, 10], payload_length, True)
    assert caught.value.code is Code.PROTOCOL


# --- updates ---------------------------------------------------------------------------------------------------------

whole_kinds = st.sampled_from((UpdateKind.PUT, UpdateKind.FILL))


@st.composite
def updates(draw, sender):
    kind = draw(st.sampled_from(list(UpdateKind) if sender else [kind for kind in UpdateKind if kind not in FILLS]))
    data = None
    offset = 0
    if kind in (UpdateKind.WRITE, UpdateKind.TRUNCATE):
        offset = draw(st.integers(0, 1 * MIB))
    if kind in FILLS | {UpdateKind.WRITE, UpdateKind.PUT}:
        data = memoryview(draw(st.binary(max_size=50)) * draw(st.sampled_from((0, 1, 3000))))
    client = draw(st.sampled_from((b"", b"c" * 16, b"d" * 16)))
    tag = Tag(ClientId(client), draw(st.integers(0, 9)), draw(st.integers(1, 1 << 60))) if client else storage.UNTAGGED
    return Update(
        ChunkId(draw(st.binary(min_size=16, max_size=16))),
        kind,
        ChainId(draw(st.integers(1, 99))),
        draw(st.integers(1, 99)),
        draw(st.integers(1, 1 << 30)) if sender else 0,
        offset,
        len(data) if data is not None else 0,
        tag,
        tuple(checksums(data, offset)) if data is not None else (),
        draw(st.integers(0, MIB)),
        data,
        TargetId(sender),
        draw(st.integers(1, 1 << 62)) if sender else 0,
        7 if sender else 0,
    )


@given(st.data(), st.sampled_from((0, 12)))
def test_updates_survive_the_wire(data, sender):
    sent = data.draw(st.lists(updates(sender), max_size=8))
    message = storage.update_request_to_pb(sent, sender)
    payload = memoryview(b"".join(bytes(update.data) for update in sent if update.data is not None))
    received = storage.update_request_from_pb(pb.UpdateRequest.FromString(message.SerializeToString()), payload)
    assert received == sent


def update_request(count=1, **columns):
    data = memoryview(b"0123456789")
    update = Update(
        ChunkId(CHUNK), UpdateKind.WRITE, ChainId(1), 1, 0, 0, 10, Tag(ClientId(b"c" * 16), 1, 1), tuple(checksums(data)), 0, data
    )
    message = storage.update_request_to_pb([update] * count)
    for name, value in columns.items():
        if isinstance(value, list):
            del getattr(message, name)[:]
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return message, memoryview(b"0123456789" * count)


@pytest.mark.parametrize(
    ("column", "changes"),
    [
        ("chunks", {"chunks": b"short"}),
        ("client_ids", {"client_ids": b"c" * 15}),
        ("kinds", {"kinds": []}),
        ("kinds", {"kinds": [9]}),
        ("kinds", {"kinds": [UpdateKind.FILL]}),
        ("chain_versions", {"chain_versions": []}),
        ("offsets", {"offsets": [1, 2]}),
        ("lengths", {"lengths": [11]}),
        ("lengths", {"kinds": [UpdateKind.REMOVE]}),
        ("lengths", {"offsets": [content_bytes_max - 4]}),
        ("offsets", {"kinds": [UpdateKind.PUT], "offsets": [3]}),
        ("versions", {"versions": [1]}),
        ("versions", {"from_target": 5, "serials": [1]}),
        ("serials", {"serials": [1]}),
        ("serials", {"from_target": 5, "versions": [1]}),
        ("checksums", {"checksums": []}),
        ("checksums", {"checksums": [1, 2]}),
        ("channels", {"channels": []}),
        ("seqs", {"seqs": []}),
        ("seqs", {"seqs": [0]}),
        ("reserves", {"reserves": []}),
        ("reserves", {"reserves": [80 * MIB]}),
        ("of_lost_pages", {"of_lost_pages": True}),
    ],
)
def test_a_bad_update_request_names_the_column(column, changes):
    message, payload = update_request(**changes)
    with pytest.raises(InvalidArgument, match=f"^{column}: "):
        storage.update_request_from_pb(message, payload)


def test_removals_of_lost_pages_survive_the_wire():
    tag = Tag(ClientId(b"c" * 16), 1, 1)
    removals = [Update(page_chunk(7, bytes([n]) * 16), UpdateKind.REMOVE, ChainId(1), 1, 0, 0, 0, tag) for n in range(3)]
    message = storage.update_request_to_pb(removals)
    assert storage.update_request_from_pb(message, None) == removals
    message.of_lost_pages = True
    assert [update.is_of_lost_page for update in storage.update_request_from_pb(message, None)] == [True] * 3
    message.chunks = CHUNK * 3
    with pytest.raises(InvalidArgument, match=r"^of_lost_pages: "):
        storage.update_request_from_pb(message, None)


def test_a_batch_of_updates_has_limits():
    message, payload = update_request(updates_per_request_max + 1)
    with pytest.raises(InvalidArgument, match=r"^chains: "):
        storage.update_request_from_pb(message, payload)
    message, _ = update_request(2, lengths=[5 * MIB, 5 * MIB])
    with pytest.raises(InvalidArgument, match=r"^lengths: .* in one request"):
        storage.update_request_from_pb(message, memoryview(bytes(10 * MIB)))


def test_an_update_without_the_payload_it_names_is_refused():
    message, _ = update_request()
    with pytest.raises(InvalidArgument, match=r"^lengths: 10 bytes for a payload of 0"):
        storage.update_request_from_pb(message, None)


def test_results_survive_the_wire():
    results = [
        UpdateResult(Code.OK, 3, 4, 5),
        UpdateResult(Code.NO_SPACE, message="target 3: full"),
        UpdateResult(Code.EXISTS, 1, 9, 8),
    ]
    message = storage.update_reply_to_pb(results, 12)
    assert message.routing_version == 12
    received = storage.update_reply_from_pb(message, 3)
    assert received[0] == results[0]
    assert received[1] == results[1]
    assert (received[2].code, received[2].version, received[2].length) == (Code.EXISTS, 1, 9)
    with pytest.raises(FS3Error, match="answered with 3 results"):
        storage.update_reply_from_pb(message, 4)


def test_a_code_of_the_future_is_an_internal_error():
    message = storage.update_reply_to_pb([UpdateResult(Code.OK)], 1)
    message.codes[0] = 999
    assert storage.update_reply_from_pb(message, 1)[0].code is Code.INTERNAL


def test_finds_are_checked():
    chunks, chains, versions = storage.find_request_from_pb(
        pb.FindRequest(chunks=CHUNK * 2, chains=[1, 2], chain_versions=[3, 4])
    )
    assert (chunks, chains, versions) == ((CHUNK, CHUNK), [1, 2], [3, 4])
    with pytest.raises(InvalidArgument, match=r"^chain_versions: "):
        storage.find_request_from_pb(pb.FindRequest(chunks=CHUNK, chains=[1]))
    with pytest.raises(InvalidArgument, match=r"^chains: "):
        storage.find_request_from_pb(pb.FindRequest(chains=[1] * (keys_per_find_max + 1)))
    assert storage.find_reply_from_pb(pb.FindReply(codes=[0], lengths=[4]), 1) == ([0], [4])
    with pytest.raises(FS3Error, match="1 chunks were looked for"):
        storage.find_reply_from_pb(pb.FindReply(codes=[0, 0], lengths=[4]), 1)
