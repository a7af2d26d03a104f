"""Whether a target serves: those who look at the board see what those who ask are answered."""

from __future__ import annotations

from typing import Any

import pytest

from fs3.base.ids import ChainId, ChunkId, InodeId, NodeId, TargetId, file_chunk
from fs3.base.status import Code
from fs3.core.craq.change_board import BOARD_WORDS, TARGETS_MAX, WORD_BYTES, BoardReader, ChangeBoard, slot_of
from fs3.model.chain import Chain, PublicState, Slot
from fs3.services.storage.target_gate import TargetGate

HERE, OTHER = TargetId(101), TargetId(102)
SERVING, SYNCING = PublicState.SERVING, PublicState.SYNCING
A = file_chunk(InodeId(5), 0)


def chain_of(version: int, state: PublicState = SERVING, *, first: bool = False) -> Chain:
    """A chain of the target and another one, which is before it, or with `first` behind."""
    slots = (Slot(HERE, NodeId(1), state), Slot(OTHER, NodeId(2), SERVING))
    return Chain(ChainId(1), version, slots if first else slots[::-1])


class Store:
    """What a gate sees of a chunk store."""

    def __init__(self) -> None:
        self.on_change: Any = None


class Made:
    """A gate, the board, and a client that looks at it."""

    def __init__(self) -> None:
        memory = memoryview(bytearray(BOARD_WORDS * WORD_BYTES)).cast("Q")
        self.board, self.reader = ChangeBoard(memory, 5), BoardReader(memory, 5)
        self.store = Store()
        self.lease = 1000
        self.gate = TargetGate(HERE, self.store, self)  # type: ignore[arg-type]

    def lease_until(self, target: TargetId) -> int:
        """See `NodeContext`."""
        assert target == HERE
        return self.lease

    def join(self) -> Any:
        """Join the board; what is told from then on."""
        assert self.gate.join(self.board)
        return self.gate.told


@pytest.fixture
def made() -> Made:
    return Made()


def test_who_asks_is_answered_under_the_chain_that_is_set(made: Made) -> None:
    assert made.gate.answer(3, 0) == (Code.NOT_SERVING, False)
    made.gate.set_chain(chain_of(3))
    assert made.gate.answer(3, 999) == (Code.OK, False)
    assert made.gate.answer(3, 1000)[0] is Code.LEASE
    assert made.gate.answer(2, 0)[0] is Code.WRONG_CHAIN_VERSION
    assert made.gate.answer(4, 0)[0] is Code.WRONG_CHAIN_VERSION
    made.gate.set_chain(chain_of(4, first=True))
    assert made.gate.answer(4, 0) == (Code.OK, True)
    made.gate.set_chain(chain_of(5, SYNCING))
    assert made.gate.answer(5, 0)[0] is Code.NOT_SERVING
    made.gate.set_chain(None)
    assert made.gate.answer(5, 0) == (Code.NOT_SERVING, False)


def test_nothing_is_told_or_counted_before_it_is_joined(made: Made) -> None:
    made.gate.set_chain(chain_of(3))
    made.gate.on_lease_changed()
    assert made.gate.told is None
    assert made.store.on_change is None
    made.gate.close()


def test_it_joins_once_and_counts_what_its_store_tells(made: Made) -> None:
    made.gate.set_chain(chain_of(3))
    told = made.join()
    assert made.join() == told
    made.store.on_change(A)
    assert made.reader.words[slot_of(A)] == 1
    assert made.reader.serves(told, 999)
    assert not made.reader.serves(told, 1000)


def test_a_full_board_has_no_room(made: Made) -> None:
    for _ in range(TARGETS_MAX):
        made.board.add_target()
    assert not made.gate.join(made.board)
    assert made.gate.told is None
    assert made.store.on_change is None


@pytest.mark.parametrize(
    "chain", [None, chain_of(5), chain_of(4, first=True), chain_of(4, SYNCING), chain_of(4, PublicState.OFFLINE)]
)
def test_another_chain_voids_what_was_told(made: Made, chain: Chain | None) -> None:
    made.gate.set_chain(chain_of(4))
    told = made.join()
    assert made.reader.serves(told, 0)
    made.gate.set_chain(chain)
    assert not made.reader.serves(told, 0)
    now = made.gate.told
    assert now is not None
    is_ok = chain is not None and made.gate.answer(chain.version, 0)[0] is Code.OK
    assert made.reader.serves(now, 0) == is_ok, "the board says what is answered"
    made.gate.set_chain(chain_of(4))
    assert not made.reader.serves(told, 0), "void for good"


def test_the_same_chain_changes_nothing(made: Made) -> None:
    chain = chain_of(4)
    made.gate.set_chain(chain)
    told = made.join()
    made.gate.set_chain(chain)
    assert made.gate.told == told
    assert made.reader.serves(told, 0)


def test_the_lease_is_that_of_the_node(made: Made) -> None:
    made.gate.set_chain(chain_of(4))
    told = made.join()
    made.lease = 5000
    assert not made.reader.serves(told, 1000)
    made.gate.on_lease_changed()
    assert made.reader.serves(told, 4999)
    assert not made.reader.serves(told, 5000)
    made.lease = 0
    made.gate.on_lease_changed()
    assert not made.reader.serves(told, 0)
    made.lease = 5000
    made.gate.on_lease_changed()
    assert made.reader.serves(told, 0), "the lease alone voids nothing"


@pytest.mark.parametrize("chain", [None, chain_of(4, SYNCING)])
def test_a_lease_alone_serves_nothing(made: Made, chain: Chain | None) -> None:
    made.gate.set_chain(chain)
    told = made.join()
    made.gate.on_lease_changed()
    assert made.reader.words[told.row + 1] == 0
    assert not made.reader.serves(told, 0)


@pytest.mark.parametrize("end", ["close", "part"])
def test_a_target_that_is_gone_serves_nothing_and_leaves_its_row(made: Made, end: str) -> None:
    made.gate.set_chain(chain_of(4))
    told = made.join()
    getattr(made.gate, end)()
    assert not made.reader.serves(told, 0)
    assert made.store.on_change is None
    assert made.gate.told is None
    assert made.gate.answer(4, 0)[0] is (Code.NOT_SERVING if end == "close" else Code.OK)
    made.gate.on_lease_changed()
    assert made.reader.words[told.row + 1] == 0
    assert made.board.add_target() == told.row


def test_it_may_join_again(made: Made) -> None:
    made.gate.set_chain(chain_of(4))
    told = made.join()
    made.gate.part()
    again = made.join()
    assert again.row == told.row
    assert made.reader.serves(again, 0)
    assert not made.reader.serves(told, 0)


def test_another_target_on_the_board_is_not_touched(made: Made) -> None:
    other = Made()
    other.board, other.reader = made.board, made.reader
    for each in (made, other):
        each.gate.set_chain(chain_of(4))
    mine, others = made.join(), other.join()
    assert mine.row != others.row
    made.gate.close()
    assert made.reader.serves(others, 0)
    chunk = ChunkId(bytes(16))
    other.store.on_change(chunk)
    assert made.reader.words[slot_of(chunk)] == 1
