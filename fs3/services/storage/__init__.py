"""The storage service: the targets of one node, their replication, and what keeps them well."""

from fs3.services.storage.config import StorageConfig
from fs3.services.storage.service import StorageService

__all__ = ["StorageConfig", "StorageService"]
