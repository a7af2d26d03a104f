"""universal-pathlib's class for `fs3://`: paths whose text names the cluster, so that it can be opened again elsewhere."""

from __future__ import annotations

from upath import UPath


class FS3Path(UPath):
    """`pathlib` on fs3. `str` gives the whole URL; the path of an embedded file system has no host in it."""

    __slots__ = ()

    def __str__(self) -> str:
        cluster = self.storage_options.get("cluster")
        if self.is_absolute() and cluster:
            return f"fs3://{cluster}{self.path}"
        return super().__str__()
