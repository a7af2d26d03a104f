"""Parts of what lies in several buffers."""

from __future__ import annotations

from fs3.base.views import first_bytes, take_bytes


def views(*sizes: int) -> list[memoryview]:
    made, at = [], 0
    for size in sizes:
        made.append(memoryview(bytes(range(at, at + size))))
        at += size
    return made


def joined(parts: list[memoryview]) -> bytes:
    return b"".join(parts)


def test_the_first_bytes_of_several() -> None:
    whole = views(3, 4, 5)
    for length in range(15):
        assert joined(first_bytes(whole, length)) == bytes(range(min(length, 12)))
    assert len(first_bytes(whole, 7)) == 2
    assert joined(whole) == bytes(range(12))


def test_bytes_are_taken_off_in_order() -> None:
    for step in range(1, 13):
        left = views(3, 4, 5)
        taken = b""
        while left:
            part = joined(take_bytes(left, min(step, 12 - len(taken))))
            assert part == bytes(range(len(taken), len(taken) + len(part)))
            taken += part
        assert taken == bytes(range(12))
