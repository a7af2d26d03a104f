from __future__ import annotations

from fs3.base.status import Code
from fs3.core.craq.admission.answers import AnswerTable
from fs3.model.chunk import ChannelKey, ChannelRow, UpdateResult
from fs3.sim.ring1.one_replica import chunk, tag

KEPT_NS = 100


def key(client: int) -> ChannelKey:
    return tag(1, client).client, 0


def row(seq: int) -> ChannelRow:
    return ChannelRow(seq, chunk(0), UpdateResult(Code.EXISTS, 1))


def test_the_last_answer_of_each_channel_is_remembered() -> None:
    answers = AnswerTable(10, KEPT_NS)
    assert answers.find(key(1)) is None
    assert answers.remember(0, key(1), row(1))
    assert answers.remember(0, key(2), row(5))
    assert answers.remember(0, key(1), row(2))
    assert answers.find(key(1)) == row(2)
    assert answers.find(key(2)) == row(5)
    assert len(answers) == 2


def test_an_answer_is_kept_for_its_time_and_not_for_much_longer() -> None:
    for began in range(0, 3 * KEPT_NS, 7):
        answers = AnswerTable(1000, KEPT_NS)
        for now in range(0, 6 * KEPT_NS, 7):
            assert answers.remember(now, key(2), row(1))
            if now == began:
                assert answers.remember(now, key(1), row(1))
            is_kept = answers.find(key(1)) is not None
            if began <= now <= began + KEPT_NS:
                assert is_kept, (began, now)
            if now > began + 2 * KEPT_NS + 7 or now < began:
                assert not is_kept, (began, now)


def test_answers_of_long_ago_are_forgotten_at_once() -> None:
    answers = AnswerTable(1000, KEPT_NS)
    assert answers.remember(50, key(1), row(1))
    assert answers.remember(50 + 2 * KEPT_NS, key(2), row(1))
    assert answers.find(key(1)) is None
    assert len(answers) == 1


def test_beyond_its_limit_it_takes_no_new_channels() -> None:
    answers = AnswerTable(2, KEPT_NS)
    assert answers.remember(0, key(1), row(1))
    assert answers.remember(0, key(2), row(1))
    assert not answers.remember(0, key(3), row(1))
    assert answers.find(key(3)) is None
    assert answers.remember(KEPT_NS, key(1), row(2)), "a channel that is there goes on, and becomes young again"
    assert len(answers) == 2
    assert not answers.remember(KEPT_NS, key(3), row(1))
    assert answers.remember(2 * KEPT_NS, key(3), row(1)), "the other has grown old"


def test_nothing_is_left_of_an_earlier_chain_version() -> None:
    answers = AnswerTable(10, KEPT_NS)
    assert answers.remember(0, key(1), row(1))
    answers.clear()
    assert answers.find(key(1)) is None
