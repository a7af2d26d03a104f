"""The metadata service."""

from __future__ import annotations

from fs3.services.meta.config import MetaConfig
from fs3.services.meta.service import MetaService

__all__ = ["MetaConfig", "MetaService"]
