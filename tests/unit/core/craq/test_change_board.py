"""The board of changes: what a client was told holds exactly as long as the node would say the same again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fs3.base.ids import InodeId, file_chunk
from fs3.core.craq.change_board import (
    BOARD_WORDS,
    FORMAT,
    SLOTS,
    TARGETS_MAX,
    WORD_BYTES,
    BoardReader,
    ChangeBoard,
    is_row,
    is_slot,
    slot_of,
)

TOKEN = (1 << 64) - 5
A, B, C = (file_chunk(InodeId(5), index) for index in range(3))


def made() -> tuple[ChangeBoard, BoardReader]:
    """A board, and one of its readers."""
    memory = memoryview(bytearray(BOARD_WORDS * WORD_BYTES))
    return ChangeBoard(memory.cast("Q"), TOKEN), BoardReader(memory.toreadonly().cast("Q"), TOKEN)


def joined(board: ChangeBoard) -> int:
    """The row of one more target."""
    row = board.add_target()
    assert row is not None
    return row


def test_words_are_where_clients_of_any_release_look_for_them() -> None:
    board, reader = made()
    assert (reader.words[0], reader.words[1]) == (FORMAT, TOKEN)
    assert (BOARD_WORDS, joined(board), joined(board)) == (8 + 2 * 1024 + (1 << 18), 8, 10)
    slots = {slot_of(file_chunk(InodeId(7), index)) for index in range(1000)}
    assert len(slots) > 990, "chunks of a file are spread"
    assert min(slots) >= 8 + 2 * TARGETS_MAX
    assert max(slots) < BOARD_WORDS


def test_rows_and_slots_are_known_by_their_number() -> None:
    rows = [word for word in range(-2, BOARD_WORDS + 2) if is_row(word)]
    slots = [word for word in range(-2, BOARD_WORDS + 2) if is_slot(word)]
    assert rows == list(range(8, 8 + 2 * TARGETS_MAX, 2))
    assert slots == list(range(8 + 2 * TARGETS_MAX, BOARD_WORDS))
    assert len(slots) == SLOTS


def test_a_change_is_counted_in_the_slot_of_its_chunk_alone() -> None:
    board, reader = made()
    before = bytes(reader.words)
    board.count_change(A)
    board.count_change(A)
    assert board.changes(slot_of(A)) == reader.words[slot_of(A)] == 2
    assert board.changes(slot_of(B)) == 0
    after = bytes(reader.words)
    place = slot_of(A) * WORD_BYTES
    assert after[:place] + after[place + WORD_BYTES :] == before[:place] + before[place + WORD_BYTES :]


def test_a_target_serves_until_its_lease_ends_and_not_at_that_moment() -> None:
    board, reader = made()
    row = joined(board)
    told = board.gate(row)
    assert not reader.serves(told, 0), "it does not serve before it is said"
    board.extend(row, 1000)
    assert reader.serves(told, 0)
    assert reader.serves(told, 999)
    assert not reader.serves(told, 1000)
    board.extend(row, 2000)
    assert reader.serves(told, 1000), "extended: it is what was told all the same"
    board.extend(row, 0)
    assert not reader.serves(told, 0)


def test_what_was_told_in_an_epoch_is_void_in_every_later_one() -> None:
    board, reader = made()
    row, other = joined(board), joined(board)
    for each in (row, other):
        board.extend(each, 1000)
    told, of_other = board.gate(row), board.gate(other)
    board.begin_epoch(row)
    assert not reader.serves(told, 1)
    assert reader.serves(board.gate(row), 1)
    assert reader.serves(of_other, 1)
    board.begin_epoch(row)
    assert not reader.serves(told, 1)


def test_a_row_that_is_given_again_serves_nothing_that_was_told_of_its_former_target() -> None:
    board, reader = made()
    row = joined(board)
    board.extend(row, 1000)
    told = board.gate(row)
    board.remove_target(row)
    assert not reader.serves(told, 1)
    assert not reader.serves(board.gate(row), 1), "there is no lease"
    assert joined(board) == row
    board.extend(row, 1000)
    assert not reader.serves(told, 1)
    assert reader.serves(board.gate(row), 1)


def test_there_is_room_for_so_many_targets() -> None:
    board, _ = made()
    rows = [joined(board) for _ in range(TARGETS_MAX)]
    assert len(set(rows)) == TARGETS_MAX
    assert all(map(is_row, rows))
    assert board.add_target() is None
    board.remove_target(rows[7])
    assert board.add_target() == rows[7]
    assert board.add_target() is None


def test_numbers_begin_anew_after_the_last_one() -> None:
    memory = memoryview(bytearray(BOARD_WORDS * WORD_BYTES)).cast("Q")
    board, reader = ChangeBoard(memory, TOKEN), BoardReader(memory, TOKEN)
    row = joined(board)
    memory[row] = memory[slot_of(A)] = (1 << 64) - 1
    board.extend(row, (1 << 63) - 1)
    told = board.gate(row)
    assert reader.serves(told, 1)
    board.begin_epoch(row)
    board.count_change(A)
    assert not reader.serves(told, 1)
    assert board.changes(slot_of(A)) == 0


@pytest.mark.parametrize("wrong", ["token", "format", "short", "long", "bytes", "zeros"])
def test_a_reader_refuses_what_is_not_the_board_that_was_named(wrong: str) -> None:
    memory = memoryview(bytearray(BOARD_WORDS * WORD_BYTES))
    ChangeBoard(memory.cast("Q"), TOKEN)
    words, token = memory.cast("Q"), TOKEN
    match wrong:
        case "token":
            token += 1
        case "format":
            words[0] += 1
        case "short":
            words = words[:-1]
        case "long":
            words = memoryview(bytes(memory) + bytes(WORD_BYTES)).cast("Q")
        case "bytes":
            words = memory
        case "zeros":
            words = memoryview(bytes(BOARD_WORDS * WORD_BYTES)).cast("Q")
    with pytest.raises(ValueError, match="not the board"):
        BoardReader(words, token)


# --- the rule ----------------------------------------------------------------------------------------------------------

_STEPS = st.one_of(
    st.tuples(st.just("change"), st.sampled_from([A, B, C])),
    st.tuples(st.just("epoch"), st.integers(0, 1)),
    st.tuples(st.just("lease"), st.integers(0, 1), st.integers(0, 12)),
    st.tuples(st.just("leave"), st.integers(0, 1)),
    st.tuples(st.just("tell"), st.sampled_from([A, B, C]), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.integers(1, 3)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_STEPS, max_size=40))
def test_what_was_told_holds_as_long_as_the_node_would_say_it_again(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    """Beside the board, what is true is kept in the plainest way: how often each chunk has changed, and which life of which
    target serves until when. What was told holds by the board exactly if nothing of that is another."""
    board, reader = _SHARED
    changes = dict.fromkeys((A, B, C), 0)
    rows = [joined(board), joined(board)]
    lives, until, now = [0, 0], [0, 0], 0
    told = []
    for step in steps:
        match step:
            case "change", chunk:
                board.count_change(chunk)
                changes[chunk] += 1
            case "epoch", target:
                board.begin_epoch(rows[target])
                lives[target] += 1
            case "lease", target, lease:
                board.extend(rows[target], lease)
                until[target] = lease
            case "leave", target:
                board.remove_target(rows[target])
                rows[target] = joined(board)
                lives[target] += 1
                until[target] = 0
            case "tell", chunk, target:
                slot = slot_of(chunk)
                told.append((chunk, target, changes[chunk], lives[target], slot, board.changes(slot), board.gate(rows[target])))
            case "wait", time:
                now += time
        for chunk, target, change, life, slot, count, gate in told:
            holds = reader.words[slot] == count and reader.serves(gate, now)
            assert holds == (changes[chunk] == change and lives[target] == life and now < until[target])
    for row in rows:
        board.remove_target(row)


_SHARED = made()
