"""Limits of what is remembered of pages."""

from __future__ import annotations

pages_per_target_max = 1 << 24
"""Pages on one target, of all namespaces: 500 MB of memory. A target that is full of them evicts before it takes another."""
