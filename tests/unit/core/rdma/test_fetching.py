"""Fetches: cut into reads, as many as there are credits, in turn."""

from __future__ import annotations

from fs3.core.rdma.fetching import Fetching, PayloadFetch
from fs3.model.rdma import RemoteRegion


def test_a_payload_of_several_regions_is_cut() -> None:
    fetching = Fetching(10, 100, 1000)
    fetch = PayloadFetch([RemoteRegion(5000, 7, 150), RemoteRegion(9000, 8, 30)], "mine")
    fetching.begin(fetch)
    pieces = fetching.next_pieces(0)
    assert [(piece.address, piece.key, piece.offset, piece.length) for piece in pieces] == [
        (5000, 7, 0, 100),
        (5100, 7, 100, 50),
        (9000, 8, 150, 30),
    ]
    assert fetching.credits == 7
    assert fetching.on_completed(pieces[2].number, 1) is None
    assert fetching.on_completed(pieces[0].number, 1) is None
    assert fetching.on_completed(pieces[0].number, 1) is None  # once
    assert fetching.on_completed(pieces[1].number, 1) is fetch
    assert (fetching.credits, len(fetching)) == (10, 0)


def test_payloads_take_turns_and_credits_come_back() -> None:
    fetching = Fetching(2, 10, 1000)
    long, short = PayloadFetch([RemoteRegion(0, 1, 50)], "long"), PayloadFetch([RemoteRegion(100, 2, 10)], "short")
    fetching.begin(long)
    fetching.begin(short)
    first = fetching.next_pieces(0)
    assert [piece.fetch.item for piece in first] == ["long", "short"]
    assert fetching.next_pieces(0) == []
    assert fetching.on_completed(first[1].number, 1) is short
    (again,) = fetching.next_pieces(1)
    assert (again.fetch.item, again.offset) == ("long", 10)


def test_what_does_not_get_on_is_stalled() -> None:
    fetching = Fetching(2, 10, 1000)
    assert not fetching.is_stalled(5000)
    fetching.begin(PayloadFetch([RemoteRegion(0, 1, 50)], "mine"))
    first, _ = fetching.next_pieces(5000)
    assert not fetching.is_stalled(5999)
    fetching.on_completed(first.number, 5900)
    assert not fetching.is_stalled(6000)
    assert fetching.is_stalled(6900)


def test_a_closed_path_gives_back_what_was_under_way() -> None:
    fetching = Fetching(2, 10, 1000)
    fetches = [PayloadFetch([RemoteRegion(0, 1, 50)], name) for name in ("one", "two", "three")]
    for fetch in fetches:
        fetching.begin(fetch)
    fetching.next_pieces(0)
    assert fetching.close() == fetches
    assert (fetching.credits, len(fetching), fetching.next_pieces(0)) == (2, 0, [])
