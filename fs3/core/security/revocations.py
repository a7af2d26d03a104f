"""Which tickets do not count although their time is not over: those that a user had before it was revoked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fs3.model.principal import Principal, PrincipalKind


def revocation_name(kind: PrincipalKind, name: str) -> str:
    """What a revocation of a user or a node is kept under: a node may be called as a user is."""
    return name if kind is PrincipalKind.USER else f"node {name}"


class Revocations:
    """Who was revoked, and in which epoch. Entries are kept for as long as tickets from before may live."""

    __slots__ = ("_epochs", "epoch")

    def __init__(self, epoch: int = 0, epochs: Mapping[str, int] = MappingProxyType({})) -> None:
        """`epoch`: the newest. `epochs`: that of the last revocation of each user or node, by its `revocation_name`."""
        self.epoch = epoch
        self._epochs = epochs

    def is_revoked(self, principal: Principal) -> bool:
        """Its ticket was made before its user was revoked."""
        return self._epochs.get(revocation_name(principal.kind, principal.name), 0) > principal.epoch

    def __repr__(self) -> str:
        return f"<Revocations of {len(self._epochs)} names, epoch {self.epoch}>"
