"""pyiceberg keeps tables under `fs3://`: `py-io-impl` is `fs3.api.integrations.iceberg.FS3FileIO`."""

from __future__ import annotations

from urllib.parse import ParseResult

import fsspec
from fsspec import AbstractFileSystem
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.typedef import Properties

CLUSTER_PROPERTY = "fs3.cluster"
"""host:port of the manager, for locations that do not say it."""


class FS3FileIO(FsspecFileIO):  # type: ignore[misc]
    """`pyiceberg.io.FileIO` on fs3. A location that names its cluster is looked for there; others in that of `fs3.cluster`, or of
    the catalog's `warehouse`."""

    def __init__(self, properties: Properties) -> None:
        super().__init__(properties)
        self._scheme_to_fs["fs3"] = _open_default

    def _get_fs_from_uri(self, uri: ParseResult, location: str = "") -> AbstractFileSystem:
        if uri.scheme == "fs3" and uri.netloc:
            return fsspec.filesystem("fs3", cluster=uri.netloc)
        return super()._get_fs_from_uri(uri, location)


def _open_default(properties: Properties) -> AbstractFileSystem:
    cluster = properties.get(CLUSTER_PROPERTY)
    warehouse = properties.get("warehouse", "")
    if cluster is None and warehouse.startswith("fs3://"):
        return fsspec.core.url_to_fs(warehouse)[0]
    return fsspec.filesystem("fs3", **({"cluster": cluster} if cluster else {}))
