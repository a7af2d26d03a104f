"""How soon a client logs in again whose ticket was refused."""

from __future__ import annotations

from itertools import count, pairwise

import pytest

from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.security.login_pacing import LoginPacing, pause_first_ns, pause_max_ns, refusals_apart_ns, servers_max


def tickets(pacing: LoginPacing, server: str, until_ns: int, now: int = 0) -> list[int]:
    """When a client logs in, whose every ticket this server refuses a millisecond later."""
    times = []
    for number in count():
        due_at = pacing.on_refused(server, b"ticket %d" % number, now)
        if due_at > until_ns:
            return times
        times.append(due_at)
        now = due_at + MILLISECOND
    raise AssertionError


@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_refuses_everything_is_logged_in_for_less_and_less(seed: int) -> None:
    times = tickets(LoginPacing(Prng(seed)), "s:1", 120 * SECOND)
    assert times[0] == 0, "the first one at once"
    pauses = [after - before for before, after in pairwise(times)]
    bounds = [min(pause_max_ns, pause_first_ns << number) for number in range(len(pauses))]
    assert all(bound // 2 <= pause <= bound + MILLISECOND for pause, bound in zip(pauses, bounds, strict=True))
    assert len(times) < 6 + 2 * 120 * SECOND // pause_max_ns


def test_clients_of_one_server_do_not_come_in_step() -> None:
    last = {tickets(LoginPacing(Prng(seed)), "s:1", 60 * SECOND)[-1] for seed in range(20)}
    assert len(last) == 20


def test_many_requests_that_are_refused_with_one_ticket_are_one_refusal() -> None:
    pacing = LoginPacing(Prng(1))
    assert [pacing.on_refused("s:1", b"first", now) for now in range(10)] == list(range(10))
    due_at = pacing.on_refused("s:1", b"second", 20)
    assert due_at > 20
    assert [pacing.on_refused("s:1", b"second", now) for now in range(30, 40)] == [due_at] * 10


def test_other_servers_are_not_slowed() -> None:
    pacing = LoginPacing(Prng(1))
    now = tickets(pacing, "s:1", 60 * SECOND)[-1]
    assert pacing.on_refused("s:1", b"a", now) > now
    assert pacing.on_refused("s:2", b"a", now) == now


def test_a_refusal_long_after_is_the_first_one_again() -> None:
    pacing = LoginPacing(Prng(1))
    now = tickets(pacing, "s:1", 60 * SECOND)[-1] + refusals_apart_ns
    assert pacing.on_refused("s:1", b"a", now + SECOND) == now + SECOND


def test_it_remembers_no_more_than_so_many() -> None:
    pacing = LoginPacing(Prng(1))
    for number in range(10 * servers_max):
        pacing.on_refused(f"s:{number}", b"a", 0)
    assert len(pacing._servers) == servers_max
