from itertools import product

import pytest

from fs3.base.status import Code, Retry
from fs3.core.files.retry import (
    BACKOFF_NS_MAX,
    BACKOFF_NS_MIN,
    RETRIES,
    ROUTING_FRESH_NS,
    RetryAction,
    Situation,
    backoff_ns,
    decide,
    facts_of,
)

OLD, NEW = ROUTING_FRESH_NS, ROUTING_FRESH_NS - 1
FAILURES = [code for code in Code if code is not Code.OK]


def test_exactly_one_row_matches_every_situation():
    RETRIES.check()
    flags = (False, True)
    for code, attempt, age, read, repeatable, others, tail in product(FAILURES, (1, 2, 3, 9), (0, NEW, OLD), *(flags,) * 4):
        situation = Situation(code, attempt, age, read, repeatable, others, tail)
        rows = [row.why for row in RETRIES.rows if row.matches(facts_of(situation))]
        assert len(rows) == 1, f"{situation}: {rows}"


def test_every_row_is_reached():
    flags = (False, True)
    reached = set()
    for code, attempt, age, read, repeatable, others, tail in product(FAILURES, (1, 3), (NEW, OLD), *(flags,) * 4):
        situation = Situation(code, attempt, age, read, repeatable, others, tail)
        reached.add(RETRIES.row_for(facts_of(situation)).why)
    assert reached == {row.why for row in RETRIES.rows}


@pytest.mark.parametrize(
    ("situation", "wanted"),
    [
        (Situation(Code.INVALID, 1, OLD), RetryAction.FAIL),
        (Situation(Code.NO_SPACE, 1, OLD, read=False), RetryAction.FAIL),
        (Situation(Code.STALE_UPDATE, 1, OLD, read=False), RetryAction.FAIL),
        (Situation(Code.REPLICAS_DISAGREE, 1, OLD, read=False), RetryAction.FAIL),
        (Situation(Code.NO_CAPABILITY, 1, OLD, others=True), RetryAction.WAIT),
        (Situation(Code.NO_CAPABILITY, 9, NEW, read=False, repeatable=False), RetryAction.WAIT),
        (Situation(Code.DISCONNECTED, 1, OLD, others=True), RetryAction.OTHER),
        (Situation(Code.DISCONNECTED, 1, OLD), RetryAction.REFRESH),
        (Situation(Code.DISCONNECTED, 1, NEW), RetryAction.WAIT),
        (Situation(Code.DISCONNECTED, 1, OLD, read=False, others=True), RetryAction.REFRESH),
        (Situation(Code.DEADLINE, 1, OLD, read=False, repeatable=False), RetryAction.FAIL),
        (Situation(Code.UNAVAILABLE, 1, OLD, read=False, repeatable=False), RetryAction.REFRESH),
        (Situation(Code.WRONG_CHAIN_VERSION, 1, OLD, others=True), RetryAction.REFRESH),
        (Situation(Code.NOT_SERVING, 1, OLD, others=True), RetryAction.OTHER),
        (Situation(Code.NOT_SERVING, 1, OLD, read=False, others=True), RetryAction.REFRESH),
        (Situation(Code.WRONG_CHAIN_VERSION, 5, NEW), RetryAction.WAIT),
        (Situation(Code.NOT_HEAD, 1, OLD, read=False), RetryAction.REFRESH),
        (Situation(Code.BUSY, 1, OLD, read=False), RetryAction.WAIT),
        (Situation(Code.BUSY, 1, OLD, others=True), RetryAction.OTHER),
        (Situation(Code.DIRTY, 1, OLD), RetryAction.TAIL),
        (Situation(Code.DIRTY, 2, OLD, asked_tail=True), RetryAction.WAIT),
        (Situation(Code.CHECKSUM, 1, OLD, others=True), RetryAction.OTHER),
        (Situation(Code.CHECKSUM, 2, OLD), RetryAction.WAIT),
        (Situation(Code.CHECKSUM, 3, OLD), RetryAction.FAIL),
        (Situation(Code.CHECKSUM, 1, OLD, read=False), RetryAction.WAIT),
        (Situation(Code.DISK, 1, OLD, read=False), RetryAction.FAIL),
        (Situation(Code.DISK, 1, OLD, others=True), RetryAction.OTHER),
    ],
)
def test_examples(situation, wanted):
    assert decide(situation) is wanted


def test_an_update_is_never_sent_elsewhere_and_never_to_the_tail():
    for code in FAILURES:
        if code is not Code.DIRTY:
            assert decide(Situation(code, 1, OLD, read=False, others=True)) in (
                RetryAction.FAIL,
                RetryAction.WAIT,
                RetryAction.REFRESH,
            )


def test_what_may_have_happened_is_not_repeated_unless_it_is_recognised():
    for code in FAILURES:
        if code.retry is Retry.MAYBE:
            assert decide(Situation(code, 1, OLD, read=False, repeatable=False)) is RetryAction.FAIL


def test_backoff_doubles_up_to_its_maximum():
    assert backoff_ns(1, 0) == BACKOFF_NS_MIN // 2
    assert backoff_ns(1, BACKOFF_NS_MIN // 2) == BACKOFF_NS_MIN
    assert backoff_ns(3, 0) == 2 * BACKOFF_NS_MIN
    assert backoff_ns(100, 0) == BACKOFF_NS_MAX // 2
    assert all(backoff_ns(attempt, (1 << 64) - 1) <= BACKOFF_NS_MAX for attempt in range(1, 40))
