from __future__ import annotations

import pytest

from fs3.base.units import SECOND
from fs3.core.security.throttle import (
    LoginThrottle,
    forget_ns,
    free_failures,
    source_of,
    sources_max,
    wait_max_ns,
    wait_min_ns,
)


def test_failures_wait_longer_each_time_up_to_a_bound() -> None:
    throttle = LoginThrottle()
    waits = [throttle.on_failure("a", 0) for _ in range(free_failures + 40)]
    assert waits[:free_failures] == [0] * free_failures
    assert waits[free_failures] == wait_min_ns
    assert sorted(waits) == waits
    assert waits[-1] == wait_max_ns


def test_sources_do_not_wait_for_each_other_and_are_forgotten() -> None:
    throttle = LoginThrottle()
    for _ in range(10):
        throttle.on_failure("a", 0)
    assert throttle.on_failure("b", 0) == 0
    assert throttle.on_failure("a", forget_ns) == 0


def test_memory_is_bounded() -> None:
    throttle = LoginThrottle()
    for number in range(sources_max + 100):
        throttle.on_failure(f"10.0.{number}", number * SECOND)
    assert len(throttle) == sources_max


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("tcp://10.0.0.1:4711", "10.0.0.1"),
        ("tcp://[::1]:4711", "::1"),
        ("ipv4:10.0.0.1:4712", "10.0.0.1"),
        ("ipv6:%5B::1%5D:4712", "%5B::1%5D"),
        ("local:pid=17,uid=1000", "uid=1000"),
        ("memory", "memory"),
    ],
)
def test_a_source_is_an_address_without_its_port_or_a_user(peer: str, source: str) -> None:
    assert source_of(peer) == source
