"""Loans: what is lent, until when, and in which order it ends."""

from __future__ import annotations

from fs3.core.rdma.lending import Lending


class _Loan:
    def __init__(self, length: int) -> None:
        self.length = length
        self.story: list[str] = []

    def revoke(self) -> None:
        self.story.append("revoked")

    def release(self) -> None:
        self.story.append("released")


def test_a_loan_that_was_fetched_is_revoked_and_then_released() -> None:
    lending: Lending[_Loan] = Lending(2, 100)
    loan = _Loan(60)
    assert lending.has_room(1, 60)
    lending.lend(1, loan)
    assert (len(lending), lending.bytes) == (1, 60)
    assert lending.on_fetched(1)
    assert loan.story == ["revoked", "released"]
    assert not lending.on_fetched(1)
    assert (len(lending), lending.bytes) == (0, 0)


def test_a_loan_that_was_refused_is_revoked_and_kept() -> None:
    lending: Lending[_Loan] = Lending(2, 100)
    loan = _Loan(60)
    lending.lend(1, loan)
    assert lending.on_refused(1) is loan
    assert loan.story == ["revoked"]
    assert lending.on_refused(1) is None


def test_there_is_room_for_so_many_and_so_much() -> None:
    lending: Lending[_Loan] = Lending(2, 100)
    lending.lend(1, _Loan(60))
    assert not lending.has_room(1, 1)  # the call has one
    assert not lending.has_room(2, 41)
    assert lending.has_room(2, 40)
    lending.lend(2, _Loan(1))
    assert not lending.has_room(3, 1)


def test_a_dead_path_takes_the_keys_and_the_end_takes_everything() -> None:
    lending: Lending[_Loan] = Lending(2, 100)
    loans = [_Loan(10), _Loan(20)]
    for number, loan in enumerate(loans):
        lending.lend(number, loan)
    lending.revoke_all()
    assert [loan.story for loan in loans] == [["revoked"]] * 2
    assert len(lending) == 2
    lending.close()
    assert [loan.story for loan in loans] == [["revoked", "revoked", "released"]] * 2
    assert lending.bytes == 0
