"""universal-pathlib's class for `fs3://`: paths whose text names the cluster, so that it can be opened again elsewhere."""

from __future__ import annotations

from typing import Any

import fsspec
from upath import UPath

from fs3.api.fsspec import FS3FileSystem
from fs3.api.fsspec.base import URL_CLUSTER

# What a URL means is asked of the file system's class, and that only where fsspec has loaded it already.
fsspec.register_implementation("fs3", FS3FileSystem, clobber=True)


class FS3Path(UPath):  # type: ignore[misc]
    """`pathlib` on fs3. `str` gives the whole URL; the path of an embedded file system has no host in it."""

    __slots__ = ()

    def __str__(self) -> str:
        cluster = self.storage_options.get("cluster") or self.storage_options.get(URL_CLUSTER)
        if self.is_absolute() and cluster:
            return f"fs3://{cluster}{self.path}"
        return str(super().__str__())

    def replace(self, target: Any) -> FS3Path:
        """Give the file or directory another name, at once; a file that has the name goes. Raises OSError as `rename`."""
        renamed: FS3Path = self.rename(target)
        return renamed
