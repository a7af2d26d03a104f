"""Planting bugs in the product: attributes exchanged for a while. The product's code knows nothing of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Patch = tuple[Any, str, Any]
"""(owner, attribute, what it is exchanged for)."""


@contextmanager
def plant(patches: Sequence[Patch]) -> Iterator[None]:
    """The product with attributes exchanged, for the length of a `with` block. AssertionError naming an attribute that its owner
    does not have: something was renamed, and the bug would silently be none."""
    for owner, name, _ in patches:
        assert hasattr(owner, name), f"{owner.__name__} has no {name} that a bug could be planted in"
    before = [(owner, name, owner.__dict__.get(name, _ABSENT)) for owner, name, _ in patches]
    for owner, name, other in patches:
        setattr(owner, name, other)
    try:
        yield
    finally:
        for owner, name, was in before:
            if was is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, was)


_ABSENT = object()
