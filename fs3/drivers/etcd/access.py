"""How an etcd cluster is reached: in plain text or by TLS, as a user or without one.

Nothing here imports gRPC.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code

password_bytes_max = 1024


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """Files are named, and read when a connection is made: what is in them may be exchanged."""

    tls: bool = False
    """Members are known by the authorities this machine trusts."""
    ca: str = ""
    """PEM of the authority that members are known by; TLS."""
    cert: str = ""
    """PEM of the certificate that this process shows, and ..."""
    key: str = ""
    """... of its key; TLS."""
    user: str = ""
    """Of etcd's own authentication."""
    password_file: str = ""
    """The first line is the user's password."""

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise error(Code.INVALID, "cert and key belong together: one of them is missing")
        if bool(self.user) != bool(self.password_file):
            raise error(Code.INVALID, "user and password_file belong together: one of them is missing")

    @property
    def is_encrypted(self) -> bool:
        """Nothing is sent in plain text."""
        return self.tls or bool(self.ca or self.cert)

    def read_certificates(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """(authority, key, certificate), None where none is named. FS3Error CONFIG naming a file that cannot be read."""
        ca, key, cert = (_read(path) if path else None for path in (self.ca, self.key, self.cert))
        return ca, key, cert

    def read_password(self) -> str:
        """FS3Error CONFIG naming a file that cannot be read, or has no password."""
        lines = _read(self.password_file).splitlines()
        password = lines[0].decode("utf-8", "replace").strip() if lines else ""
        if not 0 < len(password.encode()) <= password_bytes_max:
            raise error(Code.CONFIG, f"its first line is not a password of 1 to {password_bytes_max} bytes", self.password_file)
        return password

    def parameters(self) -> dict[str, str]:
        """What differs from the default, but for `tls`."""
        return {name: value for name in PARAMETERS if (value := getattr(self, name))}


PARAMETERS = tuple(each.name for each in fields(EtcdAccess) if each.name != "tls")
PLAIN = EtcdAccess()


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as why:
        raise _unreadable(path, why) from why


def _unreadable(path: str, why: OSError) -> FS3Error:
    return error(Code.CONFIG, f"it cannot be read: {why.strerror}", path)
