from __future__ import annotations

from fs3.sim.ring1.fingerprint import Fingerprint


def test_fingerprints_notice_order_and_every_bit() -> None:
    def of(*numbers: int) -> str:
        fingerprint = Fingerprint()
        fingerprint.add(*numbers)
        return str(fingerprint)

    assert of(1, 2) == of(1, 2)
    assert len({of(1, 2), of(2, 1), of(1, 3), of(1), of(1 << 63)}) == 5
    one, other = Fingerprint(), Fingerprint()
    one.add_bytes(b"ab")
    other.add_bytes(b"ba")
    assert str(one) != str(other)
