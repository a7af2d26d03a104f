"""Pages of directories as columns: what fits, what no column says, and columns that contradict each other."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.model.inode import AppendTurn, Inode, InodeType, Layout
from fs3.model.namespace import Entry, Listing
from fs3.wire.meta_listing import fill_listing, listing_from_pb
from fs3.wire.pb import meta_pb2 as pb

ROOM = 1 << 20
FILE = Inode(5, InodeType.FILE, 0o644, 1, 2, 1, 3, -4, 5, 6, 7, 8, 0, Layout(1, 65536, 1, (3,)), truncations=2)


def entry_of(inode: Inode, name: str = "n") -> Entry:
    return Entry(name, inode.id, inode.type, inode)


def message_of(entries: list[Entry], room: int = ROOM, *, more: bool = False) -> pb.ListReply:
    message = pb.ListReply()
    fill_listing(message, Listing(entries, more), room)
    return pb.ListReply.FromString(message.SerializeToString())


def test_what_is_common_is_columns_and_layouts_travel_once():
    entries = [entry_of(replace(FILE, id=number, layout=Layout(1, 65536, 1, (number % 3,)))) for number in range(30)]
    message = message_of(entries)
    assert listing_from_pb(message) == Listing(entries, False)
    assert len(message.inodes.distinct_layouts) == 3
    assert not message.inodes.whole


@pytest.mark.parametrize(
    "unusual",
    [
        replace(FILE, type=InodeType.DIRECTORY, parent=1, layout=Layout(0, 0, 0)),
        replace(FILE, type=InodeType.SYMLINK, target="elsewhere"),
        replace(FILE, append=AppendTurn(1, 2, 3)),
        replace(FILE, type=InodeType.BLOCK_DEVICE, rdev=0x801),
    ],
)
def test_what_no_column_says_travels_whole(unusual):
    entries = [entry_of(FILE), entry_of(unusual), entry_of(FILE)]
    message = message_of(entries)
    assert message.inodes.whole_at[:] == [1]
    assert listing_from_pb(message) == Listing(entries, False)


@pytest.mark.parametrize("varied", ["layouts", "targets", "names"])
def test_what_does_not_fit_is_cut_and_there_is_more(varied):
    entries = []
    for number in range(500):
        layout = Layout(1, 65536, 300, tuple(range((1 << 32) - 300 - number, (1 << 32) - number)))
        inode = {
            "layouts": replace(FILE, layout=layout),
            "targets": replace(FILE, type=InodeType.SYMLINK, target="\U0001f600" * 300),
            "names": FILE,
        }[varied]
        entries.append(entry_of(inode, "\U0001f600" * 63))
    room = 64 * 1024
    message = message_of(entries, room)
    assert message.ByteSize() <= room
    assert message.more
    found = listing_from_pb(message).entries
    assert 1 < len(found) < len(entries)
    assert found == entries[: len(found)]
    assert listing_from_pb(message_of(entries, 1)) == Listing(entries[:1], True), "a reader gets on"


def test_an_empty_page_and_one_without_inodes():
    assert listing_from_pb(message_of([], more=False)) == Listing([], False)
    bare = [Entry("a", 7, InodeType.DIRECTORY), Entry("b", 8, InodeType.FILE)]
    assert listing_from_pb(message_of(bare, more=True)) == Listing(bare, True)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda message: message.names.append("x"), "names"),
        (lambda message: message.inode_ids.append(1), "inodes"),
        (lambda message: message.inodes.modes.append(1), "columns"),
        (lambda message: message.inodes.lengths.pop(), "columns"),
        (lambda message: message.inodes.whole_at.append(0), "columns"),
        (lambda message: message.inodes.ClearField("distinct_layouts"), "refers"),
        (lambda message: (message.inodes.whole_at.append(9), message.inodes.whole.add()), "refers"),
        (lambda message: message.raw_names.append(b"x"), "are bytes"),
        (lambda message: (message.raw_names_at.append(2), message.raw_names.append(b"x")), "are bytes"),
    ],
)
def test_columns_that_contradict_each_other_are_nonsense(break_it, said):
    message = message_of([entry_of(FILE), entry_of(FILE)])
    break_it(message)
    with pytest.raises(FS3Error, match=said) as caught:
        listing_from_pb(message)
    assert caught.value.code is Code.PROTOCOL


def test_a_type_of_newer_software_does_not_break_a_listing():
    message = message_of([entry_of(FILE), entry_of(FILE)])
    message.types[1] = 77
    first, second = listing_from_pb(message).entries
    assert first.type is InodeType.FILE
    assert second.type is second.inode.type is InodeType.OTHER


def test_names_and_targets_that_are_not_utf8_travel_as_bytes():
    link = replace(FILE, type=InodeType.SYMLINK, raw_target=b"to/\xff")
    entries = [entry_of(FILE, "caf\udce9"), entry_of(FILE, "plain"), entry_of(link, "\udcff" * 255)]
    message = message_of(entries)
    assert listing_from_pb(message) == Listing(entries, False)
    assert (message.names[:], message.raw_names_at[:]) == (["", "plain", ""], [0, 2])
    assert message.raw_names[0] == b"caf\xe9"
    assert message.inodes.whole[0].target == "to/\ufffd", "what a client that does not know the field is told"


def test_raw_names_count_for_the_size_of_a_page():
    entries = [entry_of(FILE, "\udcff" * 255) for _ in range(100)]
    message = message_of(entries, 8 * 1024)
    assert message.ByteSize() <= 8 * 1024
    assert message.more
