"""What a test of a consumer imports."""

from __future__ import annotations

from typing import Any

import pytest


def library(name: str) -> Any:
    """The module, or a skip that says that it is not installed."""
    return pytest.importorskip(name, reason=f"{name} is not installed")
