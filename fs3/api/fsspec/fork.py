"""After fork(): fsspec up to 2025.3 leaves a child its parent's event loop, whose thread the child does not have."""

from __future__ import annotations

import os

import fsspec.asyn

_inherited: list[object] = []
"""The parent's loops: kept, so that no finalizer of theirs runs in the child."""


def _forget_parents_loop() -> None:
    _inherited.append(fsspec.asyn.loop[0])
    fsspec.asyn.loop[0] = None
    fsspec.asyn.iothread[0] = None
    fsspec.asyn.reset_lock()


def reset_loop_after_fork() -> None:
    """Have children of this process make a loop of their own. Newer versions of fsspec do it themselves."""
    if not hasattr(fsspec.asyn, "reset_after_fork"):
        os.register_at_fork(after_in_child=_forget_parents_loop)
