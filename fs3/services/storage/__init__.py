"""The storage service."""

from fs3.drivers.os.data_directories import DataDirectories
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.service import StorageService

__all__ = ["DataDirectories", "StorageConfig", "StorageService"]
