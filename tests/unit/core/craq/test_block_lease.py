"""The block lease of a reply without checksums, against every order of pauses and every drift that clocks may have."""

from hypothesis import given
from hypothesis import strategies as st

from fs3.base.limits import clock_drift_ns, lease_ns
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.craq.block_lease import grant_block_lease_ms, is_within_block_lease

pauses = st.integers(0, 5 * SECOND)
delays = st.integers(0, 3 * SECOND)


def test_it_reaches_as_far_beyond_the_answer_as_the_delay():
    assert grant_block_lease_ms(1 * SECOND, 1 * SECOND, 2 * SECOND) == 2000
    assert grant_block_lease_ms(1 * SECOND, 4 * SECOND, 2 * SECOND) == 5000
    assert grant_block_lease_ms(0, MILLISECOND - 1, 0) == 0, "rounded down"
    assert grant_block_lease_ms(0, 0, 1 << 62) == 2**32 - 1, "what the wire has room for"


def test_a_lease_of_nothing_has_run_out_already():
    assert not is_within_block_lease(5, 5, 0)
    assert is_within_block_lease(5, 5, 1)


def test_clocks_that_drift_apart_are_allowed_for():
    kept = 2 * SECOND * (lease_ns - clock_drift_ns) // lease_ns
    assert is_within_block_lease(0, kept - 1, 2000)
    assert not is_within_block_lease(0, kept + 1, 2000)


@given(delays, pauses, pauses, pauses, pauses, st.integers(-clock_drift_ns, clock_drift_ns))
def test_what_is_taken_was_copied_before_the_block_could_be_written(delay, travel, wait, send, stall, drift):
    """True time in nanoseconds of the server's clock. The reader's is slower or faster, by less than clocks may drift."""
    arrived = travel
    answered = arrived + wait
    released = answered + send
    received = released + stall
    lease = grant_block_lease_ms(arrived, answered, delay)
    on_readers_clock = -(-received * (lease_ns + drift) // lease_ns)
    if is_within_block_lease(0, on_readers_clock, lease):
        assert received < released + delay
