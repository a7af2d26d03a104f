"""A directory as a mapping: what zarr, xarray and dask take where they want a store."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fsspec.mapping import FSMap


class FS3Map(FSMap):  # type: ignore[misc]
    """fsspec's mapping, whose keys are names and never patterns."""

    def __getitem__(self, key: str, default: Any = None) -> bytes:
        try:
            data: bytes = self.fs.cat_file(self._key_to_str(key))
        except self.missing_exceptions as missing:
            if default is not None:
                found: bytes = default
                return found
            raise KeyError(key) from missing
        return data

    def __setitem__(self, key: str, value: Any) -> None:
        """Store a value: bytes, or an array of any kind."""
        path = self._key_to_str(key)
        if not self.fs.auto_mkdir:
            self.fs.makedirs(self.fs._parent(path), exist_ok=True)
        self.fs.pipe_file(path, value)

    def setitems(self, values_dict: Mapping[str, Any]) -> None:
        """Store many values."""
        self.fs.pipe({self._key_to_str(key): value for key, value in values_dict.items()})

    def __delitem__(self, key: str) -> None:
        try:
            self.fs.rm_file(self._key_to_str(key))
        except self.missing_exceptions as missing:
            raise KeyError(key) from missing

    def clear(self) -> None:
        """Remove everything below the directory, which stays."""
        with suppress(FileNotFoundError):
            self.fs.rm([self.root], recursive=True)
        self.fs.mkdirs(self.root, exist_ok=True)
