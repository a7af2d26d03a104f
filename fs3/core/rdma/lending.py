"""What one end of a connection has lent to the other: bytes that it may read while one call is under way.

The lender never learns from its device that its bytes were read. So each loan lasts until the other end says that it has done
with it, or the path is closed, whatever became of the call meanwhile. Then, in this order:

1. the key is revoked: no read succeeds any more, a late or repeated one neither;
2. the memory is given back, and may be written to.

A loan that could not be fetched is revoked and kept: its bytes leave by the socket, under the number of the same call.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Loan(Protocol):
    """Memory with a key that the other end may read it by."""

    @property
    def length(self) -> int:
        """In bytes."""
        ...

    def revoke(self) -> None:
        """From its return on no read by the key succeeds. Harmless when it was revoked."""
        ...

    def release(self) -> None:
        """The memory may be used again. Once."""
        ...


LoanT = TypeVar("LoanT", bound=Loan)


class Lending(Generic[LoanT]):
    """The loans of one path, by the number of their calls."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._loans: dict[int, LoanT] = {}
        self.bytes = 0
        """Lent now."""

    def __len__(self) -> int:
        return len(self._loans)

    def has_room(self, number: int, length: int) -> bool:
        """Whether `length` bytes may be lent for call `number`, which has no loan yet."""
        return number not in self._loans and len(self._loans) < self._count_max and self.bytes + length <= self._bytes_max

    def lend(self, number: int, loan: LoanT) -> None:
        """From now on the other end may read it. There must be room."""
        self._loans[number] = loan
        self.bytes += loan.length

    def on_fetched(self, number: int) -> bool:
        """The other end has done with a loan. False: there is none of that number."""
        loan = self._end(number)
        if loan is None:
            return False
        loan.release()
        return True

    def on_refused(self, number: int) -> LoanT | None:
        """The other end will not fetch it, or could not: the caller sends the bytes and releases the loan. None: there is none of
        that number."""
        return self._end(number)

    def revoke_all(self) -> None:
        """The path is dead: no loan can be fetched any more. They last until the other end has said so of each."""
        for loan in self._loans.values():
            loan.revoke()

    def close(self) -> None:
        """The other end cannot reach anything any more."""
        for number in list(self._loans):
            self.on_fetched(number)

    def _end(self, number: int) -> LoanT | None:
        loan = self._loans.pop(number, None)
        if loan is not None:
            self.bytes -= loan.length
            loan.revoke()
        return loan
