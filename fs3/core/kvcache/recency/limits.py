"""Limits of what is remembered of pages."""

from __future__ import annotations

pages_per_target_max = 1 << 24
"""Pages on one target, of all namespaces: 750 MB of memory. A target that has as many evicts before it takes another."""
sample_pages_max = 1 << 20
"""Of one target in one sample, those used last: 20 MB of disk. Others are old after a restart."""
