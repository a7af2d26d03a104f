"""webdataset opens `fs3://` shards, for reading and writing, once this module has been imported."""

from __future__ import annotations

from typing import Any

import fsspec
from webdataset.gopen import gopen_schemes


def open_shard(url: str, mode: str = "rb", bufsize: int = 8192, **options: Any) -> Any:
    """A file as `webdataset.gopen` wants it. `bufsize` is not used: files read ahead on their own. Raises OSError."""
    return fsspec.open(url, mode, **options).open()


gopen_schemes["fs3"] = open_shard
