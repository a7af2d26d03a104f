"""Certificates for tests: an authority, and what it has issued."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fs3.drivers.os.clock import OsClock
from fs3.drivers.tls.credentials import TlsCredentials, TlsFiles
from fs3.drivers.tls.private_authority import issue, make_authority


@dataclass
class Authority:
    """A private authority in a directory."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> Authority:
        """A new one."""
        make_authority(directory, "test")
        return cls(directory)

    def issue(self, name: str, *addresses: str, organization: str = "", days: int = 7, into: Path | None = None) -> TlsFiles:
        """Files of one end; without addresses of a user."""
        place = into or self.directory / name
        issue(self.directory, place, name, addresses, organization=organization, days=days)
        return TlsFiles(str(self.directory / "ca.crt"), str(place / f"{name}.crt"), str(place / f"{name}.key"))

    def credentials(self, name: str, *addresses: str, **options: object) -> TlsCredentials:
        """The same, read."""
        return TlsCredentials(self.issue(name, *addresses, **options), OsClock())  # type: ignore[arg-type]

    def client(self) -> TlsCredentials:
        """Of a client that shows nothing."""
        return TlsCredentials(TlsFiles(str(self.directory / "ca.crt")), OsClock())
