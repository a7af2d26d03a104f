"""Is there an order of operations that explains every answer? The search that checkers of one content have in common.

Depth-first over orders, remembering (set of operations placed, content) pairs that led nowhere: Wing and Gong, "Testing and
Verifying Concurrent Objects", 1993, with the memory of Lowe, "Testing for linearizability", 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

C = TypeVar("C")

NextStates = Callable[[int, C], Iterable[tuple[int, C]]]
"""Given what is placed (a bit per operation) and the content after it: the states one operation on, the likeliest last."""
Describe = Callable[[int], Sequence[str]]
"""Given what is placed: a line for each operation that is not."""

states_max = 200_000
"""States after which the search is given up. A run's histories need a few hundred, a scene's some thousands."""
lines_max = 6


def search_order(count: int, required: int, content: C, next_states: NextStates[C], describe_rest: Describe) -> str:
    """ "" when some order of `count` operations, beginning with `content`, has all of the `required` ones (a bit each);
    else what the longest one that was found could not place."""
    seen: set[tuple[int, C]] = set()
    stack = [(0, content)]
    best = 0
    while stack:
        placed, content = stack.pop()
        if placed & required == required:
            return ""
        if (placed & required).bit_count() > (best & required).bit_count():
            best = placed
        if len(seen) > states_max:
            return f"gave up after {states_max} states of {count} operations"
        for state in next_states(placed, content):
            if state not in seen:
                seen.add(state)
                stack.append(state)
    rest = describe_rest(best)
    lines = "\n  ".join(rest[:lines_max])
    return f"no order explains these {len(rest)} of {count} operations:\n  {lines}"
