"""Replicas of a chain of three, each with its store."""

from __future__ import annotations

import pytest

from fs3.sim.ring1.one_replica import OneReplica, chain


def _member(target: int) -> OneReplica:
    made = OneReplica(target)
    made.open(chain(1, 1, 2, 3))
    return made


@pytest.fixture
def head() -> OneReplica:
    """Target 1 of the chain 1 → 2 → 3."""
    return _member(1)


@pytest.fixture
def body() -> OneReplica:
    """Target 2 of the chain 1 → 2 → 3."""
    return _member(2)


@pytest.fixture
def tail() -> OneReplica:
    """Target 3 of the chain 1 → 2 → 3."""
    return _member(3)
