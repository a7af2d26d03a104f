"""The management service: who is in the cluster, who may serve, which targets form which chains."""

from fs3.core.membership.config import MgmtdConfig
from fs3.services.mgmtd.service import MgmtdService

__all__ = ["MgmtdConfig", "MgmtdService"]
