"""Opening by URL what a test has an instance for."""

from __future__ import annotations

from typing import Any


def options_beside_url(fs: Any) -> dict[str, Any]:
    """Options of the instance that a URL does not say: before fsspec 2024.12, a cluster in both is an error of fsspec's."""
    return {name: value for name, value in fs.storage_options.items() if name != "cluster"}
