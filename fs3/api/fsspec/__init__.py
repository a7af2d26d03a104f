"""The fsspec file system of fs3. Modules in here import each other by their full names, never from the package."""

from fs3.api.fsspec.async_file import FS3AsyncFile
from fs3.api.fsspec.file import FS3File
from fs3.api.fsspec.filesystem import FS3FileSystem

__all__ = ["FS3AsyncFile", "FS3File", "FS3FileSystem"]
