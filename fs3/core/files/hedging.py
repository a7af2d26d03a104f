"""When a read is asked of a second replica as well, and how often that may be.

A request that takes longer than nearly all others do is better asked again of another replica than waited for (Dean and Barroso,
"The Tail at Scale", CACM 2013: hedged requests after the 95th percentile, for a few per cent of load). What is usual is learned
from the answers of all nodes together: a node that is slow itself must not set the measure by which it is judged.

Rules, each a test:

1. A request of a size class with fewer than `hedge_samples_min` answers so far is not hedged.
2. It is hedged when it has waited longer than the 99th percentile of its class, at least `hedge_after_ns_min` and at most
   `hedge_after_ns_max`.
3. Hedges are at most `hedge_share` of requests, and `hedge_burst_max` at once after a quiet time: when all nodes are slow, asking
   twice makes it worse.
"""

from __future__ import annotations

from fs3.base.units import MILLISECOND

hedge_samples_min = 200
hedge_after_ns_min = 2 * MILLISECOND
hedge_after_ns_max = 200 * MILLISECOND
"""Before a node counts as silent (`liveness_tick_ns`), and its requests are taken elsewhere."""
hedge_share = 0.02
hedge_burst_max = 10.0

_QUANTILE = 0.99
_STEP = 0.02
"""Share of the estimate by which one answer moves it: a change of load is followed within a hundred answers that are late."""


class HedgePolicy:
    """Of one client."""

    def __init__(self, samples_min: int = hedge_samples_min) -> None:
        self._samples_min = samples_min
        self._estimates: dict[int, list[float]] = {}
        """Size class -> [how many answers, nanoseconds of the 99th percentile]."""
        self._allowance = hedge_burst_max

    def after_ns(self, count: int) -> int | None:
        """A request for `count` bytes begins: how long it may take before it is hedged; None: it is not."""
        if self._allowance < hedge_burst_max:
            self._allowance = min(self._allowance + hedge_share, hedge_burst_max)
        known = self._estimates.get(count.bit_length())
        if known is None or known[0] < self._samples_min:
            return None
        if known[1] <= hedge_after_ns_min:  # as nearly always
            return hedge_after_ns_min
        return min(int(known[1]), hedge_after_ns_max)

    def on_answered(self, count: int, elapsed_ns: int) -> None:
        """A request for `count` bytes was answered, or given up since a second one was answered first.

        The estimate of a quantile by stochastic approximation (Robbins and Monro): each answer above moves it up by the
        quantile's share of a step, each below moves it down by the rest.
        """
        known = self._estimates.get(count.bit_length())
        if known is None:
            known = self._estimates[count.bit_length()] = [0, float(max(elapsed_ns, 1))]
        known[0] += 1
        if elapsed_ns > known[1]:
            known[1] += known[1] * (_STEP * _QUANTILE)
        else:
            known[1] -= known[1] * (_STEP * (1 - _QUANTILE))

    def may_hedge(self) -> bool:
        """A request is late: it may be hedged now, and is then."""
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
