from __future__ import annotations

from fs3.sim.ring1.heap import Heap


def test_things_happen_in_order_of_time_then_of_scheduling() -> None:
    heap = Heap()
    happened: list[tuple[int, str]] = []

    def note(name: str) -> None:
        happened.append((heap.now, name))

    heap.after(20, note, "late")
    heap.after(10, note, "first")
    heap.after(10, note, "second")
    while heap.step():
        pass
    assert happened == [(10, "first"), (10, "second"), (20, "late")]
    assert not heap.step()
    assert heap.steps == 3
