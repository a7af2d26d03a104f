"""Generations: how far the directory of a target is, so that an old copy of it is told from the directory itself."""

from __future__ import annotations

import msgspec

from fs3.base.ids import TargetId

GENERATION_TOKEN_BYTES = 8


class Generation(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One start of a target. Written down in its directory and remembered by the manager before the target takes part in its
    chain. Also a row of the manager's store: new fields go at the end with a default."""

    number: int
    """Rises with every start that goes on from the one before."""
    token: bytes
    """Random: tells two starts from copies of one directory apart."""


class TargetClaim(msgspec.Struct, frozen=True):
    """What a node says of the directory of a target when it registers."""

    target: TargetId
    generations: tuple[Generation, ...] = ()
    """What is written down there: the generation it had, then those begun since that were perhaps not registered, the newest
    last. Empty: it is not known."""


class TargetGeneration(msgspec.Struct, frozen=True):
    """What the manager remembers of a target."""

    target: TargetId
    generation: Generation
